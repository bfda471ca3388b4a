"""Options that several commands share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.engine.errors import InvalidField


def instant(name: str, text: str | None) -> datetime | None:
    """Parse an ISO 8601 time with a zone, and return it in UTC; raises InvalidField."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        utc = time.astimezone(UTC) if time.tzinfo else None
    except (ValueError, OverflowError):
        utc = None
    if utc is None:
        raise InvalidField(name, text, "a time with a zone, such as 2025-09-23T12:00:00Z")
    return utc


DatabaseUrl = Annotated[
    str | None,
    Parameter(
        name="--database",
        help="Database URL: sqlite:///PATH or postgresql://USER@HOST/NAME. [env: ASSAY_DATABASE]",
    ),
]
PolicyDir = Annotated[
    Path | None,
    Parameter(help="Directory of rule files; by default the shipped ones. [env: ASSAY_POLICY]"),
]
JournalDir = Annotated[
    Path | None,
    Parameter(
        help="Directory of the journal, its signing key and its signed heads. [env: ASSAY_JOURNAL]"
    ),
]
Json = Annotated[bool, Parameter(help="Print JSON for programs instead of tables.")]
Now = Annotated[
    str | None,
    Parameter(help="Judge as of this time instead of the wall clock: 2025-09-23T12:00:00Z."),
]
Tenant = Annotated[str, Parameter(help="The tenant of the request.")]
