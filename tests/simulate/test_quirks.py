"""Simulated providers write their answers in the odd shapes of real ones, on request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from tests.support.simulated_providers import HELLO, WEATHER, SimulatedProviders, events, simulating

from assay.simulate.answers import answer_request
from assay.simulate.behavior import ProviderBehavior, ToolCallErrorShares
from assay.simulate.quirks import Quirk

STREAMED_CALLS = (Quirk.REUSED_INDEX, Quirk.MISSING_INDEX, Quirk.SPLIT_NAMES, Quirk.MISSING_IDS)


def chunks(*quirks: Quirk, **fields: Any) -> list[Any]:
    """Return the chunks of an answer with two calls; the same calls in every test."""
    body = {"messages": [HELLO], "tools": [WEATHER], "stream": True, **fields}
    behavior = ProviderBehavior(parallel=1.0, quirks=quirks)
    return events(b"".join(answer_request(body, behavior, Random(7), 0).parts))


def deltas(*quirks: Quirk) -> list[Any]:
    choices = [choice for chunk in chunks(*quirks) for choice in chunk["choices"]]
    return [piece for choice in choices for piece in choice["delta"].get("tool_calls", ())]


def whole(*quirks: Quirk) -> Any:
    """Return the one choice of the same answer as JSON."""
    body = {"messages": [HELLO], "tools": [WEATHER]}
    behavior = ProviderBehavior(parallel=1.0, quirks=quirks)
    [answer] = answer_request(body, behavior, Random(7), 0).parts
    return json.loads(answer)["choices"][0]


PLAIN = [call["function"] for call in whole()["message"]["tool_calls"]]


def test_without_quirks_each_call_has_an_index_an_id_and_one_name() -> None:
    opening = [piece for piece in deltas() if "id" in piece]

    assert [piece["index"] for piece in opening] == [0, 1]
    assert [piece["function"]["name"] for piece in opening] == ["weather", "weather"]
    assert {piece["index"] for piece in deltas()} == {0, 1}


def test_a_reused_index_is_zero_for_both_calls() -> None:
    pieces = deltas(Quirk.REUSED_INDEX)

    assert {piece["index"] for piece in pieces} == {0}
    assert len({piece["id"] for piece in pieces if "id" in piece}) == 2


def test_an_index_can_be_missing() -> None:
    assert not any("index" in piece for piece in deltas(Quirk.MISSING_INDEX))


def test_ids_can_be_missing_in_both_forms() -> None:
    assert not any("id" in piece for piece in deltas(Quirk.MISSING_IDS))
    assert not any("id" in call for call in whole(Quirk.MISSING_IDS)["message"]["tool_calls"])


def test_a_streamed_name_can_come_in_two_pieces() -> None:
    functions = [piece["function"] for piece in deltas(Quirk.SPLIT_NAMES)]

    assert [each["name"] for each in functions if "name" in each] == ["weat", "her"] * 2


def test_arguments_can_be_objects_in_both_forms() -> None:
    parsed = [json.loads(function["arguments"]) for function in PLAIN]
    calls = whole(Quirk.OBJECT_ARGUMENTS)["message"]["tool_calls"]

    assert [piece["function"]["arguments"] for piece in deltas(Quirk.OBJECT_ARGUMENTS)] == parsed
    assert [call["function"]["arguments"] for call in calls] == parsed


def test_invalid_arguments_stay_text() -> None:
    body = {"messages": [HELLO], "tools": [WEATHER]}
    quirks = (Quirk.OBJECT_ARGUMENTS,)
    errors = ToolCallErrorShares(invalid_json=1.0, unknown_name=0.0, schema_mismatch=0.0)
    behavior = ProviderBehavior(accuracy=0.0, quirks=quirks, errors=errors)
    [answer] = answer_request(body, behavior, Random(7), 0).parts
    [call] = json.loads(answer)["choices"][0]["message"]["tool_calls"]

    assert isinstance(call["function"]["arguments"], str)


def test_calls_can_end_with_stop_in_both_forms() -> None:
    assert whole(Quirk.STOP_AFTER_CALLS)["finish_reason"] == "stop"
    assert chunks(Quirk.STOP_AFTER_CALLS)[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("fields", [{}, {"stream_options": {"include_usage": False}}])
def test_usage_can_come_unasked(fields: dict[str, Any]) -> None:
    last = chunks(Quirk.USAGE_UNASKED, **fields)[-1]

    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("quirks", [(quirk,) for quirk in Quirk] + [tuple(Quirk), STREAMED_CALLS])
def test_the_content_stays_the_same(quirks: tuple[Quirk, ...]) -> None:
    functions = [piece["function"] for piece in deltas(*quirks)]
    names = "".join(function.get("name", "") for function in functions)
    arguments = "".join(_text(function.get("arguments", "")) for function in functions)

    assert names == "".join(function["name"] for function in PLAIN)
    assert arguments == "".join(function["arguments"] for function in PLAIN)


def _text(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, separators=(",", ":"))


@pytest.fixture(scope="module")
def stage() -> Iterator[SimulatedProviders]:
    with simulating("--seed", 7) as simulated:
        yield simulated


def test_quirks_belong_to_one_provider_and_can_be_changed(stage: SimulatedProviders) -> None:
    stage.play("odd", quirks=["usage_unasked", "stop_after_calls"])
    odd = events(stage.complete("odd", stream=True, tools=[WEATHER])[1])
    plain = events(stage.complete("plain", stream=True, tools=[WEATHER])[1])
    stage.play("odd", quirks=[])
    straight = events(stage.complete("odd", stream=True, tools=[WEATHER])[1])

    assert odd[-2]["choices"][0]["finish_reason"] == "stop"
    assert "usage" in odd[-1]
    for chunks_ in (plain, straight):
        assert chunks_[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_unknown_quirk_is_rejected_by_name(stage: SimulatedProviders) -> None:
    status, body = stage.ask("PATCH", "/control/providers/odd", {"quirks": ["upside_down"]})

    assert status == 400
    assert "upside_down" in json.loads(body)["error"]["message"]
