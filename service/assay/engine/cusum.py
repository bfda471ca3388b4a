"""The fast way out: a Bernoulli CUSUM over the closed hours' counts.

C ← max(0, C + w · (f · ln(q1/q0) + s · ln((1−q1)/(1−q0)))), where f and s are the hour's bad and good tool-call
requests, divided by the design effect, q0 is the share of errors that the accuracy allows, q1 so many times as much,
and w caps one hour. Definition: reference/statistics.md §5.1, with the corrections at its head.
"""

from __future__ import annotations

import math

from assay.engine.fold import HourCounts
from assay.engine.ruleset import MemorySpec


def cusum(before: float, hour: HourCounts, spec: MemorySpec, accuracy: float, design_effect: float) -> float:
    """The sum after one more hour; `accuracy` is what members should have."""
    calls, bad = hour.calls / design_effect, hour.errored / design_effect
    usual = 1.0 - accuracy
    worse = spec.change_odds * usual
    gain = bad * math.log(worse / usual) + (calls - bad) * math.log((1.0 - worse) / (1.0 - usual))
    return max(0.0, before + spec.cusum_cap / max(calls, spec.cusum_cap) * gain)
