"""Hostile schemas and arguments: each call is classified, without a stall, crash or connection."""

from __future__ import annotations

import inspect
import json
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from assay.toolcalls import CallClass, check
from assay.toolcalls.call_check import compile_schema, schema_key

VALID, INVALID, UNKNOWN, MISMATCH = CallClass

Schema = dict[str, Any]


def verdict(parameters: object, arguments: object) -> CallClass:
    tools = [{"function": {"name": "t", "parameters": parameters}}]
    (found,) = check(tools, [{"function": {"name": "t", "arguments": arguments}}]).calls
    return found


def judged(parameters: object) -> bool:
    return compile_schema(schema_key(parameters)).longest >= 0


def nested(levels: int, wrap: Callable[[Any], Any], inmost: Any) -> Any:
    for _ in range(levels):
        inmost = wrap(inmost)
    return inmost


def chain(links: int, word: str, last: Schema) -> dict[str, Schema]:
    """Return definitions, each of which refers to the next one twice."""
    ends = {f"d{i}": {word: [{"$ref": f"#/definitions/d{i + 1}"}] * 2} for i in range(links)}
    return {**ends, f"d{links}": last}


def clique(size: int, word: str) -> dict[str, Schema]:
    """Return definitions, each of which refers to all."""
    return {
        f"d{i}": {word: {"allOf": [{"$ref": f"#/definitions/d{j}"} for j in range(size)]}}
        for i in range(size)
    }


ROOT = {"$ref": "#/definitions/d0"}
NULL: Schema = {"type": "null"}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(
            {"properties": {f"p{i}": {**NULL, "title": "x" * 60} for i in range(120_000)}},
            id="10 MB",
        ),
        pytest.param({"enum": ["x" * 70_000]}, id="70,000 bytes in one value"),
        pytest.param(
            nested(60, lambda s: {"properties": {"a": s}}, {"type": "object"}), id="121 levels"
        ),
        pytest.param(nested(5000, lambda s: {"not": s}, {}), id="5,000 levels"),
        pytest.param(nested(40, lambda s: {"not": s}, {}), id="40 negations of one value"),
        pytest.param(
            {"allOf": [{"minimum": i} for i in range(5000)]}, id="5,000 schemas for one value"
        ),
        pytest.param(
            {**ROOT, "definitions": chain(40, "allOf", NULL)}, id="2^40 ways to one schema"
        ),
        pytest.param({**ROOT, "definitions": chain(40, "anyOf", NULL)}, id="2^40 ways to fail"),
        pytest.param(
            {"items": ROOT, "definitions": chain(30, "oneOf", {"items": ROOT})},
            id="2^30 ways at every level",
        ),
        pytest.param(
            {"definitions": chain(40, "allOf", NULL), "x": {"y": ROOT}, "$ref": "#/x/y"},
            id="2^40 ways through a detour",
        ),
        pytest.param(
            {
                "$id": "http://a/",
                "allOf": [{"$ref": "d0"}],
                "definitions": {
                    f"d{i}": {
                        "$id": f"d{i}",
                        "allOf": [{"$ref": f"d{i + 1}"}, {"$ref": f"d{i + 1}"}],
                    }
                    for i in range(40)
                }
                | {"d40": {"$id": "d40", **NULL}},
            },
            id="2^40 ways by names",
        ),
        pytest.param(
            {
                "allOf": [{"$ref": "#d0"}],
                "definitions": {
                    f"d{i}": {
                        "$id": f"#d{i}",
                        "allOf": [{"$ref": f"#d{i + 1}"}, {"$ref": f"#d{i + 1}"}],
                    }
                    for i in range(40)
                }
                | {"d40": {"$id": "#d40", **NULL}},
            },
            id="2^40 ways by anchors",
        ),
        pytest.param({"allOf": [{"$ref": "#"}, NULL]}, id="a cycle"),
        pytest.param({"not": {"$ref": "#"}}, id="a contradiction"),
        pytest.param(
            {"dependencies": {"a": {"$ref": "#"}}, **NULL}, id="a cycle through dependencies"
        ),
        pytest.param({**ROOT, "definitions": clique(8, "not")}, id="cycles everywhere"),
        pytest.param(
            {
                **ROOT,
                "definitions": {f"d{i}": {"$ref": f"#/definitions/d{i + 1}"} for i in range(900)},
            },
            id="a long chain",
        ),
        pytest.param({"pattern": "(a{1000}){1000}"}, id="a pattern of a million states"),
        pytest.param(
            {"pattern": "((((a{90}){90}){90}){90}){90}"}, id="a pattern of billions of states"
        ),
        pytest.param(
            {"allOf": [{"pattern": f"a{{900}}{i}"} for i in range(50)]}, id="many large patterns"
        ),
        pytest.param(
            {"allOf": [{"pattern": f"\\p{{L}}{{90}}{i}"} for i in range(50)]},
            id="many patterns of classes",
        ),
        pytest.param(
            {"enum": [{"patternProperties": {"a{900}" * 20: {}}}], "$ref": "#/enum/0"},
            id="data as a schema",
        ),
        pytest.param({"$ref": "#/const", "const": {"allOf": [NULL]}}, id="a constant as a schema"),
    ],
)
def test_a_schema_that_costs_too_much_makes_every_call_valid(schema: Schema) -> None:
    assert not judged(schema)
    assert verdict(schema, '{"a": 1}') is VALID
    assert verdict(schema, '{"a": 1') is INVALID


