"""Arguments generated from a schema match it, or violate it on request."""

from __future__ import annotations

from random import Random
from typing import Any

import jsonschema_rs
import pytest

from assay.simulate.arguments import mismatched_arguments, valid_arguments

SCHEMAS = [
    pytest.param({"type": "object"}, id="anything in an object"),
    pytest.param(
        {"type": "object", "properties": {"a": {"type": "string"}}}, id="nothing required"
    ),
    pytest.param(
        {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "object"}}},
        id="containers of anything",
    ),
    pytest.param(
        {"properties": {"a": {"type": "integer"}}, "required": ["a", "b"]},
        id="required without a property",
    ),
    pytest.param(
        {
            "type": "object",
            "properties": {
                "a": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "multipleOf": 0.25}
            },
            "required": ["a"],
        },
        id="a narrow number",
    ),
    pytest.param(
        {
            "type": "object",
            "properties": {"a": {"type": "integer", "minimum": -3, "exclusiveMaximum": -1}},
        },
        id="a whole number below zero",
    ),
    pytest.param(
        {"type": "object", "properties": {"a": {"maximum": 5, "type": "number"}}},
        id="only from above",
    ),
    pytest.param(
        {
            "type": "object",
            "properties": {
                "when": {"type": "string", "format": "date"},
                "code": {"type": "string", "minLength": 12, "maxLength": 12},
                "kind": {"enum": ["x", 7, None]},
                "always": {"const": {"a": 1}},
            },
            "required": ["when", "code", "kind", "always"],
            "additionalProperties": False,
        },
        id="formats, lengths, enumerations",
    ),
    pytest.param(
        {
            "type": "object",
            "properties": {
                "tags": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "maxItems": 2,
                },
                "pair": {
                    "type": "array",
                    "items": [{"type": "string"}, {"type": "integer"}],
                    "minItems": 2,
                },
                "maybe": {"type": ["string", "null"]},
                "nothing": {"type": "null"},
            },
            "required": ["tags", "pair", "maybe", "nothing"],
        },
        id="arrays and nulls",
    ),
    pytest.param(
        {
            "type": "object",
            "properties": {
                "place": {"$ref": "#/definitions/place"},
                "tree": {"$ref": "#/definitions/tree"},
            },
            "required": ["place"],
            "definitions": {
                "place": {"anyOf": [{"type": "string"}, {"$ref": "#/definitions/point"}]},
                "point": {
                    "type": "object",
                    "properties": {"x": {"type": "number"}},
                    "required": ["x"],
                },
                "tree": {"type": "object", "properties": {"left": {"$ref": "#/definitions/tree"}}},
            },
        },
        id="references, also to itself",
    ),
    pytest.param(
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
            ]
        },
        id="a union",
    ),
    pytest.param(
        {"type": "object", "minProperties": 2, "properties": {"a": {}, "b": {}, "c": {}}},
        id="at least two",
    ),
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_arguments_match_or_violate_the_schema(schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.Draft7Validator(schema)

    for seed in range(200):
        good, bad = (
            valid_arguments(schema, Random(seed)),
            mismatched_arguments(schema, Random(seed)),
        )

        assert isinstance(good, dict)
        assert validator.is_valid(good), good
        assert not validator.is_valid(bad), bad


@pytest.mark.parametrize("schema", [None, {}, True, "odd", {"description": "no rule"}])
def test_a_tool_without_a_schema_has_no_mismatched_arguments(schema: object) -> None:
    assert isinstance(valid_arguments(schema, Random(0)), dict)
    assert mismatched_arguments(schema, Random(0)) is None


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(
            {"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/a"}}},
            id="a circle",
        ),
        pytest.param(
            {"properties": {"a": {"$ref": "https://example.com/a"}}, "required": ["a"]},
            id="far away",
        ),
        pytest.param(
            {"properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}},
            id="impossible bounds",
        ),
        pytest.param({"type": "object", "required": ["a"] * 1000}, id="one name a thousand times"),
    ],
)
def test_an_odd_schema_still_gets_arguments(schema: object) -> None:
    assert isinstance(valid_arguments(schema, Random(0)), dict)
