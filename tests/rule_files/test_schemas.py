"""The shipped schemas agree with the code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

from assay.engine.policy.verdict import POOL_REASONS, REQUEST_REASONS
from assay.engine.world.catalog import Endpoint, Model, Percentiles, PriceOverride, Prices
from assay.engine.world.measurements import Observation
from assay.engine.world.request import (
    CATALOG_VARIANTS,
    QUANTIZATIONS,
    SORTS,
    MaxPrice,
    ProviderPreferences,
    Request,
)
from assay.engine.world.world import Preference, TenantSettings
from assay.rule_files.schemas import KINDS, MESSAGES, load_schema

UNWRITTEN = {"EVAL_ERROR", "HELD_BY_MINIMUM"}  # only the engine gives them


def names(kind: type) -> set[str]:
    return {item.name for item in fields(kind)}


def definition(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = load_schema(kind)["$defs"][name]
    return found


@pytest.mark.parametrize(
    ("name", "reasons"), [("poolRule", POOL_REASONS), ("requestRule", REQUEST_REASONS)]
)
def test_schema_reasons_are_those_of_the_stage(name: str, reasons: tuple[str, ...]) -> None:
    written = definition("RuleSet", name)["properties"]["reason"]["enum"]
    assert written == [reason for reason in reasons if reason not in UNWRITTEN]


def test_a_test_may_expect_every_reason() -> None:
    assert set(definition("RuleSetTest", "reasons")["items"]["enum"]) == {
        *POOL_REASONS,
        *REQUEST_REASONS,
    }


def test_the_bindings_schema_knows_sorts_and_catalog_variants() -> None:
    binding = definition("Bindings", "binding")["properties"]
    assert tuple(binding["sort"]["enum"]) == SORTS
    assert tuple(binding["variant"]["not"]["enum"]) == CATALOG_VARIANTS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model", names(Model)),
        ("endpoint", names(Endpoint) - {"endpoint_id"}),
        ("prices", names(Prices)),
        ("percentiles", names(Percentiles)),
        ("preference", names(Preference)),
        ("tenant", names(TenantSettings)),
        ("provider", names(ProviderPreferences)),
        ("request", names(Request)),
        (
            "observation",
            names(Observation) - {"endpoint_id", "observed_from", "observed_to"}
            | {"endpoint", "from", "to"},
        ),
    ],
)
def test_the_fixture_schema_has_every_field(name: str, expected: set[str]) -> None:
    assert set(definition("RuleSetTest", name)["properties"]) == expected


def test_the_nested_fixture_schema_has_every_field() -> None:
    endpoint = definition("RuleSetTest", "endpoint")["properties"]
    assert set(endpoint["overrides"]["items"]["properties"]) == names(PriceOverride)
    assert tuple(endpoint["quantization"]["enum"]) == QUANTIZATIONS
    provider = definition("RuleSetTest", "provider")["properties"]
    assert set(provider["max_price"]["properties"]) == names(MaxPrice)


def test_a_case_has_all_keys_of_a_test_except_cases() -> None:
    test = definition("RuleSetTest", "test")["properties"]
    assert set(definition("RuleSetTest", "case")["properties"]) == set(test) - {"cases"}


CHECKS = {"pattern": "patternErrorMessage", "not": "errorMessage"}
SILENT = {
    "$schema", "$id", "$ref", "$defs", "title", "description", "default", "properties", "items",
    "additionalProperties", "patternProperties", *CHECKS.values(),
}  # fmt: skip


def keywords(part: object, *, named: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        for key, value in part.items():
            if not named:
                yield key, part
            if key not in {"enum", "const", "required"} or named:
                yield from keywords(
                    value, named=not named and key in {"properties", "$defs", "patternProperties"}
                )
    elif isinstance(part, list):
        for item in part:
            yield from keywords(item)


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_of_a_schema_has_a_message(kind: str) -> None:
    for keyword, part in keywords(load_schema(kind)):
        assert keyword in SILENT or keyword in MESSAGES or CHECKS.get(keyword) in part, (
            keyword,
            part,
        )
