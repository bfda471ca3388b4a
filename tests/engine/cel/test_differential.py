"""Random typed expressions: all evaluators agree with cel-python and Google's C++ CEL."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest
from tests.support.cel_expressions import SCHEMA, Generator, facts, nested
from tests.support.cel_oracles import ERROR, CelpyOracle, CppOracle, is_error, same_value

from assay.engine.cel.check import CheckedExpression, check
from assay.engine.cel.exact_evaluator import evaluate
from assay.engine.cel.fuse import Item, fuse_columns, fuse_rules
from assay.engine.cel.schema import BOOL, Fact, Schema
from assay.engine.cel.values import NOT_ASKED, Absent, Failure

PAIRS = int(os.environ.get("ASSAY_CEL_PAIRS", "8000"))  # `make bench`: 100,000
ROWS = 4


def _explain(text: str, data: object, ours: object, theirs: object) -> str:
    return f"{text}\n  ours:   {ours!r}\n  theirs: {theirs!r}\n  data:   {data!r}"


@pytest.mark.slow
def test_generated_code_and_the_exact_evaluator_agree_with_google_cel() -> None:
    random, oracle = Random(20260922), CppOracle()
    values = errors = 0
    while values + errors < PAIRS:
        generator = Generator(random)
        type_ = generator.any_type()
        text = generator.expression(type_)
        checked = check(text, SCHEMA, expected=type_)
        fused, program = fuse_columns([Item("it", checked)], row="endpoint"), oracle.compile(text)
        for _ in range(ROWS):
            data = facts(random)
            theirs = oracle.evaluate(program, nested(data))
            exact = evaluate(checked, data)
            (fast,) = fused([data["endpoint"]], data)[0]
            assert same_value(exact, fast), _explain(text, data, fast, exact)
            agree = is_error(exact) if theirs is ERROR else same_value(exact, theirs)
            assert agree, _explain(text, data, exact, theirs)
            errors += theirs is ERROR
            values += theirs is not ERROR
    assert errors < values, "most pairs must come to a value, or the comparison says little"


def test_cel_python_agrees_on_the_portable_subset() -> None:
    """The portable generator omits operations that are wrong or missing in cel-python 0.5.0.

    These are division of doubles by zero (always +inf), negative indexes (counted from the end),
    `map` with a filter (unpacking error), int of an infinity (OverflowError), `string(1.0)`
    ("1.0"), and methods on concatenated strings (a bare Python str, which has no `contains`). One
    difference depends on data: an error within `map` or `filter` escapes the `||` or `&&` around
    it. Such pairs are counted and few.
    """
    random, oracle = Random(7), CelpyOracle()
    errors = escaped = 0
    for _ in range(1000):
        generator = Generator(random, portable=True)
        type_ = generator.any_type()
        text = generator.expression(type_, 3)
        checked, program, data = (
            check(text, SCHEMA, expected=type_),
            oracle.compile(text),
            facts(random, 0.03),
        )
        exact, theirs = evaluate(checked, data), oracle.evaluate(program, nested(data))
        escapes = theirs is ERROR and (".map(" in text or ".filter(" in text)
        if escapes and not is_error(exact):
            escaped += 1
            continue
        agree = is_error(exact) if theirs is ERROR else same_value(exact, theirs)
        assert agree, _explain(text, data, exact, theirs)
        errors += theirs is ERROR
    assert errors < 400
    assert escaped < 10


@pytest.mark.parametrize("seed", range(25))
def test_fused_rules_agree_with_rules_evaluated_one_by_one(
    seed: int,
) -> None:
    random = Random(seed)
    schema, variables = _variables(random)
    items = []
    for index in range(6):
        generator = _generator(random, schema)
        expression = check(generator.expression(BOOL), schema)
        guard = check(generator.expression(BOOL, 2), schema) if random.random() < 0.5 else None
        items.append(Item(f"rule {index}", expression, guard))
    fused = fuse_rules(items, variables=variables, row="endpoint")
    for _ in range(3):
        shared = {"request": facts(random, 0.1)["request"]}
        rows = [facts(random, 0.1)["endpoint"] for _ in range(5)]
        expected = [_one_by_one(items, variables, {**shared, "endpoint": row}) for row in rows]
        found = fused(rows, shared)
        for mine, theirs in zip(found, expected, strict=True):
            assert [o for o in mine if o[1] is not NOT_ASKED] == [
                o for o in theirs if o[1] is not NOT_ASKED
            ]
            assert {o for o in mine if o[1] is NOT_ASKED} <= {
                o for o in theirs if o[1] is NOT_ASKED
            }


def _generator(random: Random, schema: Schema) -> Generator:
    generator = Generator(random, functions=True)
    generator.variables = {
        name: fact.type for name, fact in schema.roots.get("variables", {}).items()
    }
    return generator


def _variables(random: Random) -> tuple[Schema, list[tuple[str, CheckedExpression]]]:
    schema, variables = SCHEMA, []
    for index in range(4):
        generator = _generator(random, schema)
        type_ = generator.any_type()
        checked = check(generator.expression(type_, 3), schema, expected=type_)
        variables.append((f"v{index}", checked))
        declared = {**schema.roots.get("variables", {}), f"v{index}": Fact(type_)}
        schema = Schema(roots={**schema.roots, "variables": declared}, functions=schema.functions)
    return schema, variables


def _one_by_one(
    items: list[Item], variables: list[tuple[str, CheckedExpression]], data: dict[str, Any]
) -> list[tuple[int, Any]]:
    computed: dict[str, Any] = {}
    activation = {**data, "variables": computed}
    for name, checked in variables:
        computed[name] = evaluate(checked, activation)
    found: list[tuple[int, Any]] = []
    for index, item in enumerate(items):
        asked = True if item.when is None else evaluate(item.when, activation)
        outcome = (
            evaluate(item.expression, activation)
            if asked is True
            else NOT_ASKED
            if asked is False
            else asked
        )
        assert isinstance(outcome, bool | Absent | Failure) or outcome is NOT_ASKED
        if outcome is not True:
            found.append((index, outcome))
    return found
