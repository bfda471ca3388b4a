"""The neutral observation table.

Each row counts one endpoint's requests in one window, as one source reports them.
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from assay.engine.world.measurements import Observation
from assay.importers import cells
from assay.importers.cells import InvalidItemError
from assay.importers.documents import ObservationDocument, ObservedRow
from assay.importers.table import CsvRow, read_table

# Each count is at most the one before.
_COUNTS = ("requests", "tool_call_requests", "errored_requests")
_REQUIRED = ("model", "provider", "tag", "source", "observed_from", "observed_to", *_COUNTS)
_OPTIONAL = ("reference",)


def read_observations(data: bytes) -> ObservationDocument:
    """Read an observation table; the store checks its endpoints and times."""
    found = read_table(
        data,
        _read_row,
        required=_REQUIRED,
        optional=_OPTIONAL,
        key_of=_key_of,
        repeated="the same endpoint, source and window",
    )
    return ObservationDocument(*found)


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
        reference=row.read("reference", cells.truth) or False,
        **{name: row.need(name, cells.whole) for name in _COUNTS},
    )
    if observation.observed_from >= observation.observed_to:
        raise InvalidItemError("observed_to", row.cells["observed_to"], "later than observed_from")
    for most, name in pairwise(_COUNTS):
        count, limit = getattr(observation, name), getattr(observation, most)
        if count > limit:
            raise InvalidItemError(name, count, f"at most {most}, {limit}")
    return ObservedRow(row.where, model, provider, tag, observation)
