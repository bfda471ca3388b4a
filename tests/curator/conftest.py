"""Lets test modules share their worlds: in importlib mode pytest does not put the repository on the path."""

from __future__ import annotations

import logging

import pytest

from assay.cli.output import configure_logs


@pytest.fixture(autouse=True)
def logs() -> None:
    """As a server writes them: the default shows every value behind an unforeseen error."""
    configure_logs(logging.INFO)
