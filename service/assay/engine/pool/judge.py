"""Judging: the world and a policy in, every pool with every verdict out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from assay.engine.evidence.benchmarks import latest_scores
from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.ignores import count_ignores, votes_by_model
from assay.engine.evidence.observations import (
    EndpointEvidence,
    fold_observations,
    peer_propensities,
)
from assay.engine.evidence.speed import fill_from_traffic
from assay.engine.evidence.traffic import add_traffic
from assay.engine.policy.binding import CompiledBinding, CompiledOrder
from assay.engine.policy.evaluation import NO_FINDINGS, Facts, RuleFindings, SharedFacts
from assay.engine.policy.fact_values import (
    benchmark_facts,
    cohort_facts,
    endpoint_facts,
    evidence_facts,
    ignore_facts,
    model_facts,
)
from assay.engine.policy.policy import Policy
from assay.engine.snapshot.parts import Part, write_model, write_pool, write_tenants
from assay.engine.snapshot.snapshot import Snapshot, assemble_snapshot
from assay.engine.world.catalog import Endpoint
from assay.engine.world.measurements import Observation, TrafficCounts
from assay.engine.world.world import World

Members = Mapping[str, frozenset[str]]  # endpoint ids by binding
NOBODY: Members = {}


@dataclass(frozen=True, slots=True)
class Rows:
    """One model's endpoints with their evidence folded in one way: facts of all together, a row of facts for each."""

    evidence: Mapping[str, EndpointEvidence]
    cohort: Facts
    rows: Sequence[Facts]


@dataclass(frozen=True, slots=True)
class Cohort:
    """One model made ready to be judged: its endpoints in the order of their ids, and their rows per way of folding."""

    facts: Facts
    endpoints: Sequence[Endpoint]
    folds: Mapping[str, Rows]

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.facts["id"])

    def part(self) -> Part:
        """The model's part of a snapshot."""
        return write_model(
            self.facts, self.endpoints, {k: (f.cohort, f.rows) for k, f in self.folds.items()}
        )

    def shared(self, bound: CompiledBinding) -> SharedFacts:
        """What all endpoints' rules of a binding read alike."""
        return {"model": self.facts, "cohort": self.folds[bound.fold].cohort}


def judge(world: World, policy: Policy, as_of: datetime, members: Members = NOBODY) -> Snapshot:
    """Judge every endpoint of every model by every binding that judges; `as_of` (UTC) bounds evidence only.

    Without memory: `members` are judged by `stay` rules, all others by `enter`, as if nothing had been before. The
    order of the world's tuples does not matter.
    """
    bounds = [b for b in policy.bound.values() if b.judged]
    models, pools = [], []
    for cohort in cohorts(world, policy, as_of):
        models.append(cohort.part())
        for bound in bounds:
            rows = cohort.folds[bound.fold].rows
            pools.append(
                judge_model(bound, cohort.shared(bound), rows, members.get(bound.name, frozenset()))
            )
    return assemble_snapshot(
        policy, as_of, models, pools, write_tenants(world.tenants, world.preferences)
    )


