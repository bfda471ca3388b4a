"""Which decisions a command is about: a filter, a time and how many; and the log that is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from assay.cli.options import instant
from assay.decision_log.auditor import Auditor, DecisionQuery
from assay.decision_log.filter_sql import FIELDS
from assay.engine.errors import CallerError, InvalidField
from assay.rule_files.compile import compile_stored
from assay.server.database import open_current_database
from assay.server.settings import engine_version, wall_clock

LONGEST_FILTER = 4096
_FIELD_NAMES = ", ".join(field.name for field in FIELDS)

Filter = Annotated[
    str | None, Parameter(name="--filter", help=f"CEL over `decision`, which has {_FIELD_NAMES}.")
]
Since = Annotated[
    str | None, Parameter(help="From this time on; by default the 31 days before --until.")
]
Until = Annotated[
    str | None, Parameter(help="Before this time; by default now: 2025-09-23T12:00:00Z.")
]


def question(filter_: str | None, since: str | None, until: str | None) -> DecisionQuery:
    """The question that the options ask; raises InvalidField."""
    if filter_ is not None and len(filter_) > LONGEST_FILTER:
        raise InvalidField("--filter", filter_, f"at most {LONGEST_FILTER} characters")
    asked = DecisionQuery(
        until=instant("--until", until) or wall_clock(),
        filter=filter_ or "",
        since=instant("--since", since),
    )
    if asked.since is not None and asked.since >= asked.until:
        raise InvalidField("--since", since, f"before {utc(asked.until)}")
    return asked


def at_least_one(name: str, number: int | None) -> None:
    """Refuse zero and less."""
    if number is not None and number < 1:
        raise InvalidField(name, number, "1 or more")


class OptionsConflict(CallerError):
    """Options that exclude or require each other; the message says which to use."""


@contextmanager
def auditing(url: str | None) -> Iterator[Auditor]:
    """An auditor of the database, closed at the end."""
    with open_current_database(url) as database:
        yield Auditor(database, engine_version(), compile_stored)


def utc(time: datetime) -> str:
    """A time in UTC, to the microsecond where it has any."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
