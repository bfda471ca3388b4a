"""Replay: decisions recomputed from what was logged, and compared byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from sqlalchemy import Engine

from assay.decision_log.record import UNREADABLE, DecisionRecord, decode_record
from assay.engine.decide.plan import Plan, PlannedAttempt, plan
from assay.engine.errors import AssayError, AuthorError
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.policy.verdict import RuleFinding, Verdict
from assay.engine.snapshot.snapshot import Snapshot, read_policy_source, restore_snapshot
from assay.store.snapshots import load_snapshot

Compile = Callable[[PolicySource], Policy]
KEPT = 8


def stored_snapshots(database: Engine, compile_source: Compile) -> Callable[[str], Snapshot | None]:
    """A function that finds snapshots by id; the last few stay in memory."""
    policies: dict[str, Policy] = {}

    @lru_cache(maxsize=KEPT)
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
    """What replaying one decision came to.

    `outcome` is `identical`, `differs`, `engine_differs` (another version of Assay, which may plan otherwise),
    `snapshot_missing`, `tenant_erased` or `unreadable`; `plan` is there where one could be made.
    """

    decision_id: str
    outcome: str
    detail: str = ""
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Replayer:
    """Recomputes records; `tenants` maps pseudonyms to names, `snapshots` finds a snapshot by its id."""

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
        except KeyError:  # a part of it is gone
            snapshot = None
        except AuthorError as error:
            return self.differing(record, f"its policy is refused now: {error}", None)
        if snapshot is None:
            return ReplayResult(
                record.decision_id, "snapshot_missing", f"snapshot {record.snapshot_id} is not kept"
            )
        if record.tenant and record.tenant not in self.tenants:
            return ReplayResult(
                record.decision_id,
                "tenant_erased",
                "the tenant was erased, and its settings with it",
            )
        return self.compared(record, snapshot)

    def compared(self, record: DecisionRecord, snapshot: Snapshot) -> ReplayResult:
        """Plan again, and compare byte for byte."""
        try:
            made = self.planned(record, snapshot)
            if made.canonical() != record.plan:
                return self.differing(record, difference(record, made), made)
        except AssayError as error:
            return self.differing(record, f"it is refused now: {error}", None)
        except UNREADABLE as error:
            return ReplayResult(
                record.decision_id, "unreadable", f"the logged plan cannot be read: {error}"
            )
        by = (
            ""
            if record.engine_version == self.engine_version
            else f"made by Assay {record.engine_version}"
        )
        return ReplayResult(record.decision_id, "identical", by, made)

    def planned(self, record: DecisionRecord, snapshot: Snapshot) -> Plan:
        """The plan that the logged request, seed and health give in a snapshot."""
        request = replace(record.request, tenant=self.tenants.get(record.tenant, ""))
        return plan(request, snapshot, record.moment)

    def differing(self, record: DecisionRecord, detail: str, made: Plan | None) -> ReplayResult:
        """A difference, laid to another engine version where there is one."""
        if record.engine_version != self.engine_version:
            words = f"made by Assay {record.engine_version}, replayed by {self.engine_version}: {detail}"
            return ReplayResult(record.decision_id, "engine_differs", words, made)
        return ReplayResult(record.decision_id, "differs", detail, made)


def logged_plan(record: DecisionRecord) -> Plan:
    """The plan as it was answered, save tags and sentences, which a record leaves out."""
    found = record.decoded_plan
    verdicts = tuple(
        Verdict(
            endpoint_id,
            model,
            provider,
            "",
            findings(broken),
            findings(abstained),
            findings(shadow),
        )
        for model, endpoint_id, provider, broken, abstained, shadow in found["verdicts"]
    )
    attempts = tuple(
        PlannedAttempt(
            rank,
            verdicts[place].model,
            verdicts[place].endpoint_id,
            verdicts[place].provider,
            "",
            rule_set,
        )
        for rank, (place, rule_set) in enumerate(found["attempts"], 1)
    )
    return Plan(
        attempts, verdicts, found["availability"], record.snapshot_id, record.policy_revision
    )


def findings(spelled: Sequence[Sequence[str]]) -> tuple[RuleFinding, ...]:
    """Findings as logged: [rule set, rule, reason, outcome]."""
    return tuple(
        RuleFinding(rule, reason, "", outcome, rule_set)
        for rule_set, rule, reason, outcome in spelled
    )


def difference(record: DecisionRecord, made: Plan) -> str:
    """The first difference between a logged plan and a recomputed one, in a sentence."""
    logged = record.decoded_plan
    names = [logged["verdicts"][place][1] for place, _ in logged["attempts"]]
    now = [a.endpoint_id for a in made.attempts]
    if names != now:
        return f"attempts were {', '.join(names) or 'none'}, are {', '.join(now) or 'none'}"
    reasons = {v[1]: [f[2] for f in v[3]] for v in logged["verdicts"]}
    for verdict in made.verdicts:
        found = [f.reason for f in verdict.broken]
        if reasons.get(verdict.endpoint_id) != found:
            return f"{verdict.endpoint_id} was left out for {reasons.get(verdict.endpoint_id)}, is for {found}"
    return "the plans differ in their details"
