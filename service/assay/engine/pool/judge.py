"""Judging: world, policy and memory in; a snapshot, the new memory and every change out.

How it works
    Everything that judges goes through one loop, `judge_pools`: for every model and every binding
    that judges, evaluate the pool's rules, compute the order keys that need no request, and make a
    `PoolView`. There are three ways to evaluate a pool:

    - Without memory (`Members`): `stay` rules apply to the endpoints that are assumed to be
      members, `enter` rules to all others. The command line, policy tests and a service without a
      publication use this way.
    - With memory (`PoolMemory`): `PoolTick` evaluates the facts minus forgotten evidence by the
      rules of each endpoint's state, and then moves endpoints between states (`transition.py`). The
      curator uses this way.
    - From a snapshot (`rejudge`): another policy judges the snapshot's facts and standings.

    `as_of` bounds evidence only: a window counts once it has ended. The order of the world's tuples
    does not matter.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from assay.engine.evidence.benchmarks import latest_scores
from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.ignores import (
    IgnoreCounts,
    count_ignores,
    others_ignored,
    votes_by_model,
)
from assay.engine.evidence.observations import (
    NO_HOUR,
    EndpointEvidence,
    HourCounts,
    fold_observations,
)
from assay.engine.evidence.propensity import peer_shares
from assay.engine.evidence.speed import fill_from_traffic
from assay.engine.evidence.traffic import add_traffic
from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.evaluation import Facts
from assay.engine.policy.fact_values import (
    benchmark_facts,
    cohort_facts,
    endpoint_facts,
    evidence_facts,
    ignore_facts,
    model_facts,
)
from assay.engine.policy.policy import Policy
from assay.engine.policy.verdict import NO_FINDINGS, RuleFindings, Verdict
from assay.engine.pool.tick import MEMORY_RULES, PoolEvaluation, PoolTick
from assay.engine.pool.transition import update_memory
from assay.engine.snapshot.parts import (
    JudgedEndpoint,
    ModelView,
    PoolView,
    TimedPrices,
    write_tenants,
)
from assay.engine.snapshot.pool_memory import (
    EMPTY_MEMORY,
    EVICTED,
    LATE_HOURS,
    MEMBER,
    PoolChange,
    PoolMemory,
    PoolStanding,
    subtract_counts,
)
from assay.engine.snapshot.snapshot import Snapshot, assemble_snapshot
from assay.engine.world.capabilities import capability_facts
from assay.engine.world.catalog import Endpoint
from assay.engine.world.clock import EPOCH, HOUR
from assay.engine.world.measurements import Observation
from assay.engine.world.traffic_table import NO_TRAFFIC
from assay.engine.world.world import World

Members = Mapping[str, frozenset[str]]
"""Ids of the endpoints that are assumed to be members, by binding."""
NO_MEMBERS: Members = {}
EvaluatePool = Callable[[CompiledBinding, ModelView], PoolEvaluation]
EvidenceByFold = Mapping[str, Mapping[str, EndpointEvidence]]


@dataclass(frozen=True, slots=True)
class Judgment:
    """The result of judging; a state that did not change is the same object as before."""

    snapshot: Snapshot
    memory: PoolMemory = EMPTY_MEMORY
    changes: tuple[PoolChange, ...] = ()


def judge(
    world: World,
    policy: Policy,
    as_of: datetime,
    memory: PoolMemory | Members = NO_MEMBERS,
    *,
    closes_hour: bool = False,
) -> Judgment:
    """Judge every endpoint of every model by every binding that judges, as of an instant (UTC).

    With a `PoolMemory`, endpoints come into pools and leave them. `closes_hour` closes the hour
    that ends at `as_of`; missed hours must be closed in order. Otherwise the pools are judged
    between two hours.
    """
    evicted = _evicted(memory) if isinstance(memory, PoolMemory) else frozenset[str]()
    views, evidence = gather_facts(world, policy, as_of, evicted)
    tenants = write_tenants(world.tenants, world.preferences)
    if not isinstance(memory, PoolMemory):
        pools = judge_pools(policy, views, partial(_evaluate_without_memory, memory))
        return Judgment(assemble_snapshot(policy, as_of, views, pools, tenants))
    observed = _observed_by_hour(world, as_of)
    tick = PoolTick(as_of, closes_hour, memory, evidence, observed)
    pools = judge_pools(policy, views, tick.evaluate)
    snapshot = assemble_snapshot(policy, as_of, views, pools, tenants)
    bindings = frozenset(b.name for b in policy.judged_bindings if b.enter)
    after, changes = update_memory(memory, tick.transitions, bindings, as_of)
    if closes_hour:
        after = replace(after, counted=tick.counted_hours())
    return Judgment(snapshot, after, changes)


def _evicted(memory: PoolMemory) -> frozenset[str]:
    return frozenset(s.endpoint_id for s in memory.states.values() if s.state == EVICTED)


def judge_pools(
    policy: Policy, views: Iterable[ModelView], evaluate: EvaluatePool
) -> list[PoolView]:
    """Judge every model by every binding; `evaluate` is called for bindings with a pool."""
    pools: list[PoolView] = []
    for view in views:
        for binding in policy.judged_bindings:
            if binding.enter is None:
                evaluation = _evaluate_without_memory(NO_MEMBERS, binding, view)
            else:
                evaluation = evaluate(binding, view)
            pools.append(_pool_view(binding, view, evaluation))
    return pools


def _evaluate_without_memory(
    members: Members, binding: CompiledBinding, view: ModelView
) -> PoolEvaluation:
    rows, own = view.rows[binding.fold], members.get(binding.name, frozenset())
    found = binding.pool_findings(rows, view.shared(binding.fold), own)
    return PoolEvaluation([(findings, None) for findings in found])


def _pool_view(binding: CompiledBinding, view: ModelView, evaluation: PoolEvaluation) -> PoolView:
    """Return a pool's verdicts, with the values of the order keys that need no request."""
    rows, shared = view.rows[binding.fold], view.shared(binding.fold)
    columns: dict[str, list[object]] = {}
    for order in (binding.across, binding.within):
        values = order.fused(order.judged_keys)(rows, shared)
        columns |= zip((key.name for key in order.judged_keys), values, strict=True)
    endpoints: list[JudgedEndpoint] = []
    for index, (findings, standing) in enumerate(evaluation.endpoints):
        unjudged = view.endpoints[index]
        verdict = unjudged if findings is NO_FINDINGS else unjudged.with_findings(findings)
        keys = {name: _number(column[index]) for name, column in columns.items()}
        endpoints.append(JudgedEndpoint(verdict, keys, standing))
    has_memory = evaluation.has_memory
    return PoolView(
        binding.name, view.model, tuple(endpoints), tuple(columns), has_memory=has_memory
    )


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not math.isnan(value) else None


