"""Traffic counts, and crowds of tenants with a given share of bad calls."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import timedelta

from tests.support.worlds import AS_OF, MODEL

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.observations import EndpointEvidence, FoldedCounts
from assay.engine.evidence.traffic import add_traffic
from assay.engine.world.clock import EPOCH, HOUR
from assay.engine.world.measurements import Counts, TrafficCounts
from assay.engine.world.traffic_table import TrafficTable

SPEC = EvidenceSpec()
NOW = (AS_OF - EPOCH) // HOUR


def make_counts(
    calls: float = 0,
    errored: float = 0,
    *,
    tag: str = "a",
    tenant: str = "t",
    source: str = "gateway",
    stratum: int = 0,
    requests: float | None = None,
    auto: tuple[float, float] | None = None,
    hour: tuple[int, int] = (0, 0),
    half_life: timedelta = 24 * HOUR,
    model: str = MODEL,
) -> TrafficCounts:
    """Return fresh counts, so that time decay changes nothing; half of the requests are calls."""
    requests = 2 * calls if requests is None else requests
    autos, auto_calls = auto or (requests, calls)
    observed = Counts(round(requests), round(calls), round(errored))
    return TrafficCounts(
        f"{model}@{tag}",
        source,
        tenant,
        stratum,
        requests,
        calls,
        errored,
        autos,
        auto_calls,
        observed,
        *hour,
        NOW - 48,
        NOW - 1,
        half_life,
    )


def blend_counts(
    *tallies: TrafficCounts, evidence: dict[str, EndpointEvidence] | None = None
) -> dict[str, FoldedCounts]:
    """Return the folded evidence by tag; endpoints without fresh evidence are missing."""
    found = add_traffic(evidence or {}, TrafficTable.of(tallies), SPEC)
    return {name.partition("@")[2]: e.folded for name, e in found.items() if e.folded is not None}


def honest_tenants(
    share: float,
    size: int = 400,
    *,
    seed: int = 7,
    tag: str = "a",
    hourly: float = 0.04,
    now: float | None = None,
) -> list[TrafficCounts]:
    """Return counts of honest tenants: a few large ones, many small ones.

    Each has a share of bad calls of its own around `share`. In the closed hour they made `hourly`
    of their calls, with a share of bad ones of `now`.
    """
    rng = random.Random(seed)
    return [
        one_of(rng, f"honest-{n:03}", share, tag, hourly, share if now is None else now)
        for n in range(size)
    ]


def one_of(
    rng: random.Random, tenant: str, share: float, tag: str, hourly: float, now: float
) -> TrafficCounts:
    """Return the counts of one tenant of a crowd."""
    calls = int(25 * rng.paretovariate(1.1))
    own = rng.betavariate(40 * share, 40 * (1 - share))
    lately = drawn(rng, calls, hourly)
    return make_counts(
        calls,
        drawn(rng, calls, own),
        tag=tag,
        tenant=tenant,
        hour=(lately, drawn(rng, lately, now)),
    )


def drawn(rng: random.Random, size: int, share: float) -> int:
    """Draw how many of a number of things are of a kind."""
    return sum(rng.random() < share for _ in range(size))


def hostile_tenants(
    number: int, calls: int, *, errored: float = 0.0, tag: str = "a", hour: int = 0
) -> Iterable[TrafficCounts]:
    """Yield counts of tenants that want to move an endpoint, all in one hour if needed."""
    for n in range(number):
        bad = (round(calls * errored), round(hour * errored))
        yield make_counts(calls, bad[0], tag=tag, tenant=f"hostile-{n:03}", hour=(hour, bad[1]))
