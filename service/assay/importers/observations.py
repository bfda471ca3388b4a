"""The neutral observation table.

Each row counts one endpoint's requests in one window, as one source reports them.
"""

from __future__ import annotations

from datetime import datetime

from assay.engine.world.measurements import Observation
from assay.importers import cells
from assay.importers.cells import InvalidItemError
from assay.importers.documents import ObservationDocument, ObservedRow
from assay.importers.table import CsvRow, read_table

_COUNTS = ("requests", "tool_call_requests", "errored_requests")
_REQUIRED = ("model", "provider", "tag", "source", "observed_from", "observed_to", *_COUNTS)
_OPTIONAL = ("reference",)


def read_observations(data: bytes) -> ObservationDocument:
    """Read an observation table; the store checks its endpoints and times."""
    table = read_table(data, required=_REQUIRED, optional=_OPTIONAL)
    found = table.read(_read_row, _key_of, "the same endpoint, source and window")
    return ObservationDocument(table.digest, *found)


def _key_of(row: ObservedRow) -> tuple[str, str, datetime, datetime]:
    o = row.observation
    return o.endpoint_id, o.source, o.observed_from, o.observed_to


def _read_row(row: CsvRow) -> ObservedRow:
    model = row.need("model", cells.MODEL)
    provider = row.need("provider", cells.PROVIDER)
    tag = row.need("tag", cells.TAG)
    observation = Observation(
        endpoint_id=f"{model}@{tag}",
        source=row.need("source", cells.TENANT),
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
    for name, most in (
        ("tool_call_requests", "requests"),
        ("errored_requests", "tool_call_requests"),
    ):
        count, limit = getattr(o, name), getattr(o, most)
        if count > limit:
            raise InvalidItemError(name, count, f"at most {most}, {limit}")
