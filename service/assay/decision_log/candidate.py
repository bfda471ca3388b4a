"""Comparing logged decisions with those of a candidate policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from assay.decision_log.decision_row import split_variants
from assay.decision_log.record import DecisionRecord, decode_record
from assay.decision_log.replay import Replayer
from assay.engine.decide.plan import Plan
from assay.engine.errors import AssayError
from assay.engine.policy.policy import Policy
from assay.engine.pool.judge import rejudge
from assay.engine.snapshot.snapshot import Snapshot


@dataclass(slots=True)
class FirstAttemptTotals:
    """First attempts under one policy: providers, list prices and expected errors."""

    first: Counter[str] = field(default_factory=Counter)
    unserved: int = 0
    priced: int = 0
    blended_usd_per_mtok: float = 0.0
    tool_decisions: int = 0
    errored_expected: float = 0.0

    def add(self, plan: Plan, facts: Mapping[str, Mapping[str, object]], tools: int) -> None:
        """Count one plan; `facts` are those of the snapshot by endpoint id."""
        if not plan.attempts:
            self.unserved += 1
            return
        first = plan.attempts[0]
        self.first[first.provider] += 1
        known = facts[first.endpoint_id]
        price, calls, errored = (
            known.get(k)
            for k in ("price.blended", "tools.tool_call_requests", "tools.errored_requests")
        )
        if isinstance(price, float):
            self.priced += 1
            self.blended_usd_per_mtok += price
        if tools and isinstance(calls, float) and isinstance(errored, float) and calls > 0:
            self.tool_decisions += 1
            self.errored_expected += errored / calls

    @property
    def mean_price(self) -> float | None:
        """Mean blended list price of first attempts with a price, in USD per million tokens."""
        return self.blended_usd_per_mtok / self.priced if self.priced else None

    @property
    def error_rate(self) -> float | None:
        """Expected share of tool-call requests with errors, where the first attempt is measured."""
        return self.errored_expected / self.tool_decisions if self.tool_decisions else None


@dataclass(slots=True)
class PolicyComparison:
    """What a candidate changes; `uncovered` counts why decisions could not be judged again."""

    decisions: int = 0
    covered: int = 0
    uncovered: Counter[str] = field(default_factory=Counter)
    changed_first: int = 0
    changed_attempts: int = 0
    changed_ids: list[str] = field(default_factory=list)
    before: FirstAttemptTotals = field(default_factory=FirstAttemptTotals)
    after: FirstAttemptTotals = field(default_factory=FirstAttemptTotals)

    @property
    def shares(self) -> list[tuple[str, float, float]]:
        """Each provider's share of first attempts before and after, largest change first."""
        if not self.covered:
            return []
        providers = self.before.first.keys() | self.after.first.keys()
        moved = [
            (p, self.before.first[p] / self.covered, self.after.first[p] / self.covered)
            for p in providers
        ]
        return sorted(moved, key=lambda row: (-abs(row[2] - row[1]), row[0]))


_MAX_IDS = 20
_COVERED = frozenset({"identical", "engine_differs"})


def compare(
    records: Iterable[tuple[str, bytes]], candidate: Policy, replay: Replayer
) -> PolicyComparison:
    """Plan every decision under both policies, from the same snapshot, seed and health."""
    found = PolicyComparison()

    @lru_cache(maxsize=1024)
    def judge(snapshot_id: str, models: tuple[str, ...]) -> Snapshot:
        snapshot = replay.snapshots(snapshot_id)
        if snapshot is None:
            raise KeyError(snapshot_id)
        return rejudge(snapshot, candidate, models)

    for decision_id, data in records:
        found.decisions += 1
        replayed = replay(decision_id, data)
        if replayed.plan is None or replayed.outcome not in _COVERED:
            found.uncovered[replayed.outcome] += 1
            continue
        record = decode_record(data)
        models = tuple(
            split_variants(slug)[0] for slug in (record.request.model, *record.request.models)
        )
        snapshot = judge(record.snapshot_id, models)
        try:
            after = replay.plan_again(record, snapshot)
        except AssayError:  # a variant that the candidate does not bind
            found.uncovered["refused"] += 1
            continue
        _count(found, record, (replayed.plan, after), _facts_of(snapshot, models))
    return found


def _facts_of(snapshot: Snapshot, models: Iterable[str]) -> Mapping[str, Mapping[str, object]]:
    views = [snapshot.models[model] for model in models]
    return {str(row["id"]): row for view in views for row in next(iter(view.rows.values()))}


def _count(
    found: PolicyComparison,
    record: DecisionRecord,
    plans: tuple[Plan, Plan],
    facts: Mapping[str, Mapping[str, object]],
) -> None:
    before, after = plans
    tools = record.request.tools
    found.covered += 1
    found.before.add(before, facts, tools)
    found.after.add(after, facts, tools)
    one, other = ([a.endpoint_id for a in plan.attempts] for plan in plans)
    found.changed_attempts += one != other
    if one[:1] != other[:1]:
        found.changed_first += 1
        if len(found.changed_ids) < _MAX_IDS:
            found.changed_ids.append(record.decision_id)
