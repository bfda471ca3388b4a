"""Hostile expressions are rejected with faults, without RecursionError or endless parsing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from assay.engine.cel.check import check
from assay.engine.cel.faults import ExpressionFaults
from assay.engine.cel.schema import Schema


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "'" + "a" * 5000 + "'", "the expression has 5002 bytes, 4096 are allowed", id="long"
        ),
        pytest.param(
            "'" + "é" * 2048 + "'",
            "the expression has 4098 bytes, 4096 are allowed",
            id="long in bytes",
        ),
        pytest.param(
            "(" * 300 + "1" + ")" * 300, "brackets nested deeper than 32", id="deep parentheses"
        ),
        pytest.param("[" * 300 + "]" * 300, "brackets nested deeper than 32", id="deep lists"),
        pytest.param(
            "!" * 4000 + "true", "more than 32 signs before one operand", id="a row of nots"
        ),
        pytest.param(
            "-" * 4000 + "1", "more than 32 signs before one operand", id="a row of minus signs"
        ),
        pytest.param(
            "! " * 2000 + "true", "more than 32 signs before one operand", id="spaced nots"
        ),
        pytest.param("true" + "&&true" * 600, "more than 500 nodes", id="a chain of ands"),
        pytest.param("true" + "||true" * 600, "more than 500 nodes", id="a chain of ors"),
        pytest.param("1" + "+1" * 600, "more than 64 operators in a row", id="a chain of sums"),
        pytest.param(
            "1" + "<1" * 600, "more than 64 operators in a row", id="a chain of comparisons"
        ),
        pytest.param(
            "true ? 1 : " * 300 + "1", "more than 64 operators in a row", id="a chain of choices"
        ),
        pytest.param("a" + ".a" * 900, "more than 64 operators in a row", id="a long path"),
        pytest.param("a" + "[0]" * 900, "more than 64 operators in a row", id="a row of indexes"),
        pytest.param(
            "f(" * 31 + "-" * 9 + ("+".join("1" * 40)) + ")" * 31,
            "there is no function f",
            id="mixed depth",
        ),
        pytest.param(
            "((-(" * 8 + "+".join("1" * 60) + ")))" * 8, None, id="deep but within the limits"
        ),
        pytest.param("[" + "1," * 240 + "1] == []", "more than 200 elements", id="a long list"),
        pytest.param("()" * 1500, "more than 800 words and signs", id="many empty brackets"),
        pytest.param(
            "[1].all(a, [1].all(b, [1].all(c, c > b)))",
            "macros nested deeper than 2",
            id="nested macros",
        ),
        pytest.param(
            "'a'.matches('((a{100}){100}){100}')", "bad pattern", id="a pattern that explodes"
        ),
        pytest.param("'a'.matches('(?=a)')", "bad pattern", id="a pattern that looks ahead"),
        pytest.param(
            "'a'.matches('" + r"\\pL{30}" * 100 + "')",
            "pattern too large",
            id="a pattern of many classes",
        ),
        pytest.param('"\\' * 1500, "this string has no end", id="many backslashes"),
        pytest.param("'" * 4095, "more than 500 nodes", id="quotes"),
        pytest.param("9" * 4096, "this number is too large for an int", id="a long number"),
        pytest.param("1e999999", "this number is too large for a double", id="a huge exponent"),
        pytest.param("\x00", "unexpected character '\\x00'", id="a NUL"),
        pytest.param("\ud800", "unexpected character '\\ud800'", id="a lone surrogate"),
        pytest.param("'\ud800'", "half of a surrogate pair", id="a lone surrogate in a string"),
        pytest.param("ⅰ == 1", "unexpected character", id="letters that only look like names"),
    ],
)
def test_hostile_text_is_rejected(text: str, message: str | None) -> None:
    if message is None:
        assert str(check(text, Schema()).type) == "int"
        return
    with pytest.raises(ExpressionFaults) as caught:
        check(text, Schema())
    assert message in str(caught.value)


def test_importing_the_checker_does_not_load_cel_python_nor_raise_the_recursion_limit() -> None:
    program = """
import sys
limit = sys.getrecursionlimit()
from assay.engine.cel.check import check
from assay.engine.cel.schema import Schema
assert "celpy" not in sys.modules
check("1 + 1", Schema())
assert "celpy" in sys.modules
assert sys.getrecursionlimit() == limit
"""
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
