"""Our neutral observation table: counts of one endpoint, from one source, in one time window, a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.engine.world.measurements import Observation
from assay.importers import cells
from assay.importers.cells import InvalidItemError
from assay.importers.documents import ObservationDocument, ObservedRow, Rejection
from assay.importers.table import read_table

if TYPE_CHECKING:
    from datetime import datetime

    from assay.importers.table import CsvRow

COUNTS = ("requests", "tool_call_requests", "errored_requests")
REQUIRED = ("model", "provider", "tag", "source", "observed_from", "observed_to", *COUNTS)
OPTIONAL = ("reference",)


@dataclass(frozen=True, slots=True)
class Window:
    """What may be counted only once in a file."""

    endpoint_id: str
    source: str
    observed_from: datetime
    observed_to: datetime


def read_observations(data: bytes) -> ObservationDocument:
    """Read an observation table; whether its endpoints exist and its times are past is the caller's to check."""
    table = read_table(data, required=REQUIRED, optional=OPTIONAL)
    rows: list[ObservedRow] = []
    refused = list(table.rejected)
    seen: dict[Window, str] = {}
    for row in table.rows:
        try:
            observed = _observed(row)
        except InvalidItemError as error:
            refused.append(Rejection(row.where, str(error)))
            continue
        o = observed.observation
        first = seen.setdefault(
            Window(o.endpoint_id, o.source, o.observed_from, o.observed_to), row.where
        )
        if first == row.where:
            rows.append(observed)
        else:
            refused.append(Rejection(row.where, f"the same endpoint, source and window as {first}"))
    return ObservationDocument(table.digest, tuple(rows), tuple(sorted(refused, key=_line)))


def _observed(row: CsvRow) -> ObservedRow:
    model = row.need("model", lambda field, text: cells.named(field, text, cells.MODEL))
    provider = row.need("provider", lambda field, text: cells.named(field, text, cells.PROVIDER))
    tag = row.need("tag", lambda field, text: cells.named(field, text, cells.TAG))
    observation = Observation(
        endpoint_id=f"{model}@{tag}",
        source=row.need("source", lambda field, text: cells.named(field, text, cells.TENANT)),
        observed_from=row.need("observed_from", cells.moment),
        observed_to=row.need("observed_to", cells.moment),
        requests=row.need("requests", cells.whole),
        tool_call_requests=row.need("tool_call_requests", cells.whole),
        errored_requests=row.need("errored_requests", cells.whole),
        reference=row.read("reference", cells.truth) or False,
    )
    _check(row, observation)
    return ObservedRow(row.where, model, provider, tag, observation)


def _check(row: CsvRow, o: Observation) -> None:
    if o.observed_from >= o.observed_to:
        raise InvalidItemError("observed_to", row.cells["observed_to"], "later than observed_from")
    if o.tool_call_requests > o.requests:
        raise InvalidItemError(
            "tool_call_requests", o.tool_call_requests, f"at most requests, {o.requests}"
        )
    if o.errored_requests > o.tool_call_requests:
        raise InvalidItemError(
            "errored_requests",
            o.errored_requests,
            f"at most tool_call_requests, {o.tool_call_requests}",
        )


def _line(refusal: Rejection) -> int:
    return int(refusal.where.removeprefix("line "))
