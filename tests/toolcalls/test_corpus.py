"""The checker on labeled requests, a test suite and schemas outside the repository."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.toolcalls import CallClass, OfferedTools, check
from assay.toolcalls.call_check import CompiledSchema, compile_schema, schema_key

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "toolcalls"
SUITE = DATA / "json_schema_test_suite_draft7"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the shared data set is missing")

DISAGREEMENTS: dict[str, str] = {}
"""Requests with another label, each with the reason.

There are none: 103 requests whose schemas name the types dict, float, any, long or String agree,
since such types match nothing.
"""


def schema(parameters: object) -> CompiledSchema:
    return compile_schema(schema_key(parameters))


def corpus() -> Iterator[dict[str, Any]]:
    with gzip.open(DATA / "toolcall_validation_corpus.jsonl.gz") as lines:
        yield from map(json.loads, lines)


def test_all_labeled_requests_agree_except_known_ones() -> None:
    differ = {}
    rows = list(corpus())
    for row in rows:
        calls = [{"type": "function", "function": call} for call in row["tool_calls"]]
        checked = check(row["tools"], calls, accepts_blank=False)
        assert check(OfferedTools(row["tools"]), calls, accepts_blank=False) == checked
        if (list(checked.calls), checked.errored) != (
            row["expected_calls"],
            row["expected_request_errored"],
        ):
            differ[row["id"]] = checked
    assert len(rows) == 1605
    assert differ.keys() == DISAGREEMENTS.keys()


def test_every_schema_of_the_labeled_requests_compiles() -> None:
    parameters = [tool["function"]["parameters"] for row in corpus() for tool in row["tools"]]
    assert len(parameters) == 5209
    assert min(schema(each).longest for each in parameters) > 50_000


@pytest.mark.parametrize("name", sorted(path.stem for path in SUITE.glob("*.json")))
def test_every_mandatory_case_of_draft_7_passes(name: str) -> None:
    groups = json.loads((SUITE / f"{name}.json").read_text("utf-8"))
    failed = [
        (group["description"], case["description"])
        for group in groups
        for case in group["tests"]
        if verdict(group["schema"], case["data"])
        is not (CallClass.VALID if case["valid"] else CallClass.SCHEMA_MISMATCH)
    ]
    assert not failed
    assert all(schema(group["schema"]).longest > 1000 for group in groups)


def verdict(parameters: object, data: object) -> CallClass:
    tools = [{"function": {"name": "t", "parameters": parameters}}]
    (found,) = check(tools, [{"function": {"name": "t", "arguments": json.dumps(data)}}]).calls
    return found


def test_the_draft_7_suite_has_all_its_files() -> None:
    assert len(list(SUITE.glob("*.json"))) == 36


def test_every_schema_that_walle_accepts_compiles() -> None:
    lines = (DATA / "walle_schemas_valid.jsonl").read_text("utf-8").splitlines()
    rejected = [
        text
        for line in lines
        if schema(json.loads(text := json.loads(line)["schema_text"])).longest < 0
    ]
    assert len(lines) == 213
    assert not rejected
