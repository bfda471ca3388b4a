"""The third act of the demo: a conversation through the forwarder while a provider goes bad."""

from __future__ import annotations

import pytest

from assay.demo.comparison import EXACTO, PLAIN, rate_ratio
from assay.demo.forwarding import PROVIDERS, WORSENING, Conversation, run_conversation


@pytest.fixture(scope="module")
def seen() -> Conversation:
    return run_conversation()


def test_ordinary_requests_earn_a_place(seen: Conversation) -> None:
    assert dict(seen.before) == dict.fromkeys(PROVIDERS, "member")


def test_only_the_endpoint_that_goes_bad_is_evicted(seen: Conversation) -> None:
    assert dict(seen.after) == {**dict.fromkeys(PROVIDERS, "member"), WORSENING: "evicted"}
    assert 1 <= seen.hours <= 2


def test_the_conversation_goes_on_without_it(seen: Conversation) -> None:
    for turn in (seen.first, seen.second):
        assert set(turn.providers) <= set(PROVIDERS)
        assert turn.call.startswith("weather(")
        assert turn.answer
    assert WORSENING not in seen.second.providers


def test_agents_get_fewer_errors_from_the_pool_than_without_it(seen: Conversation) -> None:
    plain, exacto = seen.arms[PLAIN.name], seen.arms[EXACTO.name]

    assert not any(figures.unanswered for figures in seen.arms.values())
    assert plain.errors.errored > 0
    assert exacto.errors.errored == 0
    assert rate_ratio(plain.errors, exacto.errors).low > 1