def _observed_by_hour(world: World, as_of: datetime) -> Mapping[int, Mapping[str, HourCounts]]:
    """Return what was observed of endpoints wholly within one of the last day's hours.

    The last of these hours ends at `as_of`.
    """
    closed = (as_of - EPOCH) // HOUR - 1
    hours: defaultdict[int, dict[str, HourCounts]] = defaultdict(dict)
    for o in world.observations:
        age = (as_of - o.observed_to) // HOUR
        if 0 <= age < LATE_HOURS and as_of - (age + 1) * HOUR <= o.observed_from:
            known = hours[closed - age].get(o.endpoint_id, NO_HOUR)
            hours[closed - age][o.endpoint_id] = HourCounts(
                known.calls + o.tool_call_requests, known.errored + o.errored_requests
            )
    return hours


def gather_facts(
    world: World, policy: Policy, as_of: datetime, silent: Collection[str] = ()
) -> tuple[list[ModelView], EvidenceByFold]:
    """Return every model with its facts, and the evidence, per way of folding evidence.

    `silent` endpoints are not peers of others.
    """
    endpoints: defaultdict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in sorted(world.endpoints, key=lambda e: e.endpoint_id):
        served = world.served.get(endpoint.endpoint_id)
        endpoints[endpoint.model].append(fill_from_traffic(endpoint, served))
    observations: defaultdict[str, list[Observation]] = defaultdict(list)
    for observation in world.observations:
        observations[observation.endpoint_id].append(observation)
    other = _facts_without_fold(world, as_of)
    views: list[ModelView] = []
    evidence: dict[str, dict[str, EndpointEvidence]] = {fold: {} for fold in policy.folds}
    for model in sorted(world.models, key=lambda m: m.model):
        own = endpoints[model.model]
        names = [e.endpoint_id for e in own]
        seen = [o for name in names for o in observations[name]]
        rows: dict[str, list[Facts]] = {}
        cohort: dict[str, Facts] = {}
        for fold, spec in policy.folds.items():
            reported = world.traffic.get(fold, NO_TRAFFIC).of_endpoints(names)
            known = add_traffic(fold_observations(seen, spec, as_of), reported, spec)
            found = _rows(own, known, spec, as_of, silent)
            rows[fold] = [
                {**row, **other[e.endpoint_id]} for row, e in zip(found, own, strict=True)
            ]
            observed = [known[e.endpoint_id] for e in own if e.endpoint_id in known]
            cohort[fold] = cohort_facts(own, observed)
            evidence[fold].update(known)
        views.append(_model_view(model_facts(model), own, rows, cohort))
    return views, evidence


