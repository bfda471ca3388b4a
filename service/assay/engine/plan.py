"""One request against one snapshot at one moment: the ordered attempts and a verdict for all the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from assay.engine.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Moment:
    """What planning needs of the outside: the time prices hold at, the seed draws come from, health by endpoint_id.

    `health` names endpoints that are demoted at this moment, with the reason.
    """

    now: datetime
    seed: bytes
    health: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One endpoint to try; `rank` counts from 1."""

    rank: int
    model: str
    endpoint_id: str
    provider: str
    tag: str
    rule_set: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer to one request: attempts in order, the verdict of every endpoint left out, abstentions of the rest.

    `verdicts` holds every endpoint of the requested models in catalog order, attempted ones included.
    `availability` is empty while there are attempts, else one of OpenRouter's codes (`constraint_filtered` …).
    """

    attempts: tuple[Attempt, ...]
    verdicts: tuple[Verdict, ...]
    availability: str
    snapshot_id: str
    policy_revision: int
