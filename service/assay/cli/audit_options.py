"""Options of the audit commands that select decisions, and access to the decision log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import Parameter

from assay.cli.options import instant
from assay.cli.output import utc
from assay.decision_log.auditor import Auditor, DecisionQuery
from assay.decision_log.filter_sql import FIELDS
from assay.engine.errors import CallerError, InvalidField
from assay.rule_files.compile import compile_stored
from assay.server.database import open_current_database
from assay.server.settings import engine_version, wall_clock

_MAX_FILTER = 4096  # characters
_FIELD_NAMES = ", ".join(field.name for field in FIELDS)

Filter = Annotated[
    str | None,
    Parameter(name="--filter", help=f"CEL condition on `decision`, with fields {_FIELD_NAMES}."),
]
Since = Annotated[
    str | None,
    Parameter(help="Start of the time range; default: 31 days before --until."),
]
Until = Annotated[
    str | None,
    Parameter(help="End of the time range, exclusive, such as 2025-09-23T12:00:00Z; default: now."),
]


class OptionsConflict(CallerError):
    """Options that exclude or require each other; the message says which to use."""


def parse_query(filter_: str | None, since: str | None, until: str | None) -> DecisionQuery:
    """Return the query that the options describe; raise InvalidField."""
    if filter_ is not None and len(filter_) > _MAX_FILTER:
        raise InvalidField("--filter", filter_, f"at most {_MAX_FILTER} characters")
    query = DecisionQuery(
        until=instant("--until", until) or wall_clock(),
        filter=filter_ or "",
        since=instant("--since", since),
    )
    if query.since is not None and query.since >= query.until:
        raise InvalidField("--since", since, f"before {utc(query.until)}")
    return query


def require_positive(name: str, number: int | None) -> None:
    """Reject zero and negative numbers; raise InvalidField."""
    if number is not None and number < 1:
        raise InvalidField(name, number, "1 or more")


@contextmanager
def open_auditor(url: str | None) -> Iterator[Auditor]:
    """Open an auditor of the database; close the database at the end."""
    with open_current_database(url) as database:
        yield Auditor(database, engine_version(), compile_stored)
