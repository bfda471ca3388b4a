"""The decider: one plan at a time, from the snapshot in force; what the server and the command line both call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from assay.decision_log.record import DecisionRecord, encode_record
from assay.decision_log.tenant_pseudonyms import TenantPseudonyms
from assay.engine.decide.explanation import Explanation, explain
from assay.engine.decide.ordering import seed_for
from assay.engine.decide.plan import Decision, Moment, Plan, plan
from assay.engine.errors import DecisionNotLogged, SnapshotUnavailable
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.request import Request
from assay.journal.errors import JournalError
from assay.journal.sink import RecordKind
from assay.journal.uuid7 import uuid7

Clock = Callable[[], datetime]


class Journals(Protocol):
    """What keeps records: `assay.journal.writer.Journal`."""

    def append(self, kind: int, payload: bytes) -> None:
        """Return once the record is kept; raise JournalError where it is not."""


@dataclass(slots=True)
class Decider:
    """Answers requests from one snapshot, which is swapped by assigning a reference: no lock, no wait.

    `clock` tells the time that prices hold at; ids always carry the wall clock. With a journal, nothing is answered
    that is not in it. `health` tells who is demoted at this moment, in a mapping that does not change any more.
    `pseudonyms` are shared with the intake of outcomes.
    """

    clock: Clock
    snapshot: Snapshot | None = None
    health: Callable[[], Mapping[str, str]] = dict
    journal: Journals | None = None
    pseudonyms: TenantPseudonyms = field(default_factory=TenantPseudonyms)
    engine_version: str = ""

    def publish(self, snapshot: Snapshot) -> None:
        """Put a snapshot in force for every later request."""
        self.snapshot = snapshot

    def current(self) -> Snapshot:
        """The snapshot in force; raises SnapshotUnavailable before the first."""
        if self.snapshot is None:
            raise SnapshotUnavailable("nothing has been judged yet")
        return self.snapshot

    def decide(self, request: Request) -> Decision:
        """Plan one request under a fresh id and journal it; raises what `plan` raises, and DecisionNotLogged."""
        snapshot, now, at_ns = self.current(), self.clock(), time.time_ns()
        decision_id = uuid7(at_ns // 1_000_000)
        moment = self.moment(request, now, decision_id)
        started = time.perf_counter_ns()
        planned = plan(request, snapshot, moment)
        plan_ns = time.perf_counter_ns() - started
        decision = Decision(decision_id, request, moment, planned, snapshot.policy.digest)
        if self.journal is not None:
            self.keep(self.journal, decision, at_ns, plan_ns)
        return decision

    def keep(self, journal: Journals, decision: Decision, at_ns: int, plan_ns: int) -> None:
        """Journal a decision; raises DecisionNotLogged."""
        try:
            record = DecisionRecord(
                decision_id=decision.decision_id,
                at_us=at_ns // 1000,
                moment=relevant(decision.moment, decision.plan),
                tenant=self.pseudonyms.get(decision.request.tenant, at_ns // 1000, journal.append),
                request=decision.request,
                snapshot_id=decision.plan.snapshot_id,
                policy_revision=decision.plan.policy_revision,
                policy_digest=decision.policy_digest,
                engine_version=self.engine_version,
                plan_ns=plan_ns,
                plan=decision.plan.canonical(),
            )
            journal.append(RecordKind.DECISION, encode_record(record))
        except JournalError as error:
            raise DecisionNotLogged(str(error)) from error

    def explain(self, request: Request) -> Explanation:
        """Plan one request and tell what its rules read; it has no id and leaves no trace."""
        now = self.clock()
        return explain(request, self.current(), self.moment(request, now, "explain"))

    def moment(self, request: Request, now: datetime, decision_id: str) -> Moment:
        """What planning needs of the outside."""
        seed = seed_for(
            request.seed, request.tenant, request.model, request.session_id, decision_id
        )
        return Moment(now, seed, self.health())


def relevant(moment: Moment, planned: Plan) -> Moment:
    """The moment with the health of those endpoints alone that the plan judges: the others had no part in it."""
    if not moment.health:
        return moment
    judged = {verdict.endpoint_id for verdict in planned.verdicts}
    health = {
        endpoint_id: why for endpoint_id, why in moment.health.items() if endpoint_id in judged
    }
    return Moment(moment.now, moment.seed, health)
