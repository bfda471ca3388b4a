"""Evidence from traffic as of a closed hour: counts, served speed, votes by tenants, and refusals.

How it works. Counters are kept by hour and, with the same counts, by day. Judging reads yesterday
and today by the hour and everything before by the day. A count is weighted by its age; weights are
whole numbers, so sums are exact and neither their order nor the database matters.

Sums are made in columns, from the rows of a `CounterCache`: a curator that keeps its caches reads
only what has grown. A tenant that has several pseudonyms counts as one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Select,
    Table,
    case,
    cast,
    func,
    select,
)

from assay.engine.evidence.decay import (
    RATE_DAYS,
    WEIGHT_SCALE,
    EvidenceSpec,
    counting_window,
    day_weight,
    half_life_step,
    half_lives,
    hour_weight,
    most_calls_a_day,
)
from assay.engine.evidence.ignores import Voter, ignore_votes
from assay.engine.evidence.refusals import WINDOW_DAYS, RefusalCounts, learn_refusals
from assay.engine.evidence.speed import NO_PERCENTILES, HistogramBin, latencies, throughputs, uptime
from assay.engine.snapshot.pool_memory import CountedHours
from assay.engine.world.catalog import Endpoint
from assay.engine.world.clock import EPOCH, HOUR, HOURS_PER_DAY
from assay.engine.world.measurements import IgnoreVote, ServedSpeed
from assay.engine.world.traffic_table import TrafficColumns, TrafficTable
from assay.engine.world.world import Preference
from assay.outcomes.counting import bounds
from assay.store.counter_cache import (
    NOT_COUNTED,
    CounterCache,
    CounterCaches,
    Ints,
    Weighing,
)
from assay.store.evidence_tables import (
    capability_counter,
    evidence_day,
    service_counter,
    tenant_activity,
    tenant_affiliation,
    tenant_ignore,
    tenant_provider,
)
from assay.store.tables import tenant_pseudonym
from assay.store.types import NAME
from assay.store.upserts import keep_first

_LARGE: Final = 12
"""Rows with a smaller part of a tenant's cap are not looked at: it has a row for each stratum."""


def load_traffic(
    connection: Connection,
    specs: Mapping[str, EvidenceSpec],
    as_of: datetime,
    caches: CounterCaches | None = None,
    counted: CountedHours = NOT_COUNTED,
) -> dict[str, TrafficTable]:
    """Sum the counters of ended hours for each spec.

    For a caller that keeps `caches`, only changes are read. `counted` is what has counted of hours
    that were closed before; those that have other counts now are listed as late.
    """
    known = CounterCaches() if caches is None else caches
    return {
        key: _table(connection, spec, as_of, known.of(key), counted) for key, spec in specs.items()
    }


