"""Hostile expressions: each rejected or accepted in less than 50 ms."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pytest
from tests.bench.ledger import Ledger
from tests.bench.measure import measured
from tests.engine.cel.test_limits import test_hostile_text_is_rejected as rejected

from assay.engine.cel.check import check
from assay.engine.cel.faults import ExpressionFaults
from assay.engine.cel.fuse import Item, fuse_columns
from assay.engine.cel.schema import Schema

FURTHER = {
    "nested 10,000 deep": "(" * 10_000 + "1" + ")" * 10_000,
    "lists nested 10,000 deep": "[" * 10_000 + "]" * 10_000,
    "maps nested 10,000 deep": "{1:" * 10_000 + "1" + "}" * 10_000,
    "calls nested 31 deep": "size(" * 31 + "''" + ")" * 31,
    "1,000 ands": "true" + " && true" * 1_000,
    "1,000 ors in brackets": "(true)" + " || (true)" * 1_000,
    "100,000 nots": "!" * 100_000 + "true",
    "100,000 minus signs": "-" * 100_000 + "1",
    "choices in choices": "true ? " * 1_000 + "1" + " : 1" * 1_000,
    "macros four deep": "[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))",
    "macros side by side": " && ".join(["[1, 2].all(a, [3].exists(b, b > a))"] * 30),
    "a pattern that doubles": "'aaaa'.matches('" + "(a|a)" * 25 + "b')",
    "a pattern that backtracks": "'aaaa'.matches('(a+)+(a+)+(a+)+$')",
    "a pattern of 4,000 letters": "'a'.matches('" + "a?" * 2_000 + "')",
    "a pattern with a back reference": r"'a'.matches('(a)\\1')",
    "an int that overflows": "9223372036854775807 + 1 > 0",
    "an int too large": "9223372036854775808 > 0",
    "hundreds of digits": "1" * 4_000 + ".0 > 0.0",
    "4 KiB of names": "a." * 2_000 + "a",
    "4 KiB of text": "'" + "é" * 2_000 + "' == ''",
    "4 KiB of escapes": "'" + "\\x41" * 1_000 + "' == ''",
    "4 KiB of comments": "//" + "a" * 4_000 + "\n true",
    "a list of 1,300 numbers": "1 in [" + "1," * 1_300 + "1]",
    "a map of 600 entries": "size({" + ",".join(f"{i}:{i}" for i in range(600)) + "})",
    "unknown names by the hundred": " + ".join(f"n{i}" for i in range(60)),
    "a megabyte": "a" * 1_000_000,
}


def hostile() -> Iterable[tuple[str, str]]:
    for row in rejected.pytestmark[0].args[1]:  # type: ignore[attr-defined] # set by parametrize
        yield str(row.id), str(row.values[0])
    yield from FURTHER.items()


def compile_and_run(text: str) -> None:
    """Check, compile and run an expression once, unless it is rejected."""
    try:
        checked = check(text, Schema())
    except ExpressionFaults:
        return
    fuse_columns([Item("it", checked)], row="endpoint")([{}], {})


@pytest.fixture(scope="module")
def warm() -> None:
    compile_and_run("1 + 1")


@pytest.mark.usefixtures("warm")
def test_every_hostile_expression_takes_less_than_50_ms(ledger: Ledger) -> None:
    times = {name: measured(partial(compile_and_run, text), rounds=7) for name, text in hostile()}
    slowest = sorted(times.items(), key=lambda item: item[1].median)
    for name, found in slowest[-5:]:
        ledger.took(f"hostile: {name}", found, below=0.05)
    assert len(times) > 50
