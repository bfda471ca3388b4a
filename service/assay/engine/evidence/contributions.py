"""How an endpoint's accuracy came about: what each group of tenants contributed, by stratum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.traffic import Accuracy, Traffic
from assay.engine.world.traffic_table import TrafficTable

VOUCHED: Final = "vouched for by a source"
ASIDE: Final = "set aside: fail everywhere"
OUTLIERS: Final = "outliers: fail here alone"
CUT: Final = "cut to their share of use"
WHOLE: Final = "counted wholly"
GROUPS: Final = (WHOLE, CUT, OUTLIERS, ASIDE, VOUCHED)
_NEARLY: Final = 1.0 - 1e-9


@dataclass(frozen=True, slots=True)
class Contribution:
    """What the tenants of one group did in one stratum, discounted by age.

    `usual_errors` are the errors that an average endpoint would make of the calls that count.
    """

    group: str
    source: str
    stratum: int
    tenants: int
    calls: float
    errored: float
    counted_calls: float
    counted_errored: float
    usual_errors: float


@dataclass(frozen=True, slots=True)
class AccuracyAccount:
    """The counts that rules read of an endpoint's reported traffic, and how they came about.

    `factor` is the endpoint's rate of errors divided by the average one of its requests, `usual`
    the average rate of the pool's requests, `coverage` the known part of its mix. `outliers` and
    `aside` are the tenants that are left out, by pseudonym.
    """

    contributions: tuple[Contribution, ...]
    factor: float
    usual: float
    coverage: float
    size: float
    errored: float
    design_effect: float
    outliers: tuple[str, ...]
    aside: tuple[str, ...]


def account_for(
    table: TrafficTable, endpoint_id: str, spec: EvidenceSpec
) -> AccuracyAccount | None:
    """Explain one endpoint's counts by all of its model's; `None` without fresh traffic of it."""
    traffic = Traffic.of(table)
    if traffic is None or endpoint_id not in traffic.endpoints:
        return None
    accuracy = Accuracy(traffic, spec)
    standard, number = accuracy.standard, traffic.endpoints.index(endpoint_id)
    own = range(*traffic.starts[number : number + 2].tolist())
    group = {place: _group(accuracy, place) for place in own}
    tenants = {
        name: {traffic.tenants[traffic.tenant[place]] for place in own if group[place] == name}
        for name in GROUPS
    }
    whole = accuracy.cells.calls.sum()
    return AccuracyAccount(
        contributions=tuple(_contributions(accuracy, group)),
        factor=float(accuracy.rates.endpoints[number]),
        usual=float((accuracy.cells.calls * accuracy.rates.usual).sum() / whole) if whole else 0.0,
        coverage=float(standard.coverage[number]),
        size=float(standard.size[number]),
        errored=float(standard.errored[number]),
        design_effect=accuracy.design_effect,
        outliers=tuple(sorted(tenants[OUTLIERS])),
        aside=tuple(sorted(tenants[ASIDE])),
    )


def _group(accuracy: Accuracy, place: int) -> str:
    traffic = accuracy.traffic
    pair = traffic.pair[place]
    if not traffic.named[place]:
        return VOUCHED
    if accuracy.aside[traffic.tenant[place]]:
        return ASIDE
    if accuracy.left_out[pair]:
        return OUTLIERS
    return CUT if accuracy.part[place] < _NEARLY else WHOLE


def _contributions(accuracy: Accuracy, group: dict[int, str]) -> Iterable[Contribution]:
    traffic, cells = accuracy.traffic, accuracy.cells
    found: dict[tuple[str, tuple[str, int]], list[int]] = {}
    for place, name in group.items():
        stratum = traffic.strata[traffic.stratum[place]]
        found.setdefault((name, stratum), []).append(place)
    for name, stratum in sorted(found, key=lambda key: (GROUPS.index(key[0]), key[1])):
        places = found[name, stratum]
        yield Contribution(
            group=name,
            source=stratum[0],
            stratum=stratum[1],
            tenants=len({int(traffic.tenant[place]) for place in places}),
            calls=float(traffic.calls[places].sum()),
            errored=float(traffic.errored[places].sum()),
            counted_calls=float(cells.calls[places].sum()),
            counted_errored=float(cells.errored[places].sum()),
            usual_errors=float((cells.calls[places] * accuracy.rates.usual[places]).sum()),
        )
