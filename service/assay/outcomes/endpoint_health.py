"""Short-term health: endpoints that fail or rate-limit are demoted for seconds, in this worker.

How it works. Three failures in a row demote an endpoint; one rate limit does so at once; an answer
ends the demotion. An outcome counts once and in the order of time: one that is not newer than the
newest counted outcome of its endpoint is ignored, so a batch that is sent again changes nothing.

Deciders read without a lock. An update builds a new immutable `_HealthView` and swaps the
reference; a reader that finds an expired demotion builds the next view itself, and stores it only
if no update holds the lock. Times are those of the monotonic clock, so a jump of the wall clock
cannot extend a demotion.
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
_TROUBLE: Final = FAILED | {RATE_LIMITED}
_COUNTED: Final = _TROUBLE | {ANSWERED}


@dataclass(frozen=True, slots=True)
class _Demotion:
    reason: str
    until: float


@dataclass(slots=True)
class _FailureStreak:
    """Failures of an endpoint since its last answer, and the time of the newest counted outcome."""

    failures: int = 0
    newest_us: int = 0


@dataclass(frozen=True, slots=True)
class _HealthView:
    """What deciders read until the first demotion ends."""

    health: Mapping[str, str]
    valid_until: float
    demotions: Mapping[str, _Demotion]


_ALL_HEALTHY: Final = _HealthView(MappingProxyType({}), math.inf, {})


class EndpointHealth:
    """The demotions of this worker, from the outcomes reported to it."""

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
        self._streaks: dict[str, _FailureStreak] = {}
        self._view = _ALL_HEALTHY

    def now(self) -> Mapping[str, str]:
        """Return the demoted endpoints with the reason; the mapping never changes."""
        view = self._view
        if not view.demotions:
            return view.health
        now = self._clock()
        if now < view.valid_until:
            return view.health
        # Some demotions have ended: drop them, for later readers too unless an update is running.
        renewed = _view_of(view.demotions, now)
        if self._lock.acquire(blocking=False):
            try:
                if self._view is view:
                    self._view = renewed
            finally:
                self._lock.release()
        return renewed.health

    def update(self, groups: Iterable[OutcomeGroup], now_us: int) -> None:
        """Update the demotions from outcomes that were reported at `now_us`."""
        with self._lock:
            counted = _select_outcomes(groups, self._streaks, now_us)
            if not counted:
                return
            now, demotions = self._clock(), dict(self._view.demotions)
            for endpoint_id, outcomes in counted.items():
                streak = self._streaks.setdefault(endpoint_id, _FailureStreak())
                for outcome in outcomes:
                    ended = now - max(0, now_us - outcome.at_us) / 1_000_000
                    self._count(endpoint_id, streak, outcome, demotions, ended)
                # A reporter's clock may be ahead; it must not make other outcomes look old.
                streak.newest_us = min(outcomes[-1].at_us, now_us)
            self._view = _view_of(demotions, now)

    def _count(
        self,
        endpoint_id: str,
        streak: _FailureStreak,
        outcome: Outcome,
        demotions: dict[str, _Demotion],
        ended: float,
    ) -> None:
        if outcome.result == ANSWERED:
            streak.failures = 0
            demotions.pop(endpoint_id, None)
        elif outcome.result == RATE_LIMITED:
            wanted = outcome.retry_after_s
            seconds = self._seconds if wanted is None else min(wanted, LONGEST_SECONDS)
            demotions[endpoint_id] = _Demotion(LIMITED, ended + seconds)
        else:
            streak.failures += outcome.requests
            if streak.failures >= self._failures:
                demotions[endpoint_id] = _Demotion(FAILING, ended + self._seconds)


def _select_outcomes(
    groups: Iterable[OutcomeGroup], streaks: Mapping[str, _FailureStreak], now_us: int
) -> dict[str, list[Outcome]]:
    """Return the recent outcomes that count, by endpoint and in the order of time.

    Endpoints that only answered, and never had trouble, are left out.
    """
    found: dict[str, list[Outcome]] = {}
    oldest = now_us - int(LONGEST_SECONDS * 1_000_000)
    for group in groups:
        streak = streaks.get(group.endpoint_id)
        if streak is None and not any(each.result in _TROUBLE for each in group.outcomes):
            continue
        since = max(streak.newest_us if streak else 0, oldest)
        recent = [each for each in group.outcomes if each.at_us > since]
        counted = [each for each in recent if each.result in _COUNTED]
        if counted:
            found.setdefault(group.endpoint_id, []).extend(counted)
    for outcomes in found.values():
        outcomes.sort(key=lambda outcome: outcome.at_us)
    return found


def _view_of(demotions: Mapping[str, _Demotion], now: float) -> _HealthView:
    active = {endpoint_id: each for endpoint_id, each in demotions.items() if each.until > now}
    if not active:
        return _ALL_HEALTHY
    reasons = {endpoint_id: each.reason for endpoint_id, each in active.items()}
    valid_until = min(each.until for each in active.values())
    return _HealthView(MappingProxyType(reasons), valid_until, active)
