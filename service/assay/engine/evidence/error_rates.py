"""The rate of errors as a product: pool × stratum × tenant × endpoint.

How it works. Endpoints get different requests from different tenants, so their plain rates cannot
be compared. `fit` finds factors such that for each stratum, tenant and endpoint the expected errors
equal the observed ones (iterative proportional fitting; Deming and Stephan 1940, and Breslow and
Day 1975 for rates). Factors of strata and tenants are drawn toward 1, as if each had made
`SHRINKAGE` expected errors more; factors of endpoints are not, or a bad endpoint would be
admitted on the credit of its peers.

`standardize` returns the rate that an endpoint would have with the requests of the whole pool, and
the number of such requests that would say as much.

INVARIANT: sums are added in the order of the cells, so that the result depends on nothing else.

See service/STATISTICS.md#standardized-rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Final

import numpy as np

from assay.engine.evidence.usage import Bools, Floats, Ints, add_up

SHRINKAGE: Final = 3.0
_ROUNDS: Final = 20
_CONVERGED: Final = 1e-9
_ENOUGH: Final = 30.0


@dataclass(frozen=True, slots=True)
class Cells:
    """Calls and errored calls by endpoint, tenant and stratum, all numbered from 0.

    Cells that are not typical of their tenant and stratum say something of their endpoint only.
    `kinds` are kinds of requests by stratum: two strata have the same kind if they are the same but
    for the source.
    """

    endpoint: Ints
    tenant: Ints
    stratum: Ints
    calls: Floats
    errored: Floats
    is_typical: Bools
    endpoints: int
    tenants: int
    strata: int
    kinds: Ints


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """The factors of endpoints, and `usual`, each cell's rate of errors at an average endpoint."""

    endpoints: Floats
    usual: Floats


def fit(cells: Cells) -> ErrorRates:
    """Fit the factors; without errors, all are 1 but those of endpoints, which are 0."""
    calls = fsum(cells.calls.tolist())
    rate = fsum(cells.errored.tolist()) / calls if calls else 0.0
    strata, tenants = np.ones(cells.strata), np.ones(cells.tenants)
    base = cells.calls * rate
    by_endpoint = add_up(cells.endpoint, cells.errored, cells.endpoints)
    typical = np.where(cells.is_typical, cells.errored, 0.0)
    by_stratum = add_up(cells.stratum, typical, cells.strata) + SHRINKAGE
    by_tenant = add_up(cells.tenant, typical, cells.tenants) + SHRINKAGE

    def endpoint_factors() -> Floats:
        usual = base * strata[cells.stratum] * tenants[cells.tenant]
        return _ratio(by_endpoint, add_up(cells.endpoint, usual, cells.endpoints))

    endpoints = endpoint_factors()
    single = cells.strata == 1 and cells.tenants == 1
    for _ in range(0 if single or not rate else _ROUNDS):
        own = np.where(cells.is_typical, base * endpoints[cells.endpoint], 0.0)
        usual = own * tenants[cells.tenant]
        strata = by_stratum / (add_up(cells.stratum, usual, cells.strata) + SHRINKAGE)
        usual = own * strata[cells.stratum]
        tenants = by_tenant / (add_up(cells.tenant, usual, cells.tenants) + SHRINKAGE)
        before, endpoints = endpoints, endpoint_factors()
        if (np.abs(endpoints - before) <= _CONVERGED * before).all():
            break
    return ErrorRates(endpoints, rate * strata[cells.stratum] * tenants[cells.tenant])


def _ratio(over: Floats, under: Floats) -> Floats:
    found: Floats = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
    return found


@dataclass(frozen=True, slots=True)
class Standardized:
    """By endpoint: the number of the pool's requests that say as much, and its errors in these.

    `coverage` is the part of the pool's mix of strata that an endpoint has served.
    """

    size: Floats
    errored: Floats
    coverage: Floats


def standardize(cells: Cells, rates: ErrorRates) -> Standardized:
    """Return each endpoint's counts on the requests of the whole pool.

    Of strata that it has hardly served, an endpoint that is better than the average of the pool is
    taken to be average, and one that is worse to be as much worse. The size is not larger than
    the number of calls.
    """
    own = add_up(cells.endpoint, cells.calls, cells.endpoints)
    if cells.strata == 1 and cells.tenants == 1:
        errored = add_up(cells.endpoint, cells.errored, cells.endpoints)
        return Standardized(own, errored, np.ones(cells.endpoints))
    whole = fsum(own.tolist())
    if not whole:
        return Standardized(own, own, np.ones(cells.endpoints))
    usual = add_up(cells.stratum, cells.calls * rates.usual, cells.strata) / whole
    weight = add_up(cells.stratum, cells.calls, cells.strata) / whole
    covered, rate = np.zeros(cells.endpoints), np.zeros(cells.endpoints)
    for stratum, served in enumerate(_served(cells)):
        factor = served * rates.endpoints + (1.0 - served) * np.maximum(rates.endpoints, 1.0)
        covered += served * weight[stratum]
        rate += factor * usual[stratum]
    average = fsum(usual.tolist())
    expected = add_up(cells.endpoint, cells.calls * rates.usual, cells.endpoints)
    size = np.minimum(own, expected / average) if average else own
    size = size * covered
    return Standardized(size, np.minimum(rate, 1.0) * size, covered)


def _served(cells: Cells) -> Sequence[Floats]:
    """Return by stratum to which part each endpoint's own calls decide about it."""
    kinds = int(cells.kinds.max()) + 1
    place = cells.kinds[cells.stratum] * cells.endpoints + cells.endpoint
    calls = add_up(place, cells.calls, cells.endpoints * kinds)
    served = np.minimum(calls / _ENOUGH, 1.0).reshape(kinds, cells.endpoints)
    if np.count_nonzero(served.any(axis=1)) == 1:
        return [np.ones(cells.endpoints)] * cells.strata
    return [served[kind] for kind in cells.kinds]
