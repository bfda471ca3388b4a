"""The decider: one plan at a time, from the snapshot in force; what the server and the command line both call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from assay.engine.errors import SnapshotUnavailable
from assay.engine.explain import Explanation, explain
from assay.engine.ordering import seed_for
from assay.engine.plan import Moment, Plan, plan
from assay.engine.request import Request
from assay.engine.snapshot import Snapshot

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan as answered, with everything that a replay needs besides the snapshot."""

    decision_id: str
    request: Request
    moment: Moment
    plan: Plan
    policy_digest: str


@dataclass(slots=True)
class Decider:
    """Answers requests from one snapshot, which is swapped by assigning a reference: no lock, no wait.

    `clock` tells the time that prices hold at; ids always carry the wall clock.
    """

    clock: Clock
    snapshot: Snapshot | None = None
    health: Mapping[str, str] = field(default_factory=dict)

    def publish(self, snapshot: Snapshot) -> None:
        """Put a snapshot in force for every later request."""
        self.snapshot = snapshot

    def current(self) -> Snapshot:
        """The snapshot in force; raises SnapshotUnavailable before the first."""
        if self.snapshot is None:
            raise SnapshotUnavailable("nothing has been judged yet")
        return self.snapshot

    def decide(self, request: Request) -> Decision:
        """Plan one request under a fresh id; raises what `plan` raises."""
        snapshot, now = self.current(), self.clock()
        decision_id = uuid7(time.time_ns() // 1_000_000)
        moment = self.moment(request, now, decision_id)
        return Decision(decision_id, request, moment, plan(request, snapshot, moment), snapshot.policy.digest)

    def explain(self, request: Request) -> Explanation:
        """Plan one request and tell what its rules read; it has no id and leaves no trace."""
        now = self.clock()
        return explain(request, self.current(), self.moment(request, now, "explain"))

    def moment(self, request: Request, now: datetime, decision_id: str) -> Moment:
        """What planning needs of the outside."""
        seed = seed_for(request.seed, request.tenant, request.model, request.session_id, decision_id)
        return Moment(now, seed, self.health)


def uuid7(unix_ms: int) -> str:
    """A UUIDv7 (RFC 9562 §5.7): milliseconds of Unix time, then 74 random bits."""
    bits = unix_ms << 80 | int.from_bytes(os.urandom(10), "big")
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    text = f"{bits:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