def _table(
    connection: Connection,
    spec: EvidenceSpec,
    as_of: datetime,
    cache: CounterCache,
    counted: CountedHours,
) -> TrafficTable:
    window, ladder = counting_window(spec, as_of), half_lives(spec)
    steps = _half_life_steps(connection, spec, window.end // HOURS_PER_DAY)
    days = range(window.first_day, window.last_day + 1)
    hours = range(window.first_hour, window.end)
    cache.days.refresh(connection, days)
    cache.hours.refresh(connection, hours)
    sums = cache.sum_cells(
        Weighing(
            by_day=_weights(days, ladder, day_weight, window.end),
            by_hour=_weights(hours, ladder, hour_weight, window.end),
            first_day=days.start,
            first_hour=hours.start,
            steps=steps,
            closed=window.end - 1,
        ),
        cache.hours.changed_since(counted),
        _aliases(connection),
    )
    endpoints = sums.names[0]
    half_life = np.array([ladder[steps.get(name, len(ladder) - 1)] for name in endpoints])
    answered = np.bincount(sums.endpoint, sums.counts[0], len(endpoints)) > 0
    fresh = {name for name, any_ in zip(endpoints, answered.tolist(), strict=True) if any_}
    columns = TrafficColumns.of(
        (sums.endpoint, sums.source, sums.tenant, sums.stratum),
        [each / WEIGHT_SCALE for each in sums.weighted],
        [*sums.counts[:3], *sums.closed, sums.first, sums.last],
        half_life[sums.endpoint] if endpoints else np.zeros(0),
    )
    stale = _old_endpoints(connection, window.first_day) - fresh
    return TrafficTable(*sums.names, columns, sums.late, frozenset(stale))


def _weights(
    spans: range, ladder: Sequence[float], weigh: Callable[[float, int, int], int], end: int
) -> Ints:
    """Return the weights of hours or days, by half-life step."""
    return np.array([[weigh(half_life, span, end) for span in spans] for half_life in ladder])


def _aliases(connection: Connection) -> Mapping[str, str]:
    """Return the pseudonyms of tenants that have several, each with the tenant's newest."""
    own = tenant_pseudonym.c
    several = select(own.tenant).group_by(own.tenant).having(func.count() > 1)
    query = select(own.tenant, own.pseudonym).where(own.tenant.in_(several))
    query = query.order_by(own.created_at, own.pseudonym)
    pseudonyms: defaultdict[str, list[str]] = defaultdict(list)
    for tenant, pseudonym in connection.execute(query):
        pseudonyms[tenant].append(pseudonym)
    return {each: own[-1] for own in pseudonyms.values() for each in own}


def _half_life_steps(connection: Connection, spec: EvidenceSpec, today: int) -> dict[str, int]:
    """Return the half-life steps of endpoints that are not on the last, by their recent calls.

    No tenant counts for more than `most_calls_a_day`.
    """
    excess = _excess_calls(connection, spec, today)
    endpoint_id, day = evidence_day.c.endpoint_id, evidence_day.c.day
    recent = case((day >= today - RATE_DAYS, evidence_day.c.tool_call_requests), else_=0)
    query = select(endpoint_id, func.min(day), func.sum(recent)).where(day < today)
    last, steps = len(half_lives(spec)) - 1, {}
    for name, first, calls in connection.execute(query.group_by(endpoint_id)):
        counted = int(calls) - excess.get(name, 0.0)
        step = half_life_step(counted, min(today - first, RATE_DAYS), spec)
        if step != last:
            steps[name] = step
    return steps


def _excess_calls(connection: Connection, spec: EvidenceSpec, today: int) -> Mapping[str, float]:
    """Return the recent calls of each endpoint by which tenants are above what they count for.

    Only rows that are large by themselves are added up: there are millions of small ones.
    """
    most, c = most_calls_a_day(spec), evidence_day.c
    large = (c.day.between(today - RATE_DAYS, today - 1)) & (c.tool_call_requests > most / _LARGE)
    cell, calls = (c.endpoint_id, c.source, c.tenant, c.day), func.sum(c.tool_call_requests)
    query = select(*cell, calls).where(large).group_by(*cell).having(calls > most)
    above = sorted((tuple(key), int(n) - most) for *key, n in connection.execute(query))
    if any(not tenant for (_, _, tenant, _), _ in above):
        naming = set(connection.scalars(select(c.source).where(c.tenant != "").distinct()))
        above = [(key, number) for key, number in above if key[2] or key[1] in naming]
    excess: defaultdict[str, float] = defaultdict(float)
    for (endpoint_id, *_), number in above:
        excess[endpoint_id] += number
    return excess


def _old_endpoints(connection: Connection, first_day: int) -> set[str]:
    """Return the endpoints with answered requests older than those that count."""
    is_old = (evidence_day.c.day < first_day) & (evidence_day.c.requests > 0)
    query = select(evidence_day.c.endpoint_id).where(is_old).distinct()
    return set(connection.execute(query).scalars())


_THOUSANDTHS: Final = 1000.0
_temporary = MetaData()
_wanted_endpoint = Table(
    "wanted_endpoint",
    _temporary,
    Column("endpoint_id", NAME, primary_key=True),
    prefixes=["TEMPORARY"],
)


def endpoints_without_speed(endpoints: Iterable[Endpoint]) -> list[str]:
    """Return the endpoints whose speed or uptime no catalog states."""
    return [
        e.endpoint_id
        for e in endpoints
        if NO_PERCENTILES in (e.latency_s, e.throughput_tps)
        or (e.uptime_30m_percent is None and e.uptime_1d_percent is None)
    ]


def load_served(
    connection: Connection, endpoints: Collection[str], as_of: datetime
) -> dict[str, ServedSpeed]:
    """Return the speed and uptime of these endpoints in the last 24 closed hours, if observed."""
    if not endpoints:
        return {}
    _temporary.create_all(connection, checkfirst=False)
    keep_first(connection, _wanted_endpoint, [(name,) for name in sorted(endpoints)])
    c, end = service_counter.c, (as_of - EPOCH) // HOUR
    query = (
        select(c.endpoint_id, c.metric, c.bucket, cast(func.sum(c.count), Integer))
        .join(_wanted_endpoint, _wanted_endpoint.c.endpoint_id == c.endpoint_id)
        .where(c.hour >= end - HOURS_PER_DAY, c.hour < end)
        .group_by(c.endpoint_id, c.metric, c.bucket)
    )
    metrics: dict[str, defaultdict[str, list[tuple[int, int]]]] = {}
    for endpoint_id, metric, bucket, count in connection.execute(query):
        of_endpoint = metrics.setdefault(endpoint_id, defaultdict(list))
        of_endpoint[metric].append((bucket, int(count)))
    _temporary.drop_all(connection, checkfirst=False)
    return {endpoint_id: _served_speed(metrics[endpoint_id]) for endpoint_id in sorted(metrics)}


def _served_speed(metrics: Mapping[str, Sequence[tuple[int, int]]]) -> ServedSpeed:
    return ServedSpeed(
        latencies(_histogram(metrics.get("latency_ms", ()))),
        throughputs(_histogram(metrics.get("throughput_mtps", ()))),
        uptime(*(sum(n for _, n in metrics.get(name, ())) for name in ("answered", "failed"))),
    )


def _histogram(counts: Iterable[tuple[int, int]]) -> list[HistogramBin]:
    """Convert buckets of thousandths into bins of whole units."""
    bins = []
    for bucket, count in counts:
        low, high = bounds(bucket)
        bins.append(HistogramBin(low / _THOUSANDTHS, high / _THOUSANDTHS, count))
    return bins


_VOTING_DAYS: Final = 28
_TRYING_DAYS: Final = 56
_tenant: Final = tenant_pseudonym.c.tenant


def load_ignore_votes(
    connection: Connection, preferences: Iterable[Preference], as_of: datetime
) -> tuple[IgnoreVote, ...]:
    """Return the votes of all eligible tenants."""
    return ignore_votes(load_voters(connection, as_of), preferences, as_of)


def load_voters(connection: Connection, as_of: datetime) -> list[Voter]:
    """Return every tenant still known by name, with what it did in the last 28 whole days.

    Tables hold pseudonyms, and a tenant may have several, one for each process that met it first.
    """
    today = (as_of - EPOCH).days
    calls = _calls_by_provider(connection, today, _VOTING_DAYS)
    tried = _calls_by_provider(connection, today, _TRYING_DAYS)
    ignored: defaultdict[str, dict[str, set[str]]] = defaultdict(dict)
    for tenant, model in connection.execute(_recent(tenant_activity, today, "model").distinct()):
        ignored[tenant][model] = set()
    targets = _recent(tenant_ignore, today, "model", "target").distinct()
    for tenant, model, target in connection.execute(targets):
        ignored[tenant].setdefault(model, set()).add(target)
    affiliated: defaultdict[str, set[str]] = defaultdict(set)
    for row in connection.execute(select(tenant_affiliation)):
        affiliated[row.tenant].add(row.provider)
    first_seen = select(_tenant, func.min(tenant_pseudonym.c.created_at))
    return [
        Voter(
            tenant,
            since,
            calls[tenant],
            {model: frozenset(targets) for model, targets in ignored[tenant].items()},
            frozenset(affiliated[tenant]),
            tried[tenant],
        )
        for tenant, since in connection.execute(first_seen.group_by(_tenant).order_by(_tenant))
    ]


def _calls_by_provider(
    connection: Connection, today: int, days: int
) -> defaultdict[str, dict[str, int]]:
    """Return the tool-call requests of each tenant by provider in the last whole days."""
    calls: defaultdict[str, dict[str, int]] = defaultdict(dict)
    count = func.sum(tenant_provider.c.tool_call_requests)
    query = _recent(tenant_provider, today, "provider", days=days).add_columns(count)
    for tenant, provider, total in connection.execute(
        query.group_by(_tenant, tenant_provider.c.provider)
    ):
        calls[tenant][provider] = int(total)
    return calls


def _recent(table: Table, today: int, *columns: str, days: int = _VOTING_DAYS) -> Select[Any]:
    """Select tenants by name with columns of a table, of the last whole days."""
    query = select(_tenant, *(table.c[column] for column in columns))
    query = query.join(tenant_pseudonym, tenant_pseudonym.c.pseudonym == table.c.tenant)
    return query.where(table.c.day.between(today - days, today - 1))


def load_refusals(connection: Connection, as_of: datetime) -> Mapping[str, tuple[str, ...]]:
    """Return the capabilities that endpoints are known to lack, by endpoint id."""
    today = (as_of - EPOCH).days
    table = capability_counter.c
    tenant = func.coalesce(tenant_pseudonym.c.tenant, table.tenant).label("name")
    query = (
        select(table.endpoint_id, table.capability, tenant, table.day)
        .add_columns(func.sum(table.refused), func.sum(table.answered))
        .outerjoin_from(
            capability_counter, tenant_pseudonym, tenant_pseudonym.c.pseudonym == table.tenant
        )
        .where(table.day.between(today - WINDOW_DAYS, today))
        .group_by(table.endpoint_id, table.capability, tenant, table.day)
    )
    counts = [
        RefusalCounts(endpoint_id, capability, name, day, int(refused), int(answered))
        for endpoint_id, capability, name, day, refused, answered in connection.execute(query)
    ]
    if not any(each.refused for each in counts):
        return {}
    return learn_refusals(counts, today, has_one_tenant=_has_one_tenant(connection))


def _has_one_tenant(connection: Connection) -> bool:
    """Whether all requests come from one tenant, which may be the one without a name."""
    named = select(func.count(tenant_pseudonym.c.tenant.distinct()))
    unnamed = select(evidence_day.c.tenant).where(evidence_day.c.tenant == "").limit(1)
    without_name = connection.scalar(unnamed) is not None
    return int(connection.scalar(named) or 0) + without_name <= 1
