"""Honest tenants of one model: how much each sends where, of which kind, and how often it fails.

Sizes are log-normal. A tenant spreads its requests over the endpoints evenly, or pins them; its
requests are of several strata and harder or easier than others'. The probability of an error is
additive on the logit scale: endpoint + tenant + stratum + a little of the tenant at the endpoint.
The endpoint's part is set so that its accuracy is the stated one on the mix of the whole pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from tests.bench.admission.traffic import DRIFT, HOURS_A_DAY, PERSISTENCE, Floats, Ints

TAIL: Final = 1.5  # standard deviation of the logarithm of tenants' sizes
STRATA: Final = np.array([0, 3, 1, 4])
USUAL_STRATA: Final = np.array([0.45, 0.25, 0.2, 0.1])
HARDER: Final = np.array([-0.5, 0.0, 0.3, 0.8])  # logits of an error
CALLED_MORE: Final = np.array([0.2, -0.3, 0.2, -0.3])  # logits of the propensity
CORRELATION: Final = 0.3  # the most that two requests of one tenant and hour have in common
UNANSWERED: Final = 0.01  # of all attempts
LEAST_DAILY: Final = 0.05  # requests of a tenant, endpoint and stratum; fewer are left out
CHANNELS: Final = ("requests", "calls", "errored", "autos", "auto_calls", "attempts")


@dataclass(frozen=True, slots=True)
class Mix:
    """What kind of tenants: logits of `pinning`, `difficulty` and of endpoints' `propensities`.

    `daily` are tool-call requests per endpoint and day. `rhythm` is the relative height of the
    day's wave. `broken` tenants fail everywhere. Without names, all tenants are one.
    """

    tenants: int
    daily: float
    pinning: float = 0.7
    difficulty: float = 0.7
    propensities: float = 0.1
    rhythm: float = 0.7
    clustering: float = 2.2
    broken: int = 0
    is_named: bool = True
    strata: int = 4


@dataclass(frozen=True, slots=True)
class Offered:
    """An endpoint's true accuracy, its share of the usual traffic, and how it gets around errors.

    `serves` are the strata that it answers. `texts` and `fails` are the shares of bad calls that it
    replaces by text or by no answer; `pads` is the share of its text to which it adds a good call.
    """

    accuracy: float
    volume: float = 1.0
    serves: tuple[int, ...] = (0, 1, 2, 3)
    texts: float = 0.0
    fails: float = 0.0
    pads: float = 0.0


@dataclass
class Population:
    """Cells of honest traffic, one per endpoint, tenant and stratum: daily requests and rates."""

    mix: Mix
    offered: tuple[Offered, ...]
    endpoint: Ints
    tenant: Ints
    stratum: Ints
    daily: Floats
    error_logit: Floats
    propensity: Floats
    texts: Floats
    fails: Floats
    pads: Floats
    drift: Floats
    draw: np.random.Generator

    @property
    def cells(self) -> list[tuple[int, str, int]]:
        """The endpoint, name and stratum of each count; without names, tenants are one."""
        if not self.mix.is_named:
            strata = sorted(STRATA[: self.mix.strata].tolist())
            return [(place, "", k) for place in range(len(self.offered)) for k in strata]
        columns = (self.endpoint.tolist(), self.tenant.tolist(), self.stratum.tolist())
        return [(place, f"honest{n:04}", k) for place, n, k in zip(*columns, strict=True)]

    def fork(self, seed: int) -> Population:
        """Return the same population with another future."""
        other = Population(**{name: getattr(self, name) for name in self.__dataclass_fields__})
        other.draw = np.random.default_rng(seed)
        return other

    def change(self, place: int, offered: Offered, tenants: Sequence[int] = ()) -> None:
        """Change an endpoint from now on; `tenants` get nothing but bad calls there."""
        own = self.endpoint == place
        weight = self.daily[own] * self.propensity[own]
        logit = self.error_logit[own].copy()
        level = _level(logit[None, :, None], (weight / weight.sum())[:, None], (offered,))
        self.error_logit, self.daily = self.error_logit.copy(), self.daily.copy()
        self.error_logit[own] = np.where(np.isin(self.tenant[own], tenants), 9.0, logit + level)
        served = np.isin(self.stratum, STRATA[list(offered.serves)])
        self.daily[own & ~served] = 0.0
        for name in ("texts", "fails", "pads"):
            setattr(self, name, np.where(own, getattr(offered, name), getattr(self, name)))

    def drift_on(self, hours: int) -> Floats:
        """Let accuracies drift for some hours, and return the mean drift per endpoint."""
        total = np.zeros_like(self.drift)
        for _ in range(hours):
            noise = self.draw.standard_normal(len(self.drift)) * DRIFT * np.sqrt(1 - PERSISTENCE**2)
            self.drift = PERSISTENCE * self.drift + noise
            total += self.drift
        return total / hours

    def day(self, share: Floats) -> Floats:
        """Draw a whole day; `share` is what each endpoint gets of its usual traffic."""
        return self.amounts(self.daily * share[self.endpoint], self.drift_on(HOURS_A_DAY))

    def hour(self, of_day: int, share: Floats) -> Floats:
        """Draw one hour of the day."""
        wave = 1 - self.mix.rhythm * np.cos(2 * np.pi * (of_day - 3) / HOURS_A_DAY)
        expected = self.daily * share[self.endpoint] * wave / HOURS_A_DAY
        return self.amounts(expected, self.drift_on(1))

    def amounts(self, expected: Floats, drift: Floats) -> Floats:
        """Draw what a number of expected requests comes to, one row per channel."""
        draw = self.draw
        requests = draw.poisson(expected)
        calls = draw.binomial(requests, self.propensity)
        rate = 1 / (1 + np.exp(-self.error_logit + drift[self.endpoint]))
        most = (self.mix.clustering - 1) / np.maximum(calls - 1, 1)
        common = np.minimum(CORRELATION, np.maximum(most, 1e-6))
        size = (1 - common) / common
        rate = np.clip(rate, 1e-9, 1 - 1e-9)
        errored = draw.binomial(calls, draw.beta(rate * size, (1 - rate) * size))
        texts = draw.binomial(errored, self.texts)
        fails = draw.binomial(errored - texts, self.fails)
        padded = draw.binomial(requests - calls, self.pads)
        answered, made = requests - fails, calls - texts - fails + padded
        attempts = requests + draw.poisson(requests * UNANSWERED)
        counts = np.stack([answered, made, errored - texts - fails, answered, made, attempts])
        if self.mix.is_named:
            return counts.astype(np.float64)
        place = self.endpoint * self.mix.strata + np.searchsorted(
            sorted(STRATA[: self.mix.strata]), self.stratum
        )
        return np.stack(
            [np.bincount(place, row, self.drift.size * self.mix.strata) for row in counts]
        )


def population(mix: Mix, offered: tuple[Offered, ...], seed: int) -> Population:
    """Draw tenants and what they send to these endpoints."""
    draw = np.random.default_rng(seed)
    tenants, places, kinds = mix.tenants, len(offered), mix.strata
    size = np.exp(TAIL * draw.standard_normal(tenants))
    route = np.exp(mix.pinning * draw.standard_normal((places, tenants)))
    kind = USUAL_STRATA[:kinds] * np.exp(0.7 * draw.standard_normal((tenants, kinds)))
    usual = sum(o.volume == 1.0 for o in offered)
    route /= route[[o.volume == 1.0 for o in offered]].sum(axis=0) if usual else route.sum(axis=0)
    size *= mix.daily * max(usual, 1) / size.sum()
    whole = size[:, None] * kind / kind.sum(axis=1, keepdims=True)
    volume = np.array([o.volume for o in offered])
    serves = np.array([[k in o.serves for k in range(kinds)] for o in offered])
    calls = route[:, :, None] * whole * volume[:, None, None] * serves[:, None, :]
    harder = HARDER[:kinds] + mix.difficulty * draw.standard_normal(tenants)[:, None]
    logit = harder + 0.15 * draw.standard_normal((places, tenants))[:, :, None]
    is_broken = np.arange(tenants) < mix.broken
    weight = whole * ~is_broken[:, None] if mix.broken < tenants else whole
    logit = np.where(
        is_broken[:, None],
        9.0,
        logit + _level(logit, weight / weight.sum(), offered)[:, None, None],
    )
    usually = mix.propensities * draw.standard_normal(places)[:, None, None] + CALLED_MORE[:kinds]
    propensity = np.broadcast_to(1 / (1 + np.exp(-usually)), logit.shape)
    kept = np.nonzero(calls / propensity >= LEAST_DAILY)
    endpoint = kept[0]
    return Population(
        mix,
        offered,
        endpoint,
        kept[1],
        STRATA[kept[2]],
        (calls / propensity)[kept],
        logit[kept],
        propensity[kept],
        np.array([o.texts for o in offered])[endpoint],
        np.array([o.fails for o in offered])[endpoint],
        np.array([o.pads for o in offered])[endpoint],
        draw.standard_normal(places) * DRIFT,
        draw,
    )


def _level(logit: Floats, weight: Floats, offered: tuple[Offered, ...]) -> Floats:
    """Return what to add to each endpoint's logits for its accuracy on the pool's mix."""
    low, high = np.full(len(offered), -15.0), np.full(len(offered), 15.0)
    wrong = np.array([1 - o.accuracy for o in offered])
    for _ in range(40):
        middle = (low + high) / 2
        rate = (weight / (1 + np.exp(-logit - middle[:, None, None]))).sum(axis=(1, 2))
        low, high = np.where(rate < wrong, middle, low), np.where(rate < wrong, high, middle)
    level: Floats = (low + high) / 2
    return level
