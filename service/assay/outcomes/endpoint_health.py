"""Health of the moment: endpoints that fail or turn requests away are demoted for seconds, as this worker is told.

Deciding reads it without a lock; reporting swaps what is read. Time is the monotonic clock's: no jump of the wall clock
makes a demotion longer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import Final

from assay.outcomes.outcome import ANSWERED, FAILED, RATE_LIMITED, Outcome, OutcomeGroup

FAILURES: Final = 3
SECONDS: Final = 30.0
LONGEST_SECONDS: Final = 300.0
FAILING: Final = "failing"
LIMITED: Final = "rate limited"
TROUBLE: Final = FAILED | {RATE_LIMITED}
TELLING: Final = TROUBLE | {ANSWERED}


@dataclass(frozen=True, slots=True)
class Demotion:
    """Why an endpoint is demoted, and until when."""

    why: str
    until: float


@dataclass(slots=True)
class FailureStreak:
    """How often an endpoint failed without an answer in between, and the time of the newest outcome that counted."""

    failures: int = 0
    newest_us: int = 0


@dataclass(frozen=True, slots=True)
class HealthView:
    """What deciders read, as long as none of it has ended."""

    health: Mapping[str, str]
    valid_until: float
    demotions: Mapping[str, Demotion]


ALL_HEALTHY: Final = HealthView(MappingProxyType({}), math.inf, {})


class EndpointHealth:
    """So many failures in a row demote an endpoint for a while, being turned away does at once; an answer clears it.

    An outcome counts once and in the order of time: one that is no newer than what counted before does not.
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = failures
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        self._runs: dict[str, FailureStreak] = {}
        self._shown = ALL_HEALTHY

    def now(self) -> Mapping[str, str]:
        """The endpoints demoted at this moment, with the reason; never changes once returned."""
        shown = self._shown
        if not shown.demotions:
            return shown.health
        now = self._clock()
        return shown.health if now < shown.valid_until else self._renewed(shown, now)

    def _renewed(self, shown: HealthView, now: float) -> Mapping[str, str]:
        """Leave out what has ended, for all who come after unless somebody is just reporting."""
        left = shown_of(shown.demotions, now)
        if self._lock.acquire(blocking=False):
            try:
                if self._shown is shown:
                    self._shown = left
            finally:
                self._lock.release()
        return left.health

    def update(self, groups: Iterable[OutcomeGroup], now_us: int) -> None:
        """Take to heart what was reported at this time."""
        with self._lock:
            told = telling(groups, self._runs, now_us)
            if not told:
                return
            now, demotions = self._clock(), dict(self._shown.demotions)
            for endpoint_id, outcomes in told.items():
                run = self._runs.setdefault(endpoint_id, FailureStreak())
                for outcome in outcomes:
                    age = max(0, now_us - outcome.at_us) / 1_000_000
                    self._count(endpoint_id, run, outcome, demotions, now - age)
                run.newest_us = min(
                    outcomes[-1].at_us, now_us
                )  # a clock ahead must not make others' outcomes old
            self._shown = shown_of(demotions, now)

    def _count(
        self,
        endpoint_id: str,
        run: FailureStreak,
        outcome: Outcome,
        demotions: dict[str, Demotion],
        ended: float,
    ) -> None:
        if outcome.result == ANSWERED:
            run.failures = 0
            demotions.pop(endpoint_id, None)
        elif outcome.result == RATE_LIMITED:
            asked = outcome.retry_after_s
            seconds = self._seconds if asked is None else min(asked, LONGEST_SECONDS)
            demotions[endpoint_id] = Demotion(LIMITED, ended + seconds)
        else:
            run.failures += outcome.requests
            if run.failures >= self._failures:
                demotions[endpoint_id] = Demotion(FAILING, ended + self._seconds)


def telling(
    groups: Iterable[OutcomeGroup], runs: Mapping[str, FailureStreak], now_us: int
) -> dict[str, list[Outcome]]:
    """By endpoint and in the order of time, the outcomes of this moment that count, unless all is well and was."""
    found: dict[str, list[Outcome]] = {}
    for group in groups:
        run = runs.get(group.endpoint_id)
        if run is None and not any(outcome.result in TROUBLE for outcome in group.outcomes):
            continue
        since = max(run.newest_us if run else 0, now_us - int(LONGEST_SECONDS * 1_000_000))
        new = [
            outcome
            for outcome in group.outcomes
            if outcome.at_us > since and outcome.result in TELLING
        ]
        if new:
            found.setdefault(group.endpoint_id, []).extend(new)
    for outcomes in found.values():
        outcomes.sort(key=lambda outcome: outcome.at_us)
    return found


def shown_of(demotions: Mapping[str, Demotion], now: float) -> HealthView:
    """What is left of demotions, as deciders read it."""
    left = {endpoint_id: each for endpoint_id, each in demotions.items() if each.until > now}
    if not left:
        return ALL_HEALTHY
    health = {endpoint_id: each.why for endpoint_id, each in left.items()}
    return HealthView(MappingProxyType(health), min(each.until for each in left.values()), left)
