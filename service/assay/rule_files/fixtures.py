"""The fixtures of a rule test file: models, endpoints and evidence under short keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from assay.engine.evidence.benchmarks import in_unit
from assay.engine.policy.faults import Fault
from assay.engine.world.catalog import Endpoint, Model, PriceOverride, Prices
from assay.engine.world.clock import EPOCH, HOUR, HOURS_PER_DAY
from assay.engine.world.declarations import Field, build, declared_fields
from assay.engine.world.identity import provisional_ids
from assay.engine.world.measurements import (
    UNITS,
    UNKNOWN,
    BenchmarkRun,
    Counts,
    IgnoreVote,
    Observation,
    Series,
    TrafficCounts,
)
from assay.engine.world.traffic_table import TrafficTable
from assay.engine.world.world import Preference, TenantSettings, World
from assay.rule_files.nodes import Table
from assay.rule_files.schemas import unknown_word_message

WINDOW = timedelta(days=1)
SOURCE = "fixture"
HALF_LIFE = timedelta(hours=168)


@dataclass(frozen=True, slots=True)
class Fixtures:
    """The values that a file's tests share, by key."""

    models: Mapping[str, Model]
    endpoints: Mapping[str, Endpoint]
    observations: Mapping[str, Observation]
    preferences: tuple[Preference, ...] = ()
    tenants: tuple[TenantSettings, ...] = ()
    benchmarks: tuple[BenchmarkRun, ...] = ()
    ignore_votes: tuple[IgnoreVote, ...] = ()
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    traffic: tuple[TrafficCounts, ...] = ()

    def world(self, endpoints: Collection[str], observations: Collection[str]) -> World:
        """Return the world with only these endpoints and observations.

        Its traffic is that of any way of folding evidence, under an empty name.
        """
        present = tuple(endpoint for key, endpoint in self.endpoints.items() if key in endpoints)
        ids = {endpoint.endpoint_id for endpoint in present}
        listed = {model.model: model for model in self.models.values()}
        listed |= {e.model: Model(e.model) for e in present if e.model not in listed}
        made = (seen for key, seen in self.observations.items() if key in observations)
        return World(
            models=tuple(listed.values()),
            endpoints=present,
            observations=tuple(seen for seen in made if seen.endpoint_id in ids),
            preferences=self.preferences,
            tenants=self.tenants,
            benchmarks=tuple(run for run in self.benchmarks if run.endpoint_id in ids),
            ignore_votes=self.ignore_votes,
            refused=self.refused,
            traffic={"": TrafficTable.of(c for c in self.traffic if c.endpoint_id in ids)},
        )


def fixtures(block: Table, now: datetime, faults: list[Fault]) -> Fixtures:
    """Return the fixtures of a file; reading goes on after a fault, so that all are found."""
    models = {
        key: build(Model, {"model": "", **stated_values(Model, table)})
        for key, table in block.table("models").sub_tables().items()
    }
    offers = block.table("endpoints").sub_tables()
    placed = provisional_ids(_endpoint(table, models, faults) for table in offers.values())
    endpoints = dict(zip(offers, placed, strict=True))
    seen = block.table("observations").sub_tables()
    return Fixtures(
        models=models,
        endpoints=endpoints,
        observations={
            key: _observation(table, endpoints, now, faults) for key, table in seen.items()
        },
        preferences=tuple(
            Preference(
                tenant=table.text("tenant"),
                kind=table.text("kind"),
                target=table.text("target"),
                model=named_model(name, models) if (name := table.text("model")) else None,
            )
            for table in block.tables("preferences")
        ),
        tenants=tuple(
            TenantSettings(
                tenant=table.text("tenant"),
                only=table.texts("only"),
                ignore=table.texts("ignore"),
                zdr=table.flag("zdr"),
                deny_data_collection=table.flag("deny_data_collection"),
            )
            for table in block.tables("tenants")
        ),
        benchmarks=tuple(
            _benchmark(table, endpoints, now, faults) for table in block.tables("benchmarks")
        ),
        ignore_votes=tuple(
            vote for table in block.tables("ballots") for vote in _votes(table, models)
        ),
        refused=_refused(block.table("refused"), endpoints, faults),
        traffic=tuple(
            counts
            for table in block.tables("traffic")
            for counts in _traffic(table, endpoints, now, faults)
        ),
    )


