"""Decide requests from the active snapshot; journal every decision before it is answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from assay.decision_log.record import Append, DecisionRecord, TenantPseudonyms, encode_record
from assay.engine.decide.explanation import Explanation, explain
from assay.engine.decide.ordering import seed_for
from assay.engine.decide.plan import Decision, Moment, Plan, plan
from assay.engine.errors import DecisionNotLogged, SnapshotUnavailable
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.request import Request
from assay.journal.errors import JournalError
from assay.journal.sink import RecordKind
from assay.journal.uuid7 import uuid7


@dataclass(slots=True)
class Decider:
    """Answers requests from one snapshot, which `publish` swaps without a lock.

    `clock` returns the time that selects prices; ids always carry the wall clock. `health` returns
    the demoted endpoints with their reasons, in an immutable mapping. If `append` is set, it
    journals every decision, and a decision that cannot be journaled is not answered.
    `pseudonyms` are shared with the intake of outcomes.
    """

    clock: Callable[[], datetime]
    snapshot: Snapshot | None = None
    health: Callable[[], Mapping[str, str]] = dict
    append: Append | None = None
    pseudonyms: TenantPseudonyms = field(default_factory=TenantPseudonyms)
    engine_version: str = ""

    def publish(self, snapshot: Snapshot) -> None:
        """Decide every later request from this snapshot."""
        self.snapshot = snapshot

    def current(self) -> Snapshot:
        """Return the active snapshot; raises SnapshotUnavailable before the first."""
        if self.snapshot is None:
            raise SnapshotUnavailable("nothing has been judged yet")
        return self.snapshot

    def decide(self, request: Request) -> Decision:
        """Plan one request under a new id and journal it.

        Raises what `plan` raises, SnapshotUnavailable and DecisionNotLogged.
        """
        snapshot, now, at_ns = self.current(), self.clock(), time.time_ns()
        decision_id = uuid7(at_ns // 1_000_000)
        moment = self._moment(request, now, decision_id)
        started = time.perf_counter_ns()
        planned = plan(request, snapshot, moment)
        plan_ns = time.perf_counter_ns() - started
        if self.append is not None:
            canonical, at_us = planned.canonical(), at_ns // 1000
            try:
                record = DecisionRecord(
                    decision_id=decision_id,
                    at_us=at_us,
                    moment=_with_judged_health(moment, planned),
                    tenant=self.pseudonyms.get(
                        request.tenant, at_us, self.append, snapshot.tenants
                    ),
                    request=request,
                    snapshot_id=planned.snapshot_id,
                    policy_revision=planned.policy_revision,
                    policy_digest=snapshot.policy.digest,
                    engine_version=self.engine_version,
                    plan_ns=plan_ns,
                    plan=canonical,
                )
                self.append(RecordKind.DECISION, encode_record(record))
            except JournalError as error:
                raise DecisionNotLogged(str(error)) from error
        return Decision(decision_id, request, moment, planned, snapshot.policy.digest)

    def explain(self, request: Request) -> Explanation:
        """Plan one request and return the values its rules read; nothing is journaled."""
        return explain(request, self.current(), self._moment(request, self.clock(), "explain"))

    def _moment(self, request: Request, now: datetime, decision_id: str) -> Moment:
        seed = seed_for(
            request.seed, request.tenant, request.model, request.session_id, decision_id
        )
        return Moment(now, seed, self.health())


def _with_judged_health(moment: Moment, planned: Plan) -> Moment:
    """Keep the health of endpoints that the plan judges; other endpoints did not influence it."""
    if not moment.health:
        return moment
    judged = {verdict.endpoint_id for verdict in planned.verdicts}
    health = {id_: why for id_, why in moment.health.items() if id_ in judged}
    return Moment(moment.now, moment.seed, health)