@pytest.mark.parametrize(
    ("schema", "arguments", "expected"),
    [
        pytest.param(
            {"pattern": "^(a+)+$"},
            "a" * 50_000 + "b",
            MISMATCH,
            id="a pattern that backtracks elsewhere",
        ),
        pytest.param(
            {"pattern": "(.*)(.*)(.*)(.*)x$"},
            "a" * 100_000,
            MISMATCH,
            id="a pattern that backtracks more elsewhere",
        ),
        pytest.param({"pattern": "^(a|aa)+$"}, "a" * 100_000, VALID, id="an ambiguous pattern"),
        pytest.param(
            {"patternProperties": {"^(a+)+$": NULL}},
            {"a" * 5000 + "b": 1},
            VALID,
            id="a pattern for names",
        ),
        pytest.param(
            {"items": {"$ref": "#"}, "type": "array"},
            nested(100, lambda s: [s], []),
            VALID,
            id="100 levels",
        ),
        pytest.param(
            {"items": ROOT, "definitions": clique(4, "items")},
            [[[[[[]]]]]],
            VALID,
            id="many ways down",
        ),
        pytest.param(
            {
                "allOf": [
                    {"properties": {"a": {"$ref": "#"}}},
                    {"properties": {"a": {"$ref": "#"}}},
                ],
                "type": "object",
            },
            nested(100, lambda s: {"a": s}, {}),
            VALID,
            id="two ways down at every level",
        ),
        pytest.param(
            {"uniqueItems": True},
            [[i] for i in range(50_000)],
            VALID,
            id="50,000 items to tell apart",
        ),
        pytest.param(
            {"uniqueItems": True},
            [{"a": i // 2} for i in range(50_000)],
            MISMATCH,
            id="50,000 items, two of them equal",
        ),
        pytest.param({"multipleOf": 1e-300}, 1e300, VALID, id="a multiple of a tiny number"),
        pytest.param({"type": "integer"}, int("9" * 4000), VALID, id="an integer of 4,000 digits"),
        pytest.param(
            {"items": {"enum": list(range(99))}},
            [-1] * 20_000,
            MISMATCH,
            id="many values to compare with",
        ),
        pytest.param(
            {"items": {"required": [f"p{i}" for i in range(60)]}},
            [{}] * 50_000,
            MISMATCH,
            id="a long list",
        ),
        pytest.param({"format": "hostname"}, "xn--" * 50_000, MISMATCH, id="a long name of a host"),
    ],
)
def test_a_valid_schema_checks_costly_arguments(
    schema: Schema, arguments: object, expected: CallClass
) -> None:
    assert judged(schema)
    assert verdict(schema, json.dumps(arguments)) is expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param('"' + "a" * (2**20 - 2) + '"', MISMATCH, id="the longest text"),
        pytest.param('"' + "a" * (2**20 - 1) + '"', INVALID, id="one character too long"),
        pytest.param("[" * 128 + "]" * 128, MISMATCH, id="the deepest nesting"),
        pytest.param("[" * 129 + "]" * 129, INVALID, id="one level too deep"),
        pytest.param('{"a":' * 129 + "1" + "}" * 129, INVALID, id="one level too deep, in objects"),
        pytest.param("[" * 100_000, INVALID, id="never closed"),
        pytest.param("[" * 500_000 + "]" * 500_000, INVALID, id="500,000 levels"),
        pytest.param('"' + "[" * 300 + '"', MISMATCH, id="brackets in text"),
        pytest.param("[" + "[]," * 300 + "[]]", MISMATCH, id="many adjacent brackets"),
        pytest.param("[" + "1e300," * 100_000 + "1]", MISMATCH, id="large numbers"),
        pytest.param('"' + "\\ud800" * 100_000 + '"', MISMATCH, id="halves of surrogate pairs"),
        pytest.param("9" * 1_000_000, MISMATCH, id="a million digits"),
        pytest.param('{"a":' * 60 + "1" + "}" * 60 + "x", INVALID, id="nested, invalid JSON"),
        pytest.param(
            nested(100_000, lambda s: {"a": s}, {}), INVALID, id="100,000 levels of parsed values"
        ),
    ],
)
def test_arguments_beyond_a_limit_are_invalid_json(arguments: object, expected: CallClass) -> None:
    assert verdict({"type": "object"}, arguments) is expected


