"""Random traffic by the hour: tool-call requests of an endpoint, and how many are errored.

The accuracy drifts about its true value by a first-order autoregression on the logit scale.
Requests come in clusters, so that the variance of errors exceeds the binomial one by the design
effect. See service/STATISTICS.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DRIFT = 0.15  # standard deviation of the drift, in logits
PERSISTENCE = 0.9  # share of a drift that remains after an hour
DESIGN_EFFECT = 2.2
CORRELATION = 0.3  # the most that two requests of a small hour have in common
HOURS_A_DAY = 24


@dataclass(slots=True)
class Traffic:
    """Many endpoints: true accuracies as logits, requests per day, and current drifts."""

    logits: Floats
    daily: Floats
    drift: Floats
    draw: np.random.Generator

    def hour(self, share: Floats) -> tuple[Ints, Ints]:
        """Draw calls and errored calls of one more hour, for a share of the requests."""
        noise = self.draw.standard_normal(len(self.drift)) * DRIFT * np.sqrt(1 - PERSISTENCE**2)
        self.drift = PERSISTENCE * self.drift + noise
        calls = self.draw.poisson(self.daily / HOURS_A_DAY * share)
        return calls, self.errors(calls, 1 / (1 + np.exp(self.logits + self.drift)))

    def narrow(self, kept: NDArray[np.bool_]) -> None:
        """Keep only some of the endpoints."""
        self.logits, self.daily, self.drift = self.logits[kept], self.daily[kept], self.drift[kept]

    def errors(self, calls: Ints, rate: Floats) -> Ints:
        """Draw errors of clustered calls: beta-binomial, with the design effect's variance."""
        common = np.minimum(CORRELATION, (DESIGN_EFFECT - 1) / np.maximum(calls - 1, 1))
        size = (1 - common) / common
        return self.draw.binomial(calls, self.draw.beta(rate * size, (1 - rate) * size))


def traffic(accuracies: Floats, daily: Floats, seed: int) -> Traffic:
    """Return endpoints with these true accuracies, at a random point of their drift."""
    draw = np.random.default_rng(seed)
    return Traffic(
        np.log(accuracies / (1 - accuracies)), daily, draw.standard_normal(len(daily)) * DRIFT, draw
    )
