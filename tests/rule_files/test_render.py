"""Rendering of faults with excerpts of the file."""

from __future__ import annotations

import pytest

from assay.engine.policy.faults import Fault, PolicyFaults
from assay.engine.policy.rule_set import Place
from assay.rule_files.render import render_fault


@pytest.mark.parametrize(
    ("line", "column", "excerpt", "caret"),
    [
        pytest.param("name: x", 7, "name: x", "      ^", id="plain"),
        pytest.param("", 1, "", "^", id="empty line"),
        pytest.param("a: b", 9, "a: b", "        ^", id="past the end of the line"),
        pytest.param("\tname: x", 2, "    name: x", "    ^", id="tab"),
        pytest.param("値段: x", 5, "値段: x", "      ^", id="wide characters take two columns"),
        pytest.param("e\u0301: x", 5, "e\u0301: x", "   ^", id="combining characters take none"),
        pytest.param(
            "a\x1b[31m: x", 9, "a\ufffd[31m: x", "        ^", id="control sequences are replaced"
        ),
        pytest.param(
            "x" * 300,
            201,
            f"…{'x' * 79}{'x' * 39}…",
            f"{' ' * 80}^",
            id="long lines are cut on both sides",
        ),
        pytest.param("a: b\r", 4, "a: b", "   ^", id="Windows line end"),
    ],
)
def test_an_excerpt_marks_the_position(line: str, column: int, excerpt: str, caret: str) -> None:
    text = render_fault(Fault(Place("x.yaml", 2, column), "wrong"), {"x.yaml": f"first\n{line}\n"})
    assert text.split("\n") == [
        f"x.yaml:2:{column}: wrong",
        "   |",
        f" 2 | {excerpt}".rstrip(),
        f"   | {caret}",
    ]


@pytest.mark.parametrize("files", [{}, {"x.yaml": ""}, {"x.yaml": "one\nline"}])
def test_a_missing_line_has_no_excerpt(files: dict[str, str]) -> None:
    assert render_fault(Fault(Place("x.yaml", 9, 1), "wrong"), files) == "x.yaml:9:1: wrong"


def test_faults_are_sorted_and_unique() -> None:
    late, early = Fault(Place("a", 2, 1), "x"), Fault(Place("a", 1, 9), "y")
    error = PolicyFaults([late, early, late])
    assert error.faults == (early, late)
    assert str(error) == "a:1:9: y (and 1 more)"
