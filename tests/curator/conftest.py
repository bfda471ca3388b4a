"""Lets test modules share their worlds: in importlib mode pytest does not put the repository on the path."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from assay.cli.logs import configure_logs

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)


@pytest.fixture(autouse=True)
def logs() -> None:
    """As a server writes them: the default shows every value behind an unforeseen error."""
    configure_logs(logging.INFO)
