"""Filters of decisions: which are valid, messages of invalid ones, and the SQL they become."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Dialect, create_engine, select, text as sql
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.schema import CreateTable
from tests.support.filter_rows import filter_row, matches

from assay.decision_log.decision_row import DerivedDecision
from assay.decision_log.filter import FILE, InvalidFilter, read_filter
from assay.decision_log.filter_sql import FIELDS, WORD_LIST, text_after_prefix
from assay.decision_log.tables import decision, finding_set_word
from assay.engine.errors import CallerError
from assay.rule_files.render import render_fault

DERIVED = DerivedDecision(
    decision_id="d1",
    decided_at=datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC),
    tenant="p1",
    request_id="r1",
    model="z-ai/glm-4.6",
    variant="exacto",
    tools=2,
    attempts=3,
    excluded=1,
    first_provider="novita",
    first_endpoint="novita/fp8",
    availability="available",
    policy_revision=7,
    snapshot_id="s1",
    engine_version="0.1.0",
    demoted=0,
    plan_ns=84_000,
    finding_set="f1",
    words={
        "attempted_provider": ("novita", "z-ai"),
        "excluded_provider": ("deepinfra",),
        "reason": ("tool_errors",),
    },
)
ROW = filter_row(DERIVED, {"p1": "acme"})
POSTGRESQL: Callable[[], Dialect] = psycopg.dialect
WORDS_ONLY = "list fields support in, size, exists and all only"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        pytest.param(
            'decision.variant == "exacto" && "deepinfra" in decision.excluded_providers',
            True,
            id="the documented example",
        ),
        pytest.param('decision.tenant == "acme"', True, id="the name of a tenant"),
        pytest.param('decision.tenant == "p1"', False, id="a pseudonym does not match"),
        pytest.param("decision.time_us == 1782907200250000", True, id="time in microseconds"),
        pytest.param(
            "decision.time_us >= 1782907200 * 1000000", True, id="arithmetic on constants"
        ),
        pytest.param("size(decision.attempted_providers) == 2", True, id="the number of words"),
        pytest.param(
            "size(decision.demoted_endpoints) == 0",
            True,
            id="a kind without words is an empty list",
        ),
        pytest.param(
            '["a", "z-ai"].exists(p, p in decision.attempted_providers)', True, id="any of several"
        ),
        pytest.param('decision.reasons.all(r, r == "tool_errors")', True, id="all reasons"),
        pytest.param(
            'decision.reasons.exists_one(r, r.startsWith("tool_"))', True, id="exactly one reason"
        ),
        pytest.param(
            "decision.first_provider in decision.excluded_providers",
            False,
            id="a field in a list field",
        ),
        pytest.param('decision.model.startsWith("Z-AI/")', False, id="case matters"),
        pytest.param('(decision.tools > 0 ? decision.model : "") != ""', True, id="a conditional"),
        pytest.param('"ab".matches("^a") && 7 / 2 == 3', True, id="any operation on constants"),
        pytest.param("has(decision.tenant)", True, id="every field is present"),
    ],
)
def test_a_valid_filter_matches_by_its_fields(text: str, *, holds: bool) -> None:
    assert matches(read_filter(text), ROW) is holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "filter:1:1: the expression is empty", id="empty"),
        pytest.param(
            'decision.modle == "a" && decision.tools == "b"',
            "filter:1:1: decision.modle is not declared, did you mean decision.model?; "
            "filter:1:41: == cannot take int and string",
            id="every type error at once",
        ),
        pytest.param(
            "decision.tools + 1 > 2 ||\n decision.reasons[0] == 'x'",
            "filter:1:16: arithmetic works on constants only, not on fields: +; "
            f"filter:2:18: {WORDS_ONLY}",
            id="every unsupported operation at once",
        ),
        pytest.param(
            "decision.tools", "filter:1:1: this must be bool, and is int", id="not a condition"
        ),
        pytest.param(
            "decision.stream == 'x'",
            "filter:1:1: decision.stream is not declared",
            id="a column that is not a field",
        ),
        pytest.param(
            "decision.reasons == ['a']", f"filter:1:18: {WORDS_ONLY}", id="lists compared"
        ),
        pytest.param(
            "decision.reasons in [['a']]", f"filter:1:18: {WORDS_ONLY}", id="a list within lists"
        ),
        pytest.param(
            "'a' in decision.reasons + ['b']", f"filter:1:25: {WORDS_ONLY}", id="lists concatenated"
        ),
        pytest.param(
            "size(decision.reasons.filter(r, r == 'a')) == 1",
            "filter:1:23: filter over a list field builds a list, which no query can: "
            "use exists or all",
            id="a list is built",
        ),
        pytest.param(
            "'a' in (decision.tools > 0 ? decision.reasons : [])",
            "filter:1:28: ?: chooses between bools, ints and strings only, not list<string>",
            id="a conditional list",
        ),
        pytest.param(
            "decision.model.matches('^a')",
            "filter:1:16: matches works on constants only: use startsWith, endsWith or contains",
            id="a pattern",
        ),
        pytest.param(
            "decision.model + 'x' == 'ax'",
            "filter:1:16: concatenation works on constants only, not on fields",
            id="texts concatenated",
        ),
        pytest.param(
            "-decision.tools < 0",
            "filter:1:1: arithmetic works on constants only, not on fields: -",
            id="negation",
        ),
        pytest.param(
            "string(decision.tools) == '1'",
            "filter:1:1: conversion works on constants only, not on fields: string(int)",
            id="a conversion",
        ),
        pytest.param(
            "decision.tools > 1 / 0", "filter:1:20: division by zero", id="a constant that fails"
        ),
        pytest.param(
            "decision.tools > 9223372036854775807 + 1",
            "filter:1:38: integer overflow",
            id="a constant that overflows",
        ),
        pytest.param(
            "decision.model == 'a\\u0000'",
            "filter:1:16: no field holds the character NUL",
            id="NUL",
        ),
        pytest.param(
            "[decision.model].filter(m, m == 'a') == ['a']",
            "filter:1:18: filter over a list literal needs conditions on constants",
            id="a list that depends on the row",
        ),
        pytest.param(
            "decision.model in {decision.variant: 1}",
            "filter:1:19: a map holds constants only",
            id="a map of fields",
        ),
        pytest.param(
            "(" * 12 + "decision.tools > 0" + " ? decision.tools > 1 : decision.tools > 2)" * 12,
            "filter:1:75: too complex: nested too deeply for a query",
            id="too deep",
        ),
    ],
)
def test_an_invalid_filter_is_rejected_with_every_fault(text: str, message: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        read_filter(text)
    assert str(caught.value) == message
    assert isinstance(caught.value, CallerError)
    assert caught.value.text == text


def test_a_message_is_shortened_after_ten_faults_but_carries_all() -> None:
    with pytest.raises(InvalidFilter, match=r"\(and 5 more\)$") as caught:
        read_filter(" || ".join(f"decision.tools + {number} > 0" for number in range(15)))
    assert len(caught.value.faults) == 15


def test_a_fault_is_shown_with_a_caret_under_its_place() -> None:
    with pytest.raises(InvalidFilter) as caught:
        read_filter('decision.tools > 0 &&\n  decision.modle == "a"')
    shown = [render_fault(fault, {FILE: caught.value.text}) for fault in caught.value.faults]
    first = "filter:2:3: decision.modle is not declared, did you mean decision.model?"
    assert shown == [f'{first}\n   |\n 2 |   decision.modle == "a"\n   |   ^']


def test_every_filter_field_is_in_the_row_and_in_its_column() -> None:
    assert [field.name for field in FIELDS] == list(ROW)
    assert len({field.path for field in FIELDS}) == len(FIELDS)
    for field in FIELDS:
        assert field.description
        assert field.type == WORD_LIST or field.stored_as in decision.c
    assert ROW["tenant"] == "acme"
    assert filter_row(DERIVED, {})["tenant"] == ""


def test_a_row_without_a_used_field_is_rejected() -> None:
    with pytest.raises(TypeError, match=r"decision\.tools"):
        matches(read_filter("decision.tools > 0"), {"model": "a"})


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        pytest.param(
            '"x" in decision.excluded_providers',
            "decision.finding_set IN (SELECT w.finding_set FROM finding_set_word AS w "
            "WHERE w.kind = ? AND w.word = ?)",
            id="a constant word selects its finding sets",
        ),
        pytest.param(
            'decision.reasons.exists(r, r.contains("x"))',
            "decision.finding_set IN (SELECT w.finding_set FROM finding_set_word AS w "
            "WHERE w.kind = ? AND instr(w.word, ?) > ?)",
            id="a condition on words alone is an uncorrelated subquery",
        ),
        pytest.param(
            "decision.first_provider in decision.excluded_providers",
            "EXISTS (SELECT w.word FROM finding_set_word AS w "
            "WHERE w.finding_set = decision.finding_set AND w.kind = ? "
            "AND w.word = decision.first_provider)",
            id="a condition on a field is a correlated subquery",
        ),
        pytest.param(
            "decision.reasons.all(r, r != decision.model)",
            "NOT (EXISTS (SELECT w.word FROM finding_set_word AS w "
            "WHERE w.finding_set = decision.finding_set AND w.kind = ? "
            "AND w.word = decision.model))",
            id="a condition on words and fields is a correlated subquery",
        ),
        pytest.param(
            'decision.tenant == "acme"',
            "decision.tenant IN (SELECT t.pseudonym FROM tenant_pseudonym AS t WHERE t.tenant = ?)",
            id="a tenant is any of its pseudonyms",
        ),
        pytest.param(
            'decision.tenant == ""',
            "NOT IN (SELECT t.pseudonym",
            id="no tenant is none of the pseudonyms",
        ),
        pytest.param(
            'decision.model.startsWith("z-ai/")',
            "decision.model >= ? AND decision.model < ?",
            id="a prefix is a range",
        ),
        pytest.param(
            "decision.time_us >= 0", "decision.decided_at >= ?", id="time uses its column"
        ),
        pytest.param(
            "decision.time_us < 9223372036854775807", "WHERE 1 = 1", id="a time after the last date"
        ),
        pytest.param("decision.tools > 0 || true", "WHERE 1 = 1", id="always true"),
        pytest.param("decision.tools > 0 && false", "WHERE 0 = 1", id="always false"),
    ],
)
def test_the_sql_condition_can_use_indexes(text: str, condition: str) -> None:
    query = select(decision.c.decision_id).where(read_filter(text).condition)
    spelled = " ".join(str(query.compile(dialect=sqlite.dialect())).split())
    spelled = spelled.replace("finding_set_word_1", "w").replace("tenant_pseudonym_1", "t")
    assert condition in spelled


@pytest.mark.parametrize(
    ("text", "index"),
    [
        pytest.param('"x" in decision.reasons', "finding_set_decided_at", id="a word"),
        pytest.param('decision.model.startsWith("z-ai/")', "model_decided_at", id="a prefix"),
        pytest.param("decision.time_us >= 1782907200000000", "decided_at_decision_id", id="a time"),
        pytest.param('decision.tenant == "acme"', "tenant_decided_at", id="a tenant"),
    ],
)
def test_sqlite_searches_by_index(text: str, index: str, tmp_path: Path) -> None:
    database = create_engine(f"sqlite:///{tmp_path / 'plan.db'}")
    decision.metadata.create_all(
        database, tables=[decision, finding_set_word, decision.metadata.tables["tenant_pseudonym"]]
    )
    query = select(decision).where(read_filter(text).condition)
    spelled = query.compile(dialect=database.dialect, compile_kwargs={"literal_binds": True})
    with database.connect() as connection:
        plan = [row.detail for row in connection.execute(sql(f"EXPLAIN QUERY PLAN {spelled}"))]
    database.dispose()
    assert any(
        step.startswith(f"SEARCH decision USING INDEX ix_decision_{index}") for step in plan
    ), plan


@pytest.mark.parametrize(
    "text", ["decision.model < 'b'", "(decision.tools > 0 ? 'a' : 'b') < decision.model"]
)
def test_postgresql_compares_by_code_point_whatever_its_locale(text: str) -> None:
    spelled = str(
        select(decision.c.model).where(read_filter(text).condition).compile(dialect=POSTGRESQL())
    )
    assert spelled.count('COLLATE "C"') == text.count("'") / 2
    assert 'model TEXT COLLATE "C"' in str(CreateTable(decision).compile(dialect=POSTGRESQL()))


@pytest.mark.parametrize("dialect", [sqlite.dialect, POSTGRESQL], ids=["sqlite", "postgresql"])
def test_constants_of_a_filter_are_bound_parameters(dialect: Callable[[], Dialect]) -> None:
    text = """decision.model == 'S3CRET' || 'S3CRET' in decision.reasons
        || decision.tenant.contains('S3CRET') || decision.id.startsWith('S3CRET')
        || decision.variant in ['S3CRET'] || decision.tools == 314159
        || decision.model.endsWith('S3CRET')
        || (decision.tools > 314159 ? 'S3CRET' : decision.id) < decision.model
        || decision.reasons.exists_one(r, r < 'S3CRET') || size(decision.model) == 314159"""
    query = select(decision.c.decision_id).where(read_filter(text).condition)
    spelled = str(query.compile(dialect=dialect()))
    assert "S3CRET" not in spelled
    assert "314159" not in spelled


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        pytest.param("ab", "ac", id="the next character"),
        pytest.param("a\ud7ff", "a\ue000", id="past the surrogates"),
        pytest.param("a\U0010ffff\U0010ffff", "b", id="the last character is dropped"),
        pytest.param("\U0010ffff", None, id="no text follows"),
    ],
)
def test_the_range_of_texts_with_a_prefix_ends_after_the_last_one(
    prefix: str, end: str | None
) -> None:
    assert text_after_prefix(prefix) == end
