"""Readers of benchmark scores: names of suites and metrics, scores in their unit, complete runs."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal

from assay.engine.evidence.benchmarks import COMPLETE_PERCENT, in_unit, is_complete
from assay.engine.world.measurements import UNITS
from assay.importers import cells
from assay.importers.cells import Form, InvalidItemError

SUITE = Form(
    re.compile(r"[A-Za-z0-9][\w.:/+()\[\]=,-]*( [\w.:/+()\[\]=,-]+)*", re.ASCII),
    100,
    "a plain suite name without @",
)
VERSION = Form(re.compile(r"[A-Za-z0-9][\w.:/+=,-]*", re.ASCII), 100, "a plain version")
METRIC = Form(re.compile(r"[A-Za-z0-9][\w.:/^+()\[\]=,%@-]*", re.ASCII), 128, "a plain metric name")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
_MANY_TRIALS = 1000


def score(field: str, text: str, unit: str) -> float:
    """Read a score within the range of its unit."""
    lowest, highest = UNITS[unit]
    expected = f"a {unit} from {lowest:g} to {highest:g}"
    if not _NUMBER.fullmatch(text):
        raise InvalidItemError(field, text, expected)
    value = float(Decimal(text))
    if not in_unit(value, unit):
        raise InvalidItemError(field, text, expected)
    return value


def unit(field: str, text: str) -> str:
    """Read the unit of a score."""
    if text not in UNITS:
        raise InvalidItemError(field, text, f"one of {', '.join(UNITS)}")
    return text


def day(field: str, text: str) -> datetime:
    """Read a time with its zone, or a day, which means its beginning in UTC."""
    try:
        found = date.fromisoformat(text) if len(text) == len("2026-08-13") else None
    except ValueError:
        found = None
    if found is not None:
        return datetime(found.year, found.month, found.day, tzinfo=UTC)
    try:
        return cells.moment(field, text)
    except InvalidItemError as error:
        raise InvalidItemError(
            field, text, "a day or an ISO time with a zone, such as 2026-08-13"
        ) from error


def trials(field: str, value: int) -> int:
    """Reject a number of trials out of range."""
    if not 1 <= value <= _MANY_TRIALS:
        raise InvalidItemError(field, value, f"from 1 to {_MANY_TRIALS}")
    return value


def completed(field: str, done: int, total: int) -> None:
    """Reject a run that completed too few tasks to represent the suite."""
    if done > total:
        raise InvalidItemError(field, done, f"at most all {total} tasks")
    if not is_complete(done, total):
        raise InvalidItemError(
            field, done, f"at least {COMPLETE_PERCENT} % of {total} tasks: the run is incomplete"
        )
