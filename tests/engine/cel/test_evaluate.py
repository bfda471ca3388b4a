"""The exact evaluator and generated code return the same outcomes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.support.cel_oracles import same_value

from assay.engine.cel.check import check
from assay.engine.cel.exact_evaluator import evaluate
from assay.engine.cel.fuse import Item, fuse_columns
from assay.engine.cel.schema import (
    BOOL,
    DOUBLE,
    INT,
    STRING,
    Fact,
    Function,
    Schema,
    list_of,
    map_of,
    record,
)
from assay.engine.cel.values import Absent, Failure


def _picky(value: float) -> float:
    if value < 0:
        raise ValueError("a negative count")
    return value


SCHEMA = Schema(
    roots={
        "e": {
            "accuracy": Fact(DOUBLE, optional=True),
            "tools.tool_call_requests": Fact(DOUBLE, optional=True),
            "n": Fact(INT),
            "name": Fact(STRING),
            "ok": Fact(BOOL, optional=True),
            "broken": Fact(BOOL),
            "tags": Fact(list_of(STRING)),
            "nan": Fact(DOUBLE),
            "nans": Fact(list_of(DOUBLE)),
            "scores": Fact(map_of(STRING, DOUBLE)),
        },
        "params": {"floor": Fact(DOUBLE), "names": Fact(list_of(STRING))},
    },
    functions=(
        Function("picky", (DOUBLE,), DOUBLE, _picky),
        Function("yes", (), BOOL, lambda: "yes"),
        Function(
            "called", (), DOUBLE, lambda e: e["tools.tool_call_requests"], receiver=record("e")
        ),
        Function("lookup", (), DOUBLE, lambda: dict[str, float]()["x"]),
    ),
)
NAN = math.nan
ROW: dict[str, Any] = {
    "n": 7,
    "name": "deepinfra",
    "broken": None,
    "tags": ("a", "b"),
    "nan": NAN,
    "nans": (NAN, 1.0),
    "scores": {"x": 0.5, "nan": NAN},
}
CONSTANTS = {"params.floor": 0.9, "params.names": ("a", "deepinfra")}

ABSENT = Absent("e.accuracy")


def outcomes(text: str) -> tuple[Any, Any]:
    checked = check(text, SCHEMA)
    params = {key.removeprefix("params."): value for key, value in CONSTANTS.items()}
    fused = fuse_columns([Item("it", checked)], row="e", constants=CONSTANTS)
    return evaluate(checked, {"e": ROW, "params": params}), fused([ROW], {})[0][0]


def fails(message: str, column: int) -> Failure:
    return Failure(message, 1, column)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("e.accuracy > 0.5", ABSENT, id="a missing fact is absent"),
        pytest.param("has(e.accuracy)", False, id="has of a missing fact"),
        pytest.param("has(e.n) && has(params.floor)", True, id="has of facts that are there"),
        pytest.param("!has(e.tools.tool_call_requests)", True, id="has of a fact in a group"),
        pytest.param("false && e.accuracy > 0.5", False, id="false absorbs on the left"),
        pytest.param("e.accuracy > 0.5 && false", False, id="false absorbs on the right"),
        pytest.param("e.accuracy > 0.5 || true", True, id="true absorbs on the right"),
        pytest.param("e.accuracy > 0.5 && true", ABSENT, id="true does not absorb in and"),
        pytest.param(
            "e.accuracy > 0.5 && e.n / 0 > 1", ABSENT, id="the left one of two errors is reported"
        ),
        pytest.param(
            "e.n / 0 > 1 || e.accuracy > 0.5", fails("division by zero", 5), id="also in an or"
        ),
        pytest.param("e.n / 0 > 1 || e.accuracy > 0.5 || e.n == 7", True, id="three parts"),
        pytest.param("true ? 1 : e.n / 0", 1, id="only one branch is taken"),
        pytest.param("e.ok ? 1 : 2", Absent("e.ok"), id="an absent condition"),
        pytest.param("!e.ok", Absent("e.ok"), id="not of an absent fact"),
        pytest.param(
            "!e.broken",
            fails("the value is not a bool", 1),
            id="`!` of a fact that is not a bool fails",
        ),
        pytest.param(
            "e.broken || e.n > 8",
            fails("the value is not a bool", 10),
            id="`or` does not absorb either",
        ),
        pytest.param("[1, 0].exists(x, 1 / x == 1)", True, id="exists absorbs"),
        pytest.param("[0, 1].exists(x, 1 / x == 1)", True, id="exists absorbs what came before"),
        pytest.param("[1, 0].all(x, 1 / x == 2)", False, id="all absorbs"),
        pytest.param(
            "[1, 0].all(x, 1 / x == 1)",
            fails("division by zero", 17),
            id="all with a remaining error",
        ),
        pytest.param(
            "[1, 0].exists_one(x, 1 / x == 1)",
            fails("division by zero", 24),
            id="exists_one does not",
        ),
        pytest.param(
            "[2, 0].filter(x, 2 / x == 1)", fails("division by zero", 20), id="filter does not"
        ),
        pytest.param("[2, 0].map(x, x > 0, 2 / x)", [1], id="map with a filter"),
        pytest.param("e.tags.map(t, t + '!')", ["a!", "b!"], id="map"),
        pytest.param(
            "e.scores.all(k, size(k) > 0)", True, id="a macro iterates over the keys of a map"
        ),
        pytest.param(
            "[[1], []].all(x, x.all(x, x == 1))", True, id="an inner variable hides the outer"
        ),
        pytest.param(
            "9223372036854775807 + 1", fails("integer overflow", 21), id="overflow of a sum"
        ),
        pytest.param(
            "-9223372036854775808 - 1", fails("integer overflow", 22), id="overflow of a difference"
        ),
        pytest.param(
            "9223372036854775807 * 2", fails("integer overflow", 21), id="overflow of a product"
        ),
        pytest.param(
            "-9223372036854775808 / -1", fails("integer overflow", 22), id="overflow of a quotient"
        ),
        pytest.param(
            "-9223372036854775808 % -1", fails("integer overflow", 22), id="overflow of a remainder"
        ),
        pytest.param(
            "-(-9223372036854775808)", fails("integer overflow", 1), id="overflow of a sign"
        ),
        pytest.param("-7 / 2", -3, id="int division cuts"),
        pytest.param("-7 % 2", -1, id="a remainder has the dividend's sign"),
        pytest.param("7 % -2", 1, id="a remainder does not have the divisor's sign"),
        pytest.param("7 % 0", fails("modulus by zero", 3), id="modulus by zero"),
        pytest.param("1.0 / 0.0", math.inf, id="double division by zero"),
        pytest.param("1.0 / -0.0", -math.inf, id="by negative zero"),
        pytest.param("0.0 / 0.0", NAN, id="zero by zero"),
        pytest.param("e.nan == e.nan", False, id="nan equals nothing"),
        pytest.param("e.nan in e.nans", False, id="nan is not in any list"),
        pytest.param("e.nans == e.nans", False, id="a list that contains it is not equal"),
        pytest.param("e.scores != e.scores", True, id="a map that contains it is not equal"),
        pytest.param(
            "e.nan >= params.floor || e.nan < params.floor", False, id="nan compares false"
        ),
        pytest.param("(1 < 2) == true", True, id="comparisons do not chain as in Python"),
        pytest.param("false < true", True, id="bools are ordered"),
        pytest.param(
            "[1, 2][2]", fails("index 2 is outside a list of 2", 7), id="an index past the end"
        ),
        pytest.param(
            "[1, 2][-1]",
            fails("index -1 is outside a list of 2", 7),
            id="an index before the start",
        ),
        pytest.param("e.scores.y", fails("no such key: 'y'", 10), id="a missing key is a failure"),
        pytest.param("has(e.scores.y)", False, id="has of a missing key"),
        pytest.param("'y' in e.scores", False, id="in a map"),
        pytest.param("e.name in params.names", True, id="in a constant list"),
        pytest.param("e.tags + ['c'] == ['a', 'b', 'c']", True, id="tuples and lists are lists"),
        pytest.param("[] == e.tags", False, id="the empty list"),
        pytest.param(
            "size('he😀') + size(e.tags) + e.scores.size()", 7, id="sizes count characters"
        ),
        pytest.param("'a😀' < 'b' && 'ab'.contains('b') && 'ab'.endsWith('b')", True, id="strings"),
        pytest.param(
            "e.name.matches('^deep') && matches('xay', 'a')",
            True,
            id="a pattern may match anywhere",
        ),
        pytest.param(r"'\x41\u00e9\U0001F600\101\'' == 'Aé😀A' + " + '"\'"', True, id="escapes"),
        pytest.param(r"r'\n' == '\\n'", True, id="raw strings"),
        pytest.param("'''a\nb''' == 'a\\nb'", True, id="a line end within triple quotes stays"),
        pytest.param("1 < 2 // && false", True, id="comments"),
        pytest.param("int(-1.9)", -1, id="int cuts"),
        pytest.param(
            "int(1e19)", fails("double outside the range of int", 1), id="int of a large double"
        ),
        pytest.param("double(3) / 2.0", 1.5, id="double"),
        pytest.param(
            "string(0.95) + string(12345678.9)", "0.951.23456789e+07", id="as C++ writes doubles"
        ),
        pytest.param(
            "string(-0.0) + string(1e-7) + string(true) + string(-5)",
            "-01e-07true-5",
            id="other values are written like in C++",
        ),
        pytest.param(
            "picky(-1.0)",
            fails("a negative count", 1),
            id="an exception of a function is a failure",
        ),
        pytest.param(
            "!yes()", fails("the value is not a bool", 2), id="a function with a wrong result type"
        ),
        pytest.param(
            "e.called() > 0.0",
            Absent("e.tools.tool_call_requests"),
            id="a function that reads a missing fact",
        ),
        pytest.param("lookup()", fails("'x'", 1), id="a missing key of a literal map is a failure"),
        pytest.param("null == null", True, id="null"),
    ],
)
def test_both_evaluators_return_the_expected_outcome(text: str, expected: object) -> None:
    exact, fast = outcomes(text)
    assert same_value(exact, expected), exact
    assert same_value(fast, expected), fast


def test_unbounded_concatenation_fails_before_memory_is_full() -> None:
    schema = Schema(variables={"text": STRING, "list": list_of(INT)})
    text, elements = "x" * 60_000, (0,) * 60_000
    assert evaluate(check("size(text + text)", schema), {"text": text}) == fails(
        "a string of more than 100000 characters", 11
    )
    assert evaluate(check("size(list + list)", schema), {"list": elements}) == fails(
        "a list of more than 100000 elements", 11
    )


def test_the_reader_of_a_variable_gets_its_outcome() -> None:
    schema = Schema(roots={"variables": {"good": Fact(DOUBLE)}}, variables={"plain": DOUBLE})
    checked = check("variables.good > 1.0 || plain > 1.0", schema)
    assert evaluate(checked, {"variables": {"good": ABSENT}, "plain": 1.0}) == ABSENT
    assert evaluate(checked, {"variables": {"good": ABSENT}, "plain": 2.0}) is True
    assert evaluate(checked, {"plain": 0.0}) == Absent("variables.good")
    assert evaluate(checked, {"variables": {"good": 0.0}}) == Absent("plain")