def _refused(
    table: Table, endpoints: Mapping[str, Endpoint], faults: list[Fault]
) -> dict[str, tuple[str, ...]]:
    """Read what endpoints are known to refuse, by their ids."""
    for key in table.entries.keys() - endpoints.keys():
        message = unknown_word_message("endpoint", key, endpoints)
        faults.append(Fault(table.place_of_key(key), message))
    return {
        endpoints[key].endpoint_id: table.texts(key) for key in table.entries if key in endpoints
    }


def named_model(text: str, models: Mapping[str, Model]) -> str:
    """Return a model's full name; a key is replaced by its model and keeps its suffixes."""
    key, colon, suffixes = text.partition(":")
    return f"{models[key].model}{colon}{suffixes}" if key in models else text


def _endpoint(table: Table, models: Mapping[str, Model], faults: list[Fault]) -> Endpoint:
    """Read an endpoint, still without its id; a file with one model need not name it."""
    name = named_model(table.text("model"), models)
    if not name and len(models) == 1:
        name = next(iter(models.values())).model
    if not name and models:
        message = f"key `model` is missing: the file has {len(models)} models"
        faults.append(Fault(table.place, message))
    elif name and "/" not in name:
        faults.append(Fault(table.place_of("model"), unknown_word_message("model", name, models)))
    provider = table.text("provider")
    stated = {"tag": provider, "provider": provider, **stated_values(Endpoint, table)}
    overrides = tuple(
        PriceOverride(
            prices=build(Prices, stated_values(Prices, item.table("prices"))),
            min_prompt_tokens=item.whole("min_prompt_tokens"),
            utc_start=item.whole("utc_start"),
            utc_end=item.whole("utc_end"),
            utc_days=item.wholes("utc_days"),
        )
        for item in table.tables("overrides")
    )
    return build(Endpoint, {**stated, "model": name}, endpoint_id="", overrides=overrides)


def _observation(
    table: Table, endpoints: Mapping[str, Endpoint], now: datetime, faults: list[Fault]
) -> Observation:
    """Read counts of one endpoint in one window, by default the day before `now`."""
    until = moment(table, "to", now, faults)
    since = moment(table, "from", until - WINDOW, faults)
    names = ("requests", "tool_call_requests", "errored_requests")
    counts = [table.whole(name) or 0 for name in names]
    if since >= until:
        place = table.place_of("from" if table.has("from") else "to")
        faults.append(Fault(place, "`from` must be before `to`"))
    if counts != sorted(counts, reverse=True):
        message = f"requests, tool_call_requests and errored_requests must not grow, found {counts}"
        faults.append(Fault(table.place, message))
    return Observation(
        endpoint_id=_endpoint_id(table, endpoints, faults),
        source=table.text("source", SOURCE),
        observed_from=since,
        observed_to=until,
        requests=counts[0],
        tool_call_requests=counts[1],
        errored_requests=counts[2],
        reference=table.flag("reference"),
    )


