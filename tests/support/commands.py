"""Commands that end: in this process, or each in a process of its own."""

from __future__ import annotations

import io
import json
import logging
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.catalogs import POLICY
from tests.support.processes import environment

from assay.cli.app import run
from assay.cli.output import configure_logs

MEGABYTE = "x" * 1_000_000
HOMOGLYPH = "l\N{CYRILLIC SMALL LETTER A}b/mixed"


@dataclass(frozen=True)
class CommandResult:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line that says what is wrong, without the program's name."""
        (line,) = self.err.splitlines()
        assert line.startswith("assay: ")
        return line.removeprefix("assay: ")


def assay(*arguments: object) -> CommandResult:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        configure_logs(logging.WARNING)  # as `main` does
        code = run([str(argument) for argument in arguments])
    return CommandResult(code, out.getvalue(), err.getvalue())


def assert_rejected(ran: CommandResult, code: int, *words: str) -> None:
    """One clear line on standard error, and nothing on standard output."""
    assert (ran.code, ran.out) == (code, ""), ran
    assert ran.line.isprintable()
    for word in words:
        assert word in ran.line


def assay_process(*arguments: object, **changes: str) -> CommandResult:
    """Run a command as a user does: a process of its own, its output in pipes."""
    ended = subprocess.run(
        [sys.executable, "-m", "assay.cli", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
    )
    return CommandResult(ended.returncode, ended.stdout, ended.stderr)


def copy_policy(folder: Path) -> Path:
    """A copy of the shipped rule files, to be edited."""
    return Path(shutil.copytree(POLICY, folder / "policy"))
