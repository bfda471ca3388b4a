"""The tool-call checker against a baseline: JSON parsing and a compiled schema."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from tests.bench.ledger import Ledger
from tests.bench.measure import compared, measured

from assay.toolcalls import OfferedTools, check
from assay.toolcalls.call_check import compile_schema, schema_key

CORPUS = (
    Path(__file__).resolve().parents[3]
    / "shared/data/toolcalls/toolcall_validation_corpus.jsonl.gz"
)

Schema = dict[str, Any]
Valid = Callable[[Any], bool]
Request = tuple[Any, list[Any]]


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    if not CORPUS.exists():
        pytest.skip("the shared data set is missing")
    with gzip.open(CORPUS) as lines:
        rows = [orjson.loads(line) for line in lines]
    return [
        (row["tools"], [{"type": "function", "function": call} for call in row["tool_calls"]])
        for row in rows
    ]


def bare(schema: Schema) -> Valid | None:
    """Compile a schema as fast as possible; None for unknown types, whose 120 calls are parsed."""
    try:
        return jsonschema_rs.Draft7Validator(
            schema, pattern_options=jsonschema_rs.RegexOptions()
        ).is_valid
    except ValueError:
        return None


def baseline(requests: Iterable[Request]) -> Callable[[], None]:
    """Return the baseline: every schema is compiled beforehand, and nothing is looked up."""
    calls: list[tuple[str, Valid | None]] = []
    for tools, tool_calls in requests:
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
        for function in (call["function"] for call in tool_calls):
            schema = schemas.get(function["name"])
            calls.append((function["arguments"], None if schema is None else bare(schema)))

    def check_calls() -> None:
        for text, valid in calls:
            try:
                value = orjson.loads(text)
            except ValueError:
                continue
            if valid is not None:
                valid(value)

    return check_calls


def check_all(requests: Iterable[Request]) -> None:
    for tools, tool_calls in requests:
        check(tools, tool_calls)


def test_a_check_with_prepared_tools_takes_at_most_twice_the_baseline(
    requests: list[Request], ledger: Ledger
) -> None:
    prepared = [(OfferedTools(tools), tool_calls) for tools, tool_calls in requests]
    found = compared(partial(check_all, prepared), baseline(requests), calls=3)
    ledger.slower(
        "tool calls of 1,605 requests, OfferedTools reused, against orjson.loads + is_valid",
        found,
        at_most=2,
    )


def test_a_check_that_compiles_its_tools_first(requests: list[Request], ledger: Ledger) -> None:
    found = compared(partial(check_all, requests), baseline(requests), calls=3)
    ledger.slower("tool calls of 1,605 requests, tools as values, against the same", found)


def chain(links: int, last: Schema) -> dict[str, Schema]:
    ends = {f"d{i}": {"allOf": [{"$ref": f"#/definitions/d{i + 1}"}] * 2} for i in range(links)}
    return {**ends, f"d{links}": last}


ROOT = {"$ref": "#/definitions/d0"}

HOSTILE: dict[str, tuple[Schema, str]] = {
    "many schemas for one value": (
        {"items": {"allOf": [{"maximum": 9 + i} for i in range(100)]}},
        "1",
    ),
    "many lists to compare with": (
        {"items": {"oneOf": [{"enum": [[i]]} for i in range(30)]}},
        "[1]",
    ),
    "many names to look for": ({"items": {"required": [f"p{i}" for i in range(60)]}}, "{}"),
    "many patterns for names": (
        {"items": {"patternProperties": {f"x{i}": {} for i in range(50)}}},
        '{"a":1}',
    ),
    "a pattern of 1,000 states": (
        {"items": {"pattern": "[ab]*a[ab]{500}c"}},
        '"' + "abbab" * 9_999 + '"',
    ),
    "multiples of a tiny number": ({"items": {"multipleOf": 1e-300}}, "1e300"),
    "items that must be unique": ({"items": {"uniqueItems": True}}, "[1,2,3,[4],{}]"),
    "2^12 ways to one schema": ({"items": ROOT, "definitions": chain(12, {"minItems": 0})}, "{}"),
    "2^5 ways at every level": (
        {"items": ROOT, "definitions": chain(5, {"items": ROOT})},
        "[[[[]]]]",
    ),
    "dates": ({"items": {"format": "date-time"}}, '"2024-01-01 10:00:00Z"'),
}


def longest(schema: Schema, item: str) -> str:
    """Return a list of the greatest length that is still checked."""
    room = min(compile_schema(schema_key(schema)).longest, 1 << 20) - 2
    return "[" + ",".join([item] * max(1, room // (len(item) + 1))) + "]"


def test_every_hostile_tool_call_is_checked_in_less_than_two_seconds(ledger: Ledger) -> None:
    cases = {name: (schema, longest(schema, item)) for name, (schema, item) in HOSTILE.items()}
    cases["10 MB of schema"] = (
        {"properties": {f"p{i}": {"title": "x" * 60} for i in range(120_000)}},
        "{}",
    )
    cases["halves of surrogate pairs"] = ({"type": "string"}, '"' + "\\ud800" * 170_000 + '"')
    cases["integers to round"] = ({"items": {"maximum": 2**53}}, json.dumps([2**53 + 1] * 58_000))
    times = {
        name: measured(
            partial(
                check,
                [{"function": {"name": "t", "parameters": schema}}],
                [{"function": {"name": "t", "arguments": arguments}}],
            ),
            rounds=5,
        )
        for name, (schema, arguments) in cases.items()
    }
    for name, found in sorted(times.items(), key=lambda item: item[1].median)[-4:]:
        ledger.took(f"a hostile tool call: {name}", found, below=2.0)
