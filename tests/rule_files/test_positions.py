"""Every character of an expression is mapped to its position in the file."""

from __future__ import annotations

import pytest

from assay.engine.policy.rule_set import Expression
from assay.rule_files.nodes import Table
from assay.rule_files.source import read_source


def expression(yaml: str) -> Expression:
    root, faults = read_source("x.yaml", yaml)
    assert not faults
    assert isinstance(root, Table)
    found = root.scalar("when")
    assert found
    assert found.written
    return found.written


@pytest.mark.parametrize(
    ("yaml", "sought", "place"),
    [
        pytest.param("when: a + bad", "bad", (1, 11), id="plain"),
        pytest.param(
            "\n\n  when:   a + bad  # why\n",
            "bad",
            (3, 15),
            id="plain, indented, with a comment after it",
        ),
        pytest.param("{x: 1, when: a + bad, y: 2}", "bad", (1, 18), id="plain in braces"),
        pytest.param("when:\n    a + bad", "bad", (2, 9), id="plain on the next line"),
        pytest.param('when: "a + bad"', "bad", (1, 12), id="double quotes"),
        pytest.param("when: 'a + bad'", "bad", (1, 12), id="single quotes"),
        pytest.param(
            "when: 'a == ''b'' + bad'", "bad", (1, 21), id="single quotes with quotes in them"
        ),
        pytest.param(
            r'when: "a == \"b\" + bad"', "bad", (1, 21), id="double quotes with quotes in them"
        ),
        pytest.param(
            r'when: "\u00e9 + \x41 + \U0001F600 + bad"',
            "bad",
            (1, 37),
            id="escapes of three lengths",
        ),
        pytest.param(
            r'when: "a\n+ bad"', "bad", (1, 13), id="an escaped line break stays on the file's line"
        ),
        pytest.param(
            r'when: "a == \x27\x27 + ' ' + bad"', "bad", (1, 27), id="empty text in double quotes"
        ),
        pytest.param("when: '値 + bad'", "bad", (1, 12), id="wide characters count once"),
        pytest.param("when: |\n  a\n    + bad\n", "bad", (3, 7), id="block"),
        pytest.param(
            "when: | # why\n  bad\n", "bad", (2, 3), id="block with a comment on its header"
        ),
        pytest.param(
            "y: 1\nwhen: |-\n      a\n\n      bad", "bad", (5, 7), id="block with an empty line"
        ),
        pytest.param(
            "when: |\n\n\n   a +\n   bad", "bad", (5, 4), id="block that begins with empty lines"
        ),
        pytest.param(
            "when: |2\n    a +\n   bad", "bad", (3, 4), id="block with an indentation indicator"
        ),
        pytest.param(
            "when: |+\n  a\n  bad  \n\n", "bad", (3, 3), id="block with blanks at its end"
        ),
        pytest.param(
            "when: |\r\n  a\r\n  + bad\r\n", "bad", (3, 5), id="block with Windows line ends"
        ),
    ],
)
def test_every_character_has_its_position(yaml: str, sought: str, place: tuple[int, int]) -> None:
    found = expression(yaml)
    before = found.text[: found.text.index(sought)].split("\n")
    located = found.locate(len(before), len(before[-1]) + 1)
    assert (located.line, located.column) == place


def test_the_end_of_an_escaped_text_has_a_position() -> None:
    found = expression("when: 'a ''b'''")
    assert found.text == "a 'b'"
    assert found.locate(1, 6).column == 15
    assert found.locate(1, 60).column == 15


@pytest.mark.parametrize(
    "yaml",
    [
        pytest.param("when: >\n  a\n  + b\n", id="folded"),
        pytest.param("when: a\n  + b\n", id="plain over several lines"),
        pytest.param('when: "a\n  + b"\n', id="double quotes over several lines"),
        pytest.param("when: 'a\n  + b'\n", id="single quotes over several lines"),
    ],
)
def test_folded_text_has_no_positions(yaml: str) -> None:
    root, faults = read_source("x.yaml", yaml)
    assert not faults
    assert isinstance(root, Table)
    found = root.scalar("when")
    assert found
    assert found.written is None
