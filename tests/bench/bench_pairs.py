"""Differential tests on many pairs: generated code, exact evaluator, Google's C++ CEL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.bench.ledger import Ledger

PAIRS = 100_000
TESTS = Path(__file__).resolve().parents[1] / "engine" / "cel" / "test_differential.py"


def test_a_hundred_thousand_random_pairs_agree_with_google_cel(ledger: Ledger) -> None:
    pytest.importorskip("cel_expr_python")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        str(TESTS),
    ]
    environment = {**os.environ, "ASSAY_CEL_PAIRS": str(PAIRS)}
    ran = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd=TESTS.parents[3]
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    ledger.counted("random pairs of expression and data, equal to C++ CEL", PAIRS, at_least=100_000)