def _facts_without_fold(world: World, as_of: datetime) -> Mapping[str, Facts]:
    """Return the facts of each endpoint that are the same for every way of folding evidence."""
    votes, scores = votes_by_model(world.ignore_votes), latest_scores(world.benchmarks, as_of)
    counts: defaultdict[str, list[tuple[Endpoint, IgnoreCounts]]] = defaultdict(list)
    for endpoint in world.endpoints:
        if own := votes.get(endpoint.model):
            counts[endpoint.model].append((endpoint, count_ignores(endpoint, own)))
    ignored: dict[str, Facts] = {}
    for of_model in counts.values():
        others = others_ignored(of_model)
        for endpoint, each in of_model:
            ignored[endpoint.endpoint_id] = ignore_facts(each, others.get(endpoint.endpoint_id))
    facts: dict[str, Facts] = {}
    for endpoint in world.endpoints:
        name = endpoint.endpoint_id
        benchmarks = benchmark_facts(scores.get(name, ()))
        capable = capability_facts(endpoint, world.refused.get(name, ()))
        facts[name] = {**capable, **ignored.get(name, {}), **benchmarks}
    return facts


def _rows(
    endpoints: Sequence[Endpoint],
    evidence: Mapping[str, EndpointEvidence],
    spec: EvidenceSpec,
    as_of: datetime,
    silent: Collection[str],
) -> Iterator[Facts]:
    """Yield what is known of each endpoint, for one way of folding evidence."""
    known = {name: each.folded for name, each in evidence.items() if each.folded is not None}
    peers = peer_shares(known, {e.endpoint_id: e.provider for e in endpoints}, silent)
    for endpoint in endpoints:
        name = endpoint.endpoint_id
        seen = evidence_facts(evidence.get(name), peers.get(name), spec.design_effect, as_of)
        yield {**endpoint_facts(endpoint), **seen}


def _model_view(
    facts: Facts,
    endpoints: Sequence[Endpoint],
    rows: Mapping[str, Sequence[Facts]],
    cohort: Mapping[str, Facts],
) -> ModelView:
    model = str(facts["id"])
    timed = [
        TimedPrices(index, e.prices, e.overrides)
        for index, e in enumerate(endpoints)
        if e.overrides
    ]
    unjudged = tuple(Verdict(e.endpoint_id, model, e.provider, e.tag) for e in endpoints)
    return ModelView(model, facts, unjudged, rows, cohort, tuple(timed))


def rejudge(snapshot: Snapshot, policy: Policy, models: Iterable[str]) -> Snapshot:
    """Return the snapshot with the pools of these models as `policy` would judge them.

    Evidence stays folded as it was; a way of folding that the snapshot does not hold is replaced by
    one that it does. What pools remembered stays too, by the names of their bindings: members are
    judged by `stay`, and holds continue.
    """
    folds = {binding.fold for binding in policy.bindings.values()}
    known = [snapshot.models[name] for name in models if name in snapshot.models]
    views: list[ModelView] = []
    for view in known:
        substitute = next(iter(view.rows))
        missing = folds - view.rows.keys()
        rows = {**view.rows, **dict.fromkeys(missing, view.rows[substitute])}
        cohort = {**view.cohort, **dict.fromkeys(missing, view.cohort[substitute])}
        views.append(replace(view, rows=rows, cohort=cohort))
    pools = judge_pools(policy, views, partial(_evaluate_with_standings, snapshot))
    return replace(
        snapshot,
        policy=policy,
        models={**snapshot.models, **{view.model: view for view in views}},
        pools={(pool.binding, pool.model): pool for pool in pools},
    )


def _evaluate_with_standings(
    snapshot: Snapshot, binding: CompiledBinding, view: ModelView
) -> PoolEvaluation:
    """Evaluate a pool with the standings that a snapshot holds."""
    former = snapshot.pools.get((binding.name, view.model))
    if former is None or not former.has_memory:
        return _evaluate_without_memory(NO_MEMBERS, binding, view)
    standings = [e.standing for e in former.endpoints if e.standing is not None]
    pairs = list(zip(former.verdicts, standings, strict=True))
    stayed = frozenset(verdict.endpoint_id for verdict, s in pairs if s.rules == "stay")
    rows = zip(view.rows[binding.fold], standings, strict=True)
    read = [subtract_counts(row, standing.forgotten) for row, standing in rows]
    found = binding.pool_findings(read, view.shared(binding.fold), stayed)
    judged = zip(found, pairs, strict=True)
    return PoolEvaluation(
        [(_with_memory(findings, verdict, s), s) for findings, (verdict, s) in judged],
        has_memory=True,
    )


def _with_memory(found: RuleFindings, former: Verdict, standing: PoolStanding) -> RuleFindings:
    """Return findings with those of the memory: holds and tolerated rules continue."""
    if standing.state != MEMBER:
        hold_findings = tuple(f for f in former.broken if f.rule in MEMORY_RULES)
        return replace(found, broken=(*hold_findings, *found.broken))
    tolerated = {(f.rule_set, f.rule) for f in former.abstained}
    minimum_findings = tuple(f for f in former.abstained if f.rule in MEMORY_RULES)
    still_tolerated = tuple(f for f in found.broken if (f.rule_set, f.rule) in tolerated)
    return replace(
        found,
        broken=tuple(f for f in found.broken if (f.rule_set, f.rule) not in tolerated),
        abstained=(*minimum_findings, *still_tolerated, *found.abstained),
    )
