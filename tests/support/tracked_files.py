"""The files that git tracks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.catalogs import ROOT


def tracked_files() -> list[Path]:
    """Return the tracked files; skip the test without git, as in an unpacked source archive."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - the git on the PATH is the developer's own
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    names = filter(None, listed.stdout.decode().split("\0"))
    return [path for name in names if (path := ROOT / name).is_file()]