def cohorts(world: World, policy: Policy, as_of: datetime) -> Iterator[Cohort]:
    """Every model with its endpoints' facts, evidence folded in every way that the policy's bindings ask for."""
    specs = policy.folds
    endpoints: defaultdict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in sorted(world.endpoints, key=lambda e: e.endpoint_id):
        endpoints[endpoint.model].append(
            fill_from_traffic(endpoint, world.served.get(endpoint.endpoint_id))
        )
    observations: defaultdict[str, list[Observation]] = defaultdict(list)
    for observation in world.observations:
        observations[observation.endpoint_id].append(observation)
    tallies: defaultdict[tuple[str, str], list[TrafficCounts]] = defaultdict(list)
    for key, counted in world.traffic.items():
        for tally in counted:
            tallies[key, tally.endpoint_id].append(tally)
    voted = votes_by_model(world.ignore_votes)
    scored = latest_scores(world.benchmarks, as_of)
    for model in sorted(world.models, key=lambda m: m.model):
        own = endpoints[model.model]
        poll = voted.get(model.model)
        asked = [ignore_facts(count_ignores(e, poll)) if poll else {} for e in own]
        asked = [
            a | benchmark_facts(scored.get(e.endpoint_id, ()))
            for a, e in zip(asked, own, strict=True)
        ]
        seen = [o for e in own for o in observations[e.endpoint_id]]
        said = {k: [t for e in own for t in tallies.get((k, e.endpoint_id), ())] for k in specs}
        known = {
            k: add_traffic(fold_observations(seen, spec, as_of), said[k], spec)
            for k, spec in specs.items()
        }
        folds = {k: rows_of(own, asked, known[k], spec, as_of) for k, spec in specs.items()}
        yield Cohort(model_facts(model), own, folds)


def rows_of(
    endpoints: Sequence[Endpoint],
    asked: Sequence[Facts],
    evidence: Mapping[str, EndpointEvidence],
    spec: EvidenceSpec,
    as_of: datetime,
) -> Rows:
    """The cohort's facts and one row of facts per endpoint, for one way of folding evidence."""
    rows: list[Facts] = []
    others = peer_propensities(evidence)
    for endpoint, preferences in zip(endpoints, asked, strict=True):
        name = endpoint.endpoint_id
        rows.append(
            {
                **endpoint_facts(endpoint),
                **evidence_facts(evidence.get(name), others.get(name), spec.design_effect, as_of),
                **preferences,
            }
        )
    counted = [evidence[e.endpoint_id] for e in endpoints if e.endpoint_id in evidence]
    return Rows(evidence, cohort_facts(endpoints, counted), rows)


def judge_model(
    bound: CompiledBinding, shared: SharedFacts, rows: Sequence[Facts], members: frozenset[str]
) -> Part:
    """One binding's verdicts and judged order keys for one model."""
    found = admit(bound, rows, shared, members)
    return write_pool(
        bound.name, str(shared["model"]["id"]), found, judged_keys(bound, rows, shared)
    )


def judged_keys(
    bound: CompiledBinding, rows: Sequence[Facts], shared: SharedFacts
) -> Mapping[str, list[object]]:
    """A binding's judged order keys, all of them by name."""
    return {
        k: c for keys in (bound.across, bound.within) for k, c in judged_columns(keys, rows, shared)
    }


def judged_columns(
    keys: CompiledOrder, rows: Sequence[Facts], shared: SharedFacts
) -> Iterable[tuple[str, list[object]]]:
    """The values of the order keys that need no request, by name."""
    judged = tuple(k for k in keys.keys if k.judged)
    values = keys.values(judged, rows, shared)
    return ((key.name, numbers(column)) for key, column in zip(judged, values, strict=True))


def admit(
    bound: CompiledBinding, rows: Sequence[Facts], shared: SharedFacts, members: frozenset[str]
) -> list[RuleFindings]:
    """Members by the `stay` rules, everyone else by `enter`, in the order of `rows`."""
    if bound.enter is None or bound.stay is None:
        return [NO_FINDINGS] * len(rows)
    if not members:
        return bound.enter.findings(rows, shared)
    entering = iter(bound.enter.findings([r for r in rows if r["id"] not in members], shared))
    staying = iter(bound.stay.findings([r for r in rows if r["id"] in members], shared))
    return [next(staying) if r["id"] in members else next(entering) for r in rows]


def numbers(column: Iterable[object]) -> list[object]:
    """Key values as numbers, infinities as words since JSON has none; what is absent, failed or NaN has none."""
    known = (
        value if isinstance(value, (int, float)) and not math.isnan(value) else None
        for value in column
    )
    return [str(value) if value in (math.inf, -math.inf) else value for value in known]