def _traffic(
    table: Table, endpoints: Mapping[str, Endpoint], now: datetime, faults: list[Fault]
) -> Iterator[TrafficCounts]:
    """Return the same counts for each of some tenants, as if reported in the last day."""
    first, end = table.whole("first") or 1, (now - EPOCH) // HOUR
    names = ("requests", "tool_call_requests", "errored_requests")
    requests, calls, errored = (table.whole(name) or 0 for name in names)
    endpoint_id = _endpoint_id(table, endpoints, faults)
    if not requests >= calls >= errored:
        found = [requests, calls, errored]
        message = f"requests, tool_call_requests and errored_requests must not grow, found {found}"
        faults.append(Fault(table.place, message))
    for number in range(first, first + (table.whole("tenants") or 0)):
        yield TrafficCounts(
            endpoint_id=endpoint_id,
            source=table.text("source", SOURCE),
            tenant=f"tenant-{number:05}",
            stratum=0,
            requests=float(requests),
            tool_call_requests=float(calls),
            errored_requests=float(errored),
            auto_requests=float(requests),
            auto_tool_call_requests=float(calls),
            observed=Counts(requests, calls, errored),
            hour_calls=0,
            hour_errored=0,
            first_hour=end - HOURS_PER_DAY * (table.whole("days") or 1),
            last_hour=end - 1,
            half_life=HALF_LIFE,
        )


def _benchmark(
    table: Table, endpoints: Mapping[str, Endpoint], now: datetime, faults: list[Fault]
) -> BenchmarkRun:
    """Read one score of one endpoint, by default of `now`."""
    unit, score = table.text("unit", "fraction"), table.double("score") or 0.0
    if unit in UNITS and not in_unit(score, unit):
        lowest, highest = UNITS[unit]
        message = f"a {unit} is from {lowest:g} to {highest:g}, found {score:g}"
        faults.append(Fault(table.place_of("score"), message))
    version, judge = table.text("version", UNKNOWN), table.text("judge", UNKNOWN)
    return BenchmarkRun(
        endpoint_id=_endpoint_id(table, endpoints, faults),
        source=table.text("source", SOURCE),
        series=Series(table.text("suite"), version, judge, table.text("metric", "score"), unit),
        score=score,
        run_at=moment(table, "at", now, faults),
    )


def _votes(table: Table, models: Mapping[str, Model]) -> Iterator[IgnoreVote]:
    """Return the votes of some eligible tenants, of which the first ones ignore each target."""
    model = named_model(table.text("model"), models)
    against = table.table("ignores")
    counts = {target: against.whole(target) or 0 for target in against.entries}
    for number in range(table.whole("tenants") or 0):
        ignored = frozenset(target for target, count in counts.items() if number < count)
        yield IgnoreVote(f"eligible-{number + 1}", model, ignored)


def _endpoint_id(table: Table, endpoints: Mapping[str, Endpoint], faults: list[Fault]) -> str:
    """Return the id of the endpoint that a table names by its key; empty for an unknown one."""
    found = table.scalar("endpoint")
    if found and found.text in endpoints:
        return endpoints[found.text].endpoint_id
    if found:
        faults.append(Fault(found.place, unknown_word_message("endpoint", found.text, endpoints)))
    return ""


def moment(table: Table, key: str, default: datetime, faults: list[Fault]) -> datetime:
    """Read a time with its zone; the result is in UTC."""
    text = table.maybe_text(key)
    if text is None:
        return default
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        faults.append(Fault(table.place_of(key), f"not a valid time: `{text[:40]}`"))
        return default


def stated_values(owner: type, table: Table) -> dict[str, object]:
    """Return the declared fields that a table states, by path; a number alone is the median."""
    read = ((item.path, _read(item, table)) for item in declared_fields(owner))
    return {path: value for path, value in read if value is not None}


def _read(item: Field, table: Table) -> object:
    *holders, name = item.path.split(".")
    for holder in holders:
        alone = table.number(holder)
        if alone is not None:
            return float(alone) if name == "p50" else None
        table = table.table(holder)
    return _READERS[item.kind](table, name)


def _bytes(table: Table, key: str) -> bytes | None:
    """Read hexadecimal digits; the schema has reported text that is not."""
    try:
        return bytes.fromhex(table.text(key))
    except ValueError:
        return None


_READERS: Mapping[type, Callable[[Table, str], object]] = {
    bool: lambda table, key: table.flag(key) if table.scalar(key) else None,
    bytes: _bytes,
    float: Table.double,
    int: Table.whole,
    str: Table.maybe_text,
    tuple: Table.maybe_texts,
}
