"""What is committed works on any machine: it names no package index and no path of the machine it was written on."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
THIS = Path(__file__).resolve()
ALLOWED_AT_TOP = {
    "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "migrations", "policy", "proto", "pyproject.toml",
    "requirements.lock", "service", "tests",
}  # fmt: skip
INDEX = re.compile(
    rb"--(extra-)?index-url|--find-links|--trusted-host|\b(test\.)?pypi\.org\b|\bpythonhosted\.org\b|registry\.npmjs\.org",
    re.IGNORECASE,
)
MACHINE = re.compile(rb"file:/{2,}|/(work|opt|root|tmp/venv|home/\w+|Users/\w+)/")


def tracked() -> list[Path]:
    """Files known to git; skips where there is no git or no repository, as in an unpacked source archive."""
    if shutil.which("git") is None or not (TOP / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - the git on the PATH is the developer's own
        cwd=TOP,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return [
        path
        for name in listed.stdout.decode().split("\0")
        if name and (path := TOP / name).is_file()
    ]


@pytest.mark.parametrize(
    "pattern",
    [pytest.param(INDEX, id="package index"), pytest.param(MACHINE, id="path of one machine")],
)
def test_no_tracked_file_names_a(pattern: re.Pattern[bytes]) -> None:
    named = [
        f"{path.relative_to(TOP)}: {found.group().decode()}"
        for path in tracked()
        if path != THIS and (found := pattern.search(path.read_bytes()))
    ]

    assert named == []


def test_the_top_level_holds_only_what_the_house_has_rooms_for() -> None:
    top = {path.relative_to(TOP).parts[0] for path in tracked()}

    assert {name for name in top if not name.startswith(".")} <= ALLOWED_AT_TOP


def test_every_locked_package_has_hashes() -> None:
    entries = re.split(r"\n(?=\S)", (TOP / "requirements.lock").read_text().strip())

    assert entries
    assert [e.splitlines()[0] for e in entries if "==" not in e or "--hash=sha256:" not in e] == []


def test_the_lock_covers_every_declared_dependency() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    locked = set(
        re.findall(r"^([a-z0-9-]+)==", (TOP / "requirements.lock").read_text(), re.MULTILINE)
    )
    names = {
        re.split(r"[\[<>=;~! ]", one, maxsplit=1)[0].lower().replace("_", "-") for one in declared
    }

    assert names <= locked
