"""Our neutral catalog table: one endpoint a row, units in the column names, blank is unknown.

`model`, `provider` and `tag` are required columns; the others are in `OPTIONAL`, in any order. Lists are parted by
spaces. Two endpoints may share a tag as long as their rows differ. A percentile of throughput is the speed exceeded by
that share of requests. A limit of 0 tokens is no limit stated. `generated_at`, if given, is the same in all rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from assay.engine.errors import BadData
from assay.engine.world.catalog import Endpoint, Model, Percentiles, Prices, Provider
from assay.engine.world.identity import provisional_ids
from assay.importers import cells
from assay.importers.cells import InvalidItemError
from assay.importers.documents import CatalogDocument, Rejection
from assay.importers.table import read_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from assay.importers.table import CsvRow

REQUIRED = ("model", "provider", "tag")
PERCENTILES = ("p50", "p75", "p90", "p99")
OPTIONAL = (
    *(
        "provider_name",
        "quantization",
        "context_length",
        "max_completion_tokens",
        "max_prompt_tokens",
    ),
    *(
        "prompt_usd_per_mtok",
        "completion_usd_per_mtok",
        "cache_read_usd_per_mtok",
        "cache_write_usd_per_mtok",
    ),
    *(
        "audio_usd_per_mtok",
        "request_usd",
        "image_usd",
        "supported_parameters",
        "input_modalities",
        "status",
    ),
    *(
        "uptime_last_30m_percent",
        "uptime_last_1d_percent",
        "supports_implicit_caching",
        "zdr",
        "data_collection",
    ),
    *(f"latency_{point}_s" for point in PERCENTILES),
    *(f"throughput_{point}_tps" for point in PERCENTILES),
    "generated_at",
)


def read_catalog(data: bytes, *, source: str) -> CatalogDocument:
    """Read a whole catalog table; raise `BadData` when more than half of it would have to be refused."""
    table = read_table(data, required=REQUIRED, optional=OPTIONAL)
    endpoints: list[Endpoint] = []
    taken: list[CsvRow] = []
    refused = list(table.rejected)
    modalities: dict[str, tuple[str, ...]] = {}
    for row in table.rows:
        try:
            endpoint = _endpoint(row)
            _agree(row, endpoint.model, modalities)
        except InvalidItemError as error:
            refused.append(Rejection(row.where, str(error)))
        else:
            endpoints.append(endpoint)
            taken.append(row)
    if not endpoints or len(refused) > len(endpoints):
        first = f", first {refused[0].where}: {refused[0].reason}" if refused else ""
        raise BadData(
            f"{len(refused)} of {len(refused) + len(endpoints)} rows cannot be taken{first}"
        )
    return CatalogDocument(
        source=source,
        digest=table.digest,
        generated_at=_generated_at(taken),
        providers=_providers(taken),
        models=tuple(
            Model(model, input_modalities=modalities.get(model))
            for model in _once(e.model for e in endpoints)
        ),
        endpoints=provisional_ids(endpoints),
        rejected=tuple(
            sorted(refused, key=lambda refusal: int(refusal.where.removeprefix("line ")))
        ),
    )


def _endpoint(row: CsvRow) -> Endpoint:
    row.read("provider_name", cells.title)
    row.read("generated_at", cells.moment)
    return Endpoint(
        endpoint_id="",
        model=row.need("model", lambda field, text: cells.named(field, text, cells.MODEL)),
        provider=row.need("provider", lambda field, text: cells.named(field, text, cells.PROVIDER)),
        tag=row.need("tag", lambda field, text: cells.named(field, text, cells.TAG)),
        quantization=row.read(
            "quantization", lambda field, text: cells.named(field, text, cells.WORD)
        )
        or "unknown",
        context_length=row.read("context_length", cells.whole) or None,
        max_completion_tokens=row.read("max_completion_tokens", cells.whole) or None,
        max_prompt_tokens=row.read("max_prompt_tokens", cells.whole) or None,
        supported_parameters=row.read("supported_parameters", cells.words) or (),
        prices=_prices(row),
        status=row.read("status", cells.signed),
        uptime_30m_percent=row.read("uptime_last_30m_percent", cells.percent),
        uptime_1d_percent=row.read("uptime_last_1d_percent", cells.percent),
        latency_s=_percentiles(row, "latency_{}_s", rising=True),
        throughput_tps=_percentiles(row, "throughput_{}_tps", rising=False),
        zdr=row.read("zdr", cells.truth),
        collects_data=row.read("data_collection", cells.collection),
        implicit_caching=row.read("supports_implicit_caching", cells.truth),
    )


def _prices(row: CsvRow) -> Prices:
    return Prices(
        prompt=row.read("prompt_usd_per_mtok", cells.usd),
        completion=row.read("completion_usd_per_mtok", cells.usd),
        cache_read=row.read("cache_read_usd_per_mtok", cells.usd),
        cache_write=row.read("cache_write_usd_per_mtok", cells.usd),
        audio=row.read("audio_usd_per_mtok", cells.usd),
        request_usd=row.read("request_usd", cells.usd),
        image_usd=row.read("image_usd", cells.usd),
    )


def _percentiles(row: CsvRow, column: str, *, rising: bool) -> Percentiles:
    """Read the points of a distribution; the rare ones are the worse ones: slower in both senses."""
    values = [row.read(column.format(point), cells.positive) for point in PERCENTILES]
    stated = [value for value in values if value is not None]
    if stated != sorted(stated, reverse=not rising):
        shown = ", ".join(f"{value:g}" for value in stated)
        raise InvalidItemError(
            column.format("p50…p99"),
            shown,
            "rising" if rising else "falling: p90 is what 90 % exceed",
        )
    return Percentiles(*values)


def _agree(row: CsvRow, model: str, modalities: dict[str, tuple[str, ...]]) -> None:
    """A model takes the same inputs in every row that states them."""
    stated = row.read("input_modalities", cells.words)
    if stated and set(modalities.setdefault(model, stated)) != set(stated):
        raise InvalidItemError(
            "input_modalities", " ".join(stated), f"{' '.join(modalities[model])}, as said before"
        )


def _generated_at(rows: Sequence[CsvRow]) -> datetime | None:
    times = {row.read("generated_at", cells.moment) for row in rows}
    if len(times) > 1:
        raise BadData("generated_at: the rows do not all state the same time")
    return times.pop() if times else None


def _providers(rows: Sequence[CsvRow]) -> tuple[Provider, ...]:
    """Name each provider as most of its rows do."""
    names: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        names[row.cells["provider"]].update(filter(None, [row.cells.get("provider_name")]))
    return tuple(Provider(slug, _commonest(counted)) for slug, counted in names.items())


def _commonest(counted: Counter[str]) -> str | None:
    return counted.most_common(1)[0][0] if counted else None


def _once(names: Iterable[str]) -> Sequence[str]:
    return list(dict.fromkeys(names))
