"""Replay: recompute decisions from their records and compare the plans byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from sqlalchemy import Engine

from assay.decision_log.record import UNREADABLE, DecisionRecord, decode_record
from assay.engine.decide.plan import Plan, PlannedAttempt, plan as make_plan
from assay.engine.errors import AssayError, AuthorError
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.policy.verdict import RuleFinding, Verdict
from assay.engine.snapshot.snapshot import Snapshot, read_policy_source, restore_snapshot
from assay.store.snapshots import load_snapshot

Compile = Callable[[PolicySource], Policy]
_MAX_SNAPSHOTS = 8


def stored_snapshots(database: Engine, compile_source: Compile) -> Callable[[str], Snapshot | None]:
    """Return a function that loads snapshots by id and caches the last few."""
    policies: dict[str, Policy] = {}

    @lru_cache(maxsize=_MAX_SNAPSHOTS)
    def find(snapshot_id: str) -> Snapshot | None:
        stored = load_snapshot(database, snapshot_id)
        if stored is None:
            return None
        source, revision = read_policy_source(stored.manifest, stored.parts)
        if source.digest not in policies:
            policies[source.digest] = compile_source(source)
        policy = replace(policies[source.digest], revision=revision)
        return restore_snapshot(stored.manifest, stored.parts, policy)

    return find


Snapshots = Callable[[str], Snapshot | None]


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result of replaying one decision; `plan` is the recomputed one, if there is one.

    `outcome` is `identical`, `differs`, `engine_differs` (another version of Assay decided),
    `snapshot_missing`, `tenant_erased` or `unreadable`.
    """

    decision_id: str
    outcome: str
    detail: str = ""
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Replayer:
    """Recomputes records; `tenants` maps pseudonyms to names, `snapshots` loads by id."""

    snapshots: Snapshots
    tenants: Mapping[str, str]
    engine_version: str

    def __call__(self, decision_id: str, data: bytes) -> ReplayResult:
        """Recompute one decision from the bytes of its record."""
        try:
            record = decode_record(data)
        except ValueError as error:
            return ReplayResult(decision_id, "unreadable", str(error))
        try:
            snapshot = self.snapshots(record.snapshot_id)
        except KeyError:  # one of its parts was deleted
            snapshot = None
        except AuthorError as error:
            return self._report_difference(record, f"its policy is rejected now: {error}", None)
        if snapshot is None:
            detail = f"snapshot {record.snapshot_id} is not stored any more"
            return ReplayResult(record.decision_id, "snapshot_missing", detail)
        if record.tenant and record.tenant not in self.tenants:
            detail = "the tenant was erased together with its settings"
            return ReplayResult(record.decision_id, "tenant_erased", detail)
        return self._compare(record, snapshot)

    def _compare(self, record: DecisionRecord, snapshot: Snapshot) -> ReplayResult:
        try:
            plan = self.plan_again(record, snapshot)
            if plan.canonical() != record.plan:
                return self._report_difference(
                    record, _describe_difference(logged_plan(record), plan), plan
                )
        except AssayError as error:
            return self._report_difference(record, f"the request is rejected now: {error}", None)
        except UNREADABLE as error:
            detail = f"the logged plan cannot be read: {error}"
            return ReplayResult(record.decision_id, "unreadable", detail)
        is_same_version = record.engine_version == self.engine_version
        detail = "" if is_same_version else f"decided by Assay {record.engine_version}"
        return ReplayResult(record.decision_id, "identical", detail, plan)

    def plan_again(self, record: DecisionRecord, snapshot: Snapshot) -> Plan:
        """Return the plan of the logged request, seed and health in a snapshot."""
        request = replace(record.request, tenant=self.tenants.get(record.tenant, ""))
        return make_plan(request, snapshot, record.moment)

    def _report_difference(
        self, record: DecisionRecord, detail: str, made: Plan | None
    ) -> ReplayResult:
        """Report a difference, as `engine_differs` if another version decided."""
        if record.engine_version != self.engine_version:
            versions = (
                f"decided by Assay {record.engine_version}, replayed by {self.engine_version}"
            )
            return ReplayResult(record.decision_id, "engine_differs", f"{versions}: {detail}", made)
        return ReplayResult(record.decision_id, "differs", detail, made)


def logged_plan(record: DecisionRecord) -> Plan:
    """Return the plan as it was answered, without tags and messages, which records omit."""
    logged = record.decoded_plan
    verdicts: list[Verdict] = []
    for model, endpoint_id, provider, *lists in logged["verdicts"]:
        findings = [
            tuple(
                RuleFinding(rule, reason, "", outcome, rule_set)
                for rule_set, rule, reason, outcome in each
            )
            for each in lists
        ]
        broken, abstained, shadow = findings
        verdicts.append(Verdict(endpoint_id, model, provider, "", broken, abstained, shadow))
    attempts: list[PlannedAttempt] = []
    for rank, (place, rule_set) in enumerate(logged["attempts"], start=1):
        tried = verdicts[place]
        attempts.append(
            PlannedAttempt(rank, tried.model, tried.endpoint_id, tried.provider, "", rule_set)
        )
    return Plan(
        attempts=tuple(attempts),
        verdicts=tuple(verdicts),
        availability=logged["availability"],
        snapshot_id=record.snapshot_id,
        policy_revision=record.policy_revision,
    )


def _describe_difference(logged: Plan, made: Plan) -> str:
    """Return the first difference between a logged plan and a recomputed one."""
    before = [attempt.endpoint_id for attempt in logged.attempts]
    now = [attempt.endpoint_id for attempt in made.attempts]
    if before != now:
        return f"attempts were {', '.join(before) or 'none'}, are {', '.join(now) or 'none'}"
    reasons = {v.endpoint_id: [found.reason for found in v.broken] for v in logged.verdicts}
    for verdict in made.verdicts:
        was, found = reasons.get(verdict.endpoint_id), [each.reason for each in verdict.broken]
        if was != found:
            return f"{verdict.endpoint_id} was excluded for {was}, is excluded for {found}"
    return "the plans differ in their details"
