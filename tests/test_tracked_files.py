"""Tracked files work on any machine: none names a package index or a path of one machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from tests.support.catalogs import ROOT
from tests.support.tracked_files import tracked_files

THIS = Path(__file__).resolve()
ALLOWED_AT_TOP = {
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "migrations",
    "policy",
    "proto",
    "pyproject.toml",
    "requirements.lock",
    "service",
    "tests",
}
INDEX = re.compile(
    rb"--(extra-)?index-url|--find-links|--trusted-host"
    rb"|\b(test\.)?pypi\.org\b|\bpythonhosted\.org\b|registry\.npmjs\.org",
    re.IGNORECASE,
)
MACHINE = re.compile(rb"file:/{2,}|/(work|opt|root|tmp/venv|home/\w+|Users/\w+)/")


@pytest.mark.parametrize(
    "pattern",
    [pytest.param(INDEX, id="package index"), pytest.param(MACHINE, id="path of one machine")],
)
def test_no_tracked_file_names_a(pattern: re.Pattern[bytes]) -> None:
    named = [
        f"{path.relative_to(ROOT)}: {found.group().decode()}"
        for path in tracked_files()
        if path != THIS and (found := pattern.search(path.read_bytes()))
    ]

    assert named == []


def test_the_top_level_has_no_other_files() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in tracked_files()}

    assert {name for name in top if not name.startswith(".")} <= ALLOWED_AT_TOP


def test_every_locked_package_has_hashes() -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())

    assert entries
    assert [e.splitlines()[0] for e in entries if "==" not in e or "--hash=sha256:" not in e] == []


def test_the_lock_covers_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    locked = set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    names = {re.split(r"[\[<>=;~! ]", entry, maxsplit=1)[0] for entry in declared}
    names = {name.lower().replace("_", "-") for name in names}

    assert names <= locked
