"""Tracked files use plain words and short lines, and refer to nothing outside the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.catalogs import ROOT
from tests.support.tracked_files import tracked_files

# The classes keep this line from matching itself.
BANNED = re.compile(
    r"\b(n[o]body|someb[o]dy|whoev[e]r|an[e]w|lets? g[o] of|in f[o]rce|is t[o]ld|t[e]lls)\b"
)
PLACES = ("service", "policy", "proto", "migrations", "README.md", "tests")
OUTSIDE = re.compile(
    r"reference/\w+\.md|\.\./shared\b|\bthe design notes\b|\bissues? #?\d+\b|\bGH-\d+\b"
)
WIDTH = 100
PYTHON = ("service", "tests")


def text_of(path: Path) -> str:
    """Return the text of a file; of a binary file nothing."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def is_generated(name: str) -> bool:
    return "_pb2" in name or name == "requirements.lock"


def lines(pattern: re.Pattern[str], names: tuple[str, ...] = ()) -> list[str]:
    """Return each line of a tracked file that a pattern matches, with its place."""
    return [
        f"{name}:{number}: {line.strip()}"
        for path in tracked_files()
        if not is_generated(name := str(path.relative_to(ROOT)))
        and (not names or name.split("/", maxsplit=1)[0] in names)
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_uses_a_banned_word() -> None:
    assert lines(BANNED, PLACES) == []


def test_no_file_refers_to_something_outside_the_repository() -> None:
    assert lines(OUTSIDE) == []


def test_no_line_of_python_is_longer_than_100_characters() -> None:
    long = re.compile(rf"^.{{{WIDTH + 1},}}$")

    assert [found for found in lines(long, PYTHON) if ".py:" in found] == []


@pytest.mark.parametrize("exemption", ["noqa", "type: ignore"])
def test_every_exemption_from_a_linter_has_a_reason(exemption: str) -> None:
    bare = re.compile(rf"# {exemption}(\[[\w, -]+\]|: [\w, ]+)?\s*(#\s*)?$")

    assert [found for found in lines(bare) if ".py:" in found] == []
