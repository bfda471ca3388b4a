"""Answers of simulated providers: when tools are called, and how calls are bad."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import jsonschema_rs
import pytest
from tests.support.simulated_providers import HELLO, WEATHER

from assay.simulate.answers import SimulatedCall, choose_calls
from assay.simulate.behavior import ProviderBehavior, ToolCallErrorShares

REQUESTS = 4000
SCHEMA = jsonschema_rs.Draft7Validator(dict(WEATHER["function"]["parameters"]))


def called(behavior: ProviderBehavior, **fields: Any) -> list[tuple[SimulatedCall, ...]]:
    body = {"messages": [HELLO], "tools": [WEATHER], **fields}
    draw = Random(7)
    return [choose_calls(body, behavior, draw) for _ in range(REQUESTS)]


def verdict(call: SimulatedCall) -> str:
    """Classify a call in the order of Assay's checker: name, JSON, schema."""
    if call.name != "weather":
        return "unknown_name"
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return "invalid_json"
    return "good" if SCHEMA.is_valid(arguments) else "schema_mismatch"


def test_calls_are_good_bad_and_missing_in_the_configured_shares() -> None:
    answers = called(ProviderBehavior(accuracy=0.9, propensity=0.5, parallel=0.25))
    calls = [call for answer in answers for call in answer]
    found = Counter(map(verdict, calls))

    assert sum(map(bool, answers)) / REQUESTS == pytest.approx(0.5, abs=0.03)
    assert sum(len(answer) == 2 for answer in answers) / sum(map(bool, answers)) == pytest.approx(
        0.25, abs=0.03
    )
    assert found["good"] / len(calls) == pytest.approx(0.9, abs=0.02)
    assert all(
        found[kind] / len(calls) == pytest.approx(0.1 / 3, abs=0.015)
        for kind in ToolCallErrorShares.__struct_fields__
    )
    assert len({call.call_id for call in calls}) == len(calls)


@pytest.mark.parametrize("kind", ToolCallErrorShares.__struct_fields__)
def test_errors_can_be_of_one_kind_only(kind: str) -> None:
    errors = ToolCallErrorShares(
        **{name: float(name == kind) for name in ToolCallErrorShares.__struct_fields__}
    )

    assert {
        verdict(call)
        for answer in called(ProviderBehavior(accuracy=0, errors=errors))
        for call in answer
    } == {kind}


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        pytest.param({}, True, id="by itself"),
        pytest.param({"tools": []}, False, id="no tools"),
        pytest.param(
            {"tools": [{"type": "web_search"}, "odd"]}, False, id="no functions among the tools"
        ),
        pytest.param({"tool_choice": "none"}, False, id="none may be called"),
        pytest.param(
            {"messages": [HELLO, {"role": "tool", "content": "rain"}]}, False, id="after a result"
        ),
        pytest.param(
            {"messages": [{"role": "tool", "content": "rain"}], "tool_choice": "required"},
            True,
            id="required to",
        ),
    ],
)
def test_a_tool_is_called_when_the_request_allows_it(fields: dict[str, Any], calls: object) -> None:
    assert {bool(answer) for answer in called(ProviderBehavior(), **fields)} == {calls}


def test_the_named_tool_is_called_whatever_the_propensity() -> None:
    tools = [WEATHER, {"type": "function", "function": {"name": "time"}}]
    choice = {"type": "function", "function": {"name": "time"}}

    answers = called(ProviderBehavior(propensity=0), tools=tools, tool_choice=choice)

    assert {call.name for answer in answers for call in answer} == {"time"}
