"""The tutorial in `policy/README.md` works: its files are written and its commands run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.commands import assay, copy_policy

from assay.server.settings import policy_dir

TUTORIAL = (policy_dir() / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TUTORIAL, re.DOTALL)
DURATION = re.compile(r" in \d+\.\d\d s$")


def commands(block: str) -> Iterator[tuple[list[str], str]]:
    """Yield every command of a block with the output that is shown below it."""
    for part in block.removeprefix("$ ").split("\n$ "):
        command, _, shown = part.partition("\n")
        yield shlex.split(command), shown.rstrip()


def test_every_file_and_command_of_the_tutorial_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_policy(tmp_path)
    (tmp_path / "broken").mkdir()
    monkeypatch.chdir(tmp_path)
    ran = 0
    for kind, block in BLOCKS:
        if kind == "yaml":
            name = block.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(block, encoding="utf-8")
            continue
        assert kind == "console"
        for (program, *arguments), shown in commands(block):
            assert program == "assay"
            result = assay(*arguments)
            lines = [line.rstrip() for line in (result.out + result.err).splitlines()]
            assert [DURATION.sub("", line) for line in lines if not line.startswith("digest ")] == (
                shown.splitlines()
            )
            ran += 1
    assert ran == TUTORIAL.count("\n$ ") >= 4


def test_the_shipped_cases_pass_together_with_the_tutorials(tmp_path: Path) -> None:
    copy_policy(tmp_path)
    for kind, block in BLOCKS:
        name = block.partition("\n")[0].removeprefix("# ")
        if kind == "yaml" and name.startswith("policy/"):
            (tmp_path / name).write_text(block, encoding="utf-8")
    assert assay("policy", "test", tmp_path / "policy").code == 0


def test_the_tutorial_has_at_most_1500_words() -> None:
    assert len(TUTORIAL.split()) <= 1500
