"""The units of time in which evidence is counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
HOURS_PER_DAY: Final = 24
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Whole hours and days are numbered from here."""
