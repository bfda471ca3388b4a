"""The neutral catalog table: one endpoint per row, units in column names; blank means unknown.

The columns are those that `Endpoint` declares, in any order; `model`, `provider` and `tag` are
required. Lists are separated by spaces. Two endpoints may share a tag if their rows differ. A
percentile of throughput is the speed that this share of requests reaches. A limit of 0 tokens means
that no limit is stated. `generated_at`, if given, is the same in all rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple

from assay.engine.errors import BadData
from assay.engine.world.catalog import Endpoint, Model, Percentiles, Provider
from assay.engine.world.declarations import Field, build, declared_fields
from assay.engine.world.identity import provisional_ids
from assay.importers import cells
from assay.importers.cells import InvalidItemError
from assay.importers.documents import CatalogDocument
from assay.importers.table import CsvRow, read_table

REQUIRED = ("model", "provider", "tag")
Reader = Callable[[str, str], object]


_BY_COLUMN: Mapping[str, Reader] = {
    "model": cells.MODEL,
    "provider": cells.PROVIDER,
    "tag": cells.TAG,
    "data_collection": cells.collection,
    "provider_name": cells.title,
}
_BY_TYPE: Mapping[tuple[type, str], Reader] = {
    (str, ""): cells.WORD,
    (int, ""): cells.signed,
    (int, "tokens"): lambda column, text: cells.whole(column, text) or None,
    (float, "USD"): cells.usd,
    (float, "USD per million tokens"): cells.usd,
    (float, "percent"): cells.percent,
    (float, "seconds"): cells.positive,
    (float, "tokens per second"): cells.positive,
    (bool, ""): cells.truth,
    (tuple, ""): cells.words,
}
_COLUMNS: Mapping[str, tuple[Field, Reader]] = {
    item.spellings.csv: (
        item,
        _BY_COLUMN.get(item.spellings.csv) or _BY_TYPE[item.kind, item.spellings.unit],
    )
    for item in declared_fields(Endpoint)
    if item.spellings.csv
}
OPTIONAL = (
    *(column for column in _COLUMNS if column not in REQUIRED),
    "input_modalities",
    "generated_at",
)


def read_catalog(data: bytes, *, source: str) -> CatalogDocument:
    """Read a whole catalog table.

    Raises `BadData` if more than half of its rows would have to be rejected.
    """
    modalities: dict[str, tuple[str, ...]] = {}

    def read_row(row: CsvRow) -> tuple[CsvRow, Endpoint]:
        endpoint = _endpoint(row)
        stated = row.read("input_modalities", cells.words)
        if stated and set(known := modalities.setdefault(endpoint.model, stated)) != set(stated):
            expected = f"{' '.join(known)}, as in a row before"
            raise InvalidItemError("input_modalities", " ".join(stated), expected)
        return row, endpoint

    digest, accepted, rejected = read_table(data, read_row, required=REQUIRED, optional=OPTIONAL)
    if not accepted or len(rejected) > len(accepted):
        first = f", first {rejected[0].where}: {rejected[0].reason}" if rejected else ""
        count = len(rejected) + len(accepted)
        raise BadData(f"{len(rejected)} of {count} rows are invalid{first}")
    rows, endpoints = zip(*accepted, strict=True)
    times = {row.read("generated_at", cells.moment) for row in rows}
    if len(times) > 1:
        raise BadData("generated_at: the rows do not all state the same time")
    models = dict.fromkeys(endpoint.model for endpoint in endpoints)
    return CatalogDocument(
        source=source,
        digest=digest,
        generated_at=times.pop(),
        providers=_providers(rows),
        models=tuple(Model(name, input_modalities=modalities.get(name)) for name in models),
        endpoints=provisional_ids(endpoints),
        rejected=rejected,
    )


def _endpoint(row: CsvRow) -> Endpoint:
    row.read("generated_at", cells.moment)
    values: dict[str, object] = {}
    for column, (item, reader) in _COLUMNS.items():
        value = row.need(column, reader) if column in REQUIRED else row.read(column, reader)
        if value is not None:
            values[item.path] = value
    endpoint = build(Endpoint, values, endpoint_id="")
    _check_monotonic("latency_p50…p99_s", endpoint.latency_s, rising=True)
    _check_monotonic("throughput_p50…p99_tps", endpoint.throughput_tps, rising=False)
    return endpoint


def _check_monotonic(columns: str, points: Percentiles, *, rising: bool) -> None:
    """Reject a distribution whose rare points are better than its common ones."""
    stated = [value for value in astuple(points) if value is not None]
    if stated != sorted(stated, reverse=not rising):
        expected = "rising" if rising else "falling: p90 is what 90 % exceed"
        raise InvalidItemError(columns, ", ".join(f"{value:g}" for value in stated), expected)


def _providers(rows: Sequence[CsvRow]) -> tuple[Provider, ...]:
    """Name each provider as most of its rows do."""
    names: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        names[row.cells["provider"]].update(filter(None, [row.cells.get("provider_name")]))
    return tuple(
        Provider(slug, counted.most_common(1)[0][0] if counted else None)
        for slug, counted in names.items()
    )
