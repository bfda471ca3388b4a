"""Options of the audit commands that select decisions, and access to the decision log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


class OptionsConflict(CallerError):
    """Options that exclude or require each other; the message says which to use."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Selection:
    """Which decisions a command reads."""

    filter: Annotated[
        str | None, Parameter(help=f"CEL condition on `decision`, with fields {_FIELD_NAMES}.")
    ] = None
    since: Annotated[
        str | None, Parameter(help="Start of the time range; default: 31 days before --until.")
    ] = None
    until: Annotated[
        str | None,
        Parameter(
            help="End of the time range, exclusive, such as 2025-09-23T12:00:00Z; default: now."
        ),
    ] = None

    def query(self) -> DecisionQuery:
        """Return the query that the options describe; raise InvalidField."""
        if self.filter is not None and len(self.filter) > _MAX_FILTER:
            raise InvalidField("--filter", self.filter, f"at most {_MAX_FILTER} characters")
        query = DecisionQuery(
            until=instant("--until", self.until) or wall_clock(),
            filter=self.filter or "",
            since=instant("--since", self.since),
        )
        if query.since is not None and query.since >= query.until:
            raise InvalidField("--since", self.since, f"before {utc(query.until)}")
        return query


ALL_DECISIONS = Selection()


def require_positive(name: str, number: int | None) -> None:
    """Reject zero and negative numbers; raise InvalidField."""
    if number is not None and number < 1:
        raise InvalidField(name, number, "1 or more")


@contextmanager
def open_auditor(url: str | None) -> Iterator[Auditor]:
    """Open an auditor of the database; close the database at the end."""
    with open_current_database(url, create=False) as database:
        yield Auditor(database, engine_version(), compile_stored)
