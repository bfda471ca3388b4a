"""What endpoints refuse as not supported (service/STATISTICS.md#refusals).

An endpoint lacks a capability if enough refusals say so and no request that needed it was answered
since. Refusals fade, so that an endpoint is tried again. Where several tenants report, those of one
tenant never suffice: otherwise it could take the endpoint away from all others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp2
from typing import Final

HALF_LIFE_DAYS: Final = 7
MAX_TENANT_WEIGHT: Final = 4.0
LEAST_TENANTS: Final = 2
LEAST_WEIGHT: Final = 1.0
LEAST_ALONE: Final = 3
LEAST_WEIGHT_ALONE: Final = 2.0
WINDOW_DAYS: Final = 60
"""Older refusals weigh less than 1/300 each, and are not read."""


@dataclass(frozen=True, slots=True)
class RefusalCounts:
    """Requests of one tenant on one UTC day that needed a capability of an endpoint."""

    endpoint_id: str
    capability: str
    tenant: str
    day: int
    refused: int
    answered: int


def learn_refusals(
    counts: Iterable[RefusalCounts], today: int, *, has_one_tenant: bool
) -> Mapping[str, tuple[str, ...]]:
    """Return the capabilities that endpoints lack, by endpoint id.

    `has_one_tenant` means that no other tenant sends requests to this installation.
    """
    cells: defaultdict[tuple[str, str], list[RefusalCounts]] = defaultdict(list)
    for each in counts:
        cells[each.endpoint_id, each.capability].append(each)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for (endpoint_id, capability), own in sorted(cells.items()):
        if _is_lacking(own, today, has_one_tenant=has_one_tenant):
            found[endpoint_id].append(capability)
    return {endpoint_id: tuple(paths) for endpoint_id, paths in found.items()}


def _is_lacking(counts: Sequence[RefusalCounts], today: int, *, has_one_tenant: bool) -> bool:
    refusals = [each for each in counts if each.refused]
    if not refusals:
        return False
    newest = max(each.day for each in refusals)
    if any(each.answered and each.day >= newest for each in counts):
        return False
    by_tenant: defaultdict[str, list[RefusalCounts]] = defaultdict(list)
    for each in refusals:
        by_tenant[each.tenant].append(each)
    weight = sum(_tenant_weight(own, today) for own in by_tenant.values())
    if len(by_tenant) >= LEAST_TENANTS:
        return weight >= LEAST_WEIGHT
    is_enough = sum(each.refused for each in refusals) >= LEAST_ALONE
    return has_one_tenant and is_enough and weight >= LEAST_WEIGHT_ALONE


def _tenant_weight(refusals: Sequence[RefusalCounts], today: int) -> float:
    """Return the weight of one tenant's refusals, which is capped as of the newest of them."""
    newest = max(each.day for each in refusals)
    then = sum(each.refused * _decay(newest - each.day) for each in refusals)
    return min(then, MAX_TENANT_WEIGHT) * _decay(max(0, today - newest))


def _decay(days: int) -> float:
    return exp2(-days / HALF_LIFE_DAYS)
