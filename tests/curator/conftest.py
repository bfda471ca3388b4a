"""Configure logs for the tests of the curator as a server does."""

from __future__ import annotations

import logging

import pytest

from assay.cli.output import configure_logs


@pytest.fixture(autouse=True)
def logs() -> None:
    """Configure logs as a server does; the default shows the values behind unexpected errors."""
    configure_logs(logging.INFO)
