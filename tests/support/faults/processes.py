"""Runs `kill_points` as a process of its own and collects its results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def attempt_targets(
    directory: Path, template: Path, signal: str, *, sample: int, seed: int
) -> list[dict[str, Any]]:
    """Return one result for each target; a sample of 0 takes all targets."""
    module = "tests.support.faults.kill_points"
    command = [sys.executable, "-m", module, str(directory), str(template), signal]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'service'}:{ROOT}"}
    ran = subprocess.run(
        [*command, str(sample), str(seed)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]
