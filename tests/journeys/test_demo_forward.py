"""The demo's third act: a conversation through the forwarding layer, and a provider that goes bad meanwhile."""

from __future__ import annotations

import pytest

from assay.demo.forwarding import PROVIDERS, WORSENING, Conversation, run_conversation


@pytest.fixture(scope="module")
def seen() -> Conversation:
    return run_conversation()


def test_ordinary_requests_earn_a_place(seen: Conversation) -> None:
    assert dict(seen.before) == dict.fromkeys(PROVIDERS, "member")


def test_who_goes_bad_is_evicted_and_nobody_else(seen: Conversation) -> None:
    assert dict(seen.after) == {**dict.fromkeys(PROVIDERS, "member"), WORSENING: "evicted"}
    assert 1 <= seen.hours <= 2


def test_the_conversation_goes_on_without_it(seen: Conversation) -> None:
    for turn in (seen.first, seen.second):
        assert set(turn.providers) <= set(PROVIDERS)
        assert turn.call.startswith("weather(")
        assert turn.answer
    assert WORSENING not in seen.second.providers
