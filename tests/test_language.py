"""Tracked files refer to nothing that only their author could look up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.catalogs import ROOT
from tests.support.tracked_files import tracked_files

THIS = "tests/test_language.py"
OUTSIDE = re.compile(
    r"reference/\w+\.md|\.\./shared\b|\bthe design notes\b|\bissues? #?\d+\b|\bGH-\d+\b"
)


def text_of(path: Path) -> str:
    """Return the text of a file; of a binary file nothing."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def is_generated(name: str) -> bool:
    return "_pb2" in name or name == "requirements.lock"


def lines(pattern: re.Pattern[str]) -> list[str]:
    """Return each line of a tracked file that a pattern matches, with its place."""
    return [
        f"{name}:{number}: {line.strip()}"
        for path in tracked_files()
        if (name := str(path.relative_to(ROOT))) != THIS and not is_generated(name)
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_refers_to_something_outside_the_repository() -> None:
    assert lines(OUTSIDE) == []


@pytest.mark.parametrize("exemption", ["noqa", "type: ignore"])
def test_every_exemption_from_a_linter_has_a_reason(exemption: str) -> None:
    bare = re.compile(rf"# {exemption}(\[[\w, -]+\]|: [\w, ]+)?\s*(#\s*)?$")

    assert [found for found in lines(bare) if ".py:" in found] == []