def test_arguments_too_long_for_a_costly_schema_are_valid_without_a_check() -> None:
    heavy = {"items": {"allOf": [{"maximum": i} for i in range(1000)]}}
    longest = compile_schema(schema_key(heavy)).longest
    assert verdict(heavy, json.dumps([7] * 100)) is MISMATCH
    assert verdict(heavy, "[7]" + " " * (longest - 3)) is MISMATCH
    assert verdict(heavy, "[7]" + " " * (longest - 2)) is VALID


def test_values_that_contain_themselves_are_not_json() -> None:
    circle: dict[str, Any] = {}
    circle["a"] = circle
    assert verdict({"type": "object"}, circle) is INVALID
    assert verdict(circle, "7") is VALID


@pytest.mark.parametrize(
    "where", ["http://127.0.0.1:{port}/s.json", "//127.0.0.1:{port}/s.json", "s.json"]
)
@pytest.mark.parametrize("word", ["$ref", "$schema", "$id"])
def test_a_schema_opens_no_connection(where: str, word: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        inner = {word: where.format(port=port)} | ({"$ref": "other.json"} if word == "$id" else {})
        schema = {"$id": f"http://127.0.0.1:{port}/", "properties": {"a": inner, "b": NULL}}
        verdicts = {verdict(schema, text) for text in ('{"a": 1, "b": 1}', '{"b": 1}')}
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert verdicts == {MISMATCH if word == "$schema" else VALID}


def test_a_schema_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("false", "utf-8")
    assert verdict({"$ref": (tmp_path / "s.json").as_uri()}, "7") is VALID
    assert verdict({"$ref": str(tmp_path / "s.json")}, "7") is VALID


def test_the_metaschema_of_draft_7_resolves_without_a_network() -> None:
    own = {"properties": {"schema": {"$ref": "http://json-schema.org/draft-07/schema#"}}}
    assert verdict(own, '{"schema": {"type": "object"}}') is VALID
    assert verdict(own, '{"schema": {"type": 7}}') is MISMATCH


WRAPS: dict[str, Callable[[Schema], Schema]] = {
    "not": lambda s: {"not": s},
    "anyOf": lambda s: {"anyOf": [NULL, s]},
    "oneOf": lambda s: {"oneOf": [NULL, s]},
    "if": lambda s: {"if": s, "then": True, "else": False},
    "allOf": lambda s: {"allOf": [s, {"minItems": 0}]},
}


@pytest.mark.parametrize("word", WRAPS)
def test_the_deepest_schemas_and_arguments_fit_a_small_stack(word: str) -> None:
    def deepest() -> None:
        schema = nested(30, WRAPS[word], {"items": {"$ref": "#"}})
        assert judged(schema)
        found.append(verdict(schema, "[" * 128 + "]" * 128))

    found: list[CallClass] = []
    before = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=deepest)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert len(found) == 1


def test_a_schema_that_failed_on_a_full_stack_is_compiled_later() -> None:
    unjudged = []
    for room in range(20, 200):
        schema = nested(20, lambda s: {"items": s}, {"const": room})
        depth = sys.getrecursionlimit() - len(inspect.stack(0)) - room
        try:
            if descended(depth, partial(verdict, schema, "[" * 20 + "0" + "]" * 20)) is VALID:
                unjudged.append(schema)
        except RecursionError:
            continue
    assert unjudged
    assert all(map(judged, unjudged))


def descended(depth: int, act: Callable[[], CallClass]) -> CallClass:
    return descended(depth - 1, act) if depth else act()
