"""Planning: one request, snapshot and moment in; ordered attempts and all verdicts out.

How it works
    Each requested model passes the stages in turn: its name is split into model and variants;
    bindings are chosen for variants, sort and tenant; the pools of the chosen bindings are
    intersected; request rules run over the endpoints. Then the admitted endpoints of all models are
    ordered together, and become the attempts.

    Pools were judged before, with the snapshot. A request only adds findings to their verdicts, so
    nothing that it says can admit an endpoint that is not a member. All verdicts of the snapshot
    are shared between requests and never change: a finding makes a new verdict.

    Order keys are compared as tuples of plain numbers: keys that sort across models, the turn of
    the model (constant with `partition: none`), keys within the model, the endpoint id. With
    `partition: none` the first model's order sorts all.

    INVARIANT: request, snapshot and moment determine the plan. Its canonical bytes are equal on any
    machine, and replay compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from assay.engine.decide.ordering import comparable_columns, uniform_of
from assay.engine.errors import PolicyBehind
from assay.engine.policy.binding import NO_ROW, CompiledOrder, PolicyRoute
from assay.engine.policy.compile import CheckedKey
from assay.engine.policy.evaluation import Facts, SharedFacts
from assay.engine.policy.fact_values import price_facts, prices_at, request_facts, tenant_facts
from assay.engine.policy.verdict import (
    NO_FINDINGS,
    RuleFinding,
    RuleFindings,
    Verdict,
    canonical_names,
)
from assay.engine.snapshot.parts import ModelView, TenantView
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.provider_names import RequestWarning
from assay.engine.world.request import ProviderPreferences, Request, parse_slug

NO_TENANT = TenantView(None, ())
_BY_KEYS = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Moment:
    """The time at which prices hold (UTC), the seed of draws, and the health of endpoints.

    `health` holds the endpoints that are demoted at this moment, by id, with the reason.
    """

    now: datetime
    seed: bytes
    health: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedAttempt:
    """One endpoint to try; `rank` counts from 1."""

    rank: int
    model: str
    endpoint_id: str
    provider: str
    tag: str
    rule_set: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer to one request: attempts in order, and all verdicts of the requested models.

    `availability` is empty if there are attempts, otherwise one of OpenRouter's codes:
    `no_endpoints` if the models have none, `constraint_filtered` if rules excluded all.

    `affinity` says what became of the request's previous endpoint; it is empty if there is none.
    `kept`: it is the first attempt. `demoted` and `outranked`: it is a later attempt, because of
    its health or for another reason. `excluded`: a rule excludes it. `unknown`: it is not an
    endpoint of the requested models. `warnings` are about the request, not about endpoints.
    """

    attempts: tuple[PlannedAttempt, ...]
    verdicts: tuple[Verdict, ...]
    availability: str
    snapshot_id: str
    policy_revision: int
    affinity: str = ""
    warnings: tuple[RequestWarning, ...] = ()

    @property
    def excluded(self) -> tuple[Verdict, ...]:
        """The endpoints that rules excluded and that no other entry of the request admits."""
        attempted = {a.endpoint_id for a in self.attempts}
        return tuple(v for v in self.verdicts if v.broken and v.endpoint_id not in attempted)

    def canonical(self) -> bytes:
        """Return canonical JSON without messages, equal if request, snapshot and moment are.

        `attempts` are [place among the verdicts, rule set]; a verdict is [model, endpoint_id,
        provider, broken, abstained, shadow], a finding [rule set, rule, reason, outcome].
        """
        places = {verdict.endpoint_id: place for place, verdict in enumerate(self.verdicts)}
        attempts = [_canonical_attempt(places[a.endpoint_id], a.rule_set) for a in self.attempts]
        return b'{"attempts":[%b],"availability":%b,"snapshot":%b,"verdicts":[%b]}' % (
            b",".join(attempts),
            canonical_names(self.availability),
            canonical_names(self.snapshot_id),
            b",".join([verdict.canonical for verdict in self.verdicts]),
        )


@lru_cache(maxsize=1 << 12)
def _canonical_attempt(place: int, rule_set: str) -> bytes:
    return b"[%d,%b]" % (place, canonical_names(rule_set))


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan as answered, with everything that a replay needs except the snapshot."""

    decision_id: str
    request: Request
    moment: Moment
    plan: Plan
    policy_digest: str


@dataclass(frozen=True, slots=True)
class RequestedModel:
    """One requested model; `verdicts` and `rows` follow its endpoints."""

    place: int
    view: ModelView
    route: PolicyRoute
    rows: Sequence[Facts]
    shared: SharedFacts
    verdicts: Sequence[Verdict]


class _Candidate(NamedTuple):
    """An admitted endpoint with what it is sorted by."""

    keys: tuple[object, ...]
    verdict: Verdict
    rule_set: str


def plan(request: Request, snapshot: Snapshot, moment: Moment) -> Plan:
    """Answer one request; raises UnknownModel, UnknownVariant, InvalidField and PolicyBehind.

    A plan without attempts is an answer, not an error.
    """
    return order_models(judge_models(request, snapshot, moment), request, snapshot, moment)


def judge_models(request: Request, snapshot: Snapshot, moment: Moment) -> list[RequestedModel]:
    """Judge every requested model for this request, in order and each once."""
    if request.min_policy_revision > snapshot.policy.revision:
        raise PolicyBehind(request.min_policy_revision, snapshot.policy.revision)
    if snapshot.provider_names is not None and _names_providers(request.provider):
        request = snapshot.provider_names.resolve_request(request)
    names = dict.fromkeys((request.model, *request.models))
    return [
        _judge_model(place, name, request, snapshot, moment) for place, name in enumerate(names)
    ]


def _names_providers(wants: ProviderPreferences) -> bool:
    return bool(wants.order or wants.only or wants.ignore)


def order_models(
    models: Sequence[RequestedModel], request: Request, snapshot: Snapshot, moment: Moment
) -> Plan:
    """Put the judged models into one plan."""
    attempts = _rank(_order(models, request, snapshot, moment))
    if attempts and not request.provider.allow_fallbacks and not request.provider.order:
        models = [_with_single_choice(model, attempts[0].endpoint_id) for model in models]
        attempts = attempts[:1]
    verdicts = tuple(chain.from_iterable(model.verdicts for model in models))
    availability = "" if attempts else "constraint_filtered" if verdicts else "no_endpoints"
    known, wants = snapshot.provider_names, request.provider
    return Plan(
        attempts,
        verdicts,
        availability,
        snapshot.snapshot_id,
        snapshot.policy.revision,
        _affinity(request.previous_endpoint_id, attempts, verdicts, moment.health),
        known.warn(wants) if known is not None and _names_providers(wants) else (),
    )


def _affinity(
    previous: str,
    attempts: Sequence[PlannedAttempt],
    verdicts: Sequence[Verdict],
    health: Mapping[str, str],
) -> str:
    if not previous:
        return ""
    ids = [attempt.endpoint_id for attempt in attempts]
    if previous in ids:
        if ids[0] == previous:
            return "kept"
        return "demoted" if previous in health else "outranked"
    judged = any(verdict.endpoint_id == previous for verdict in verdicts)
    return "excluded" if judged else "unknown"


def _judge_model(
    place: int, name: str, request: Request, snapshot: Snapshot, moment: Moment
) -> RequestedModel:
    """Take one requested model through variants, bindings, pools and request rules."""
    routes = snapshot.policy.routes
    variants = routes.serving(request.tenant).by_variant
    slug = parse_slug(name, models=snapshot.models, variants=variants)
    view = snapshot.models[slug.model]
    tenant = snapshot.tenants.get(request.tenant, NO_TENANT)
    asked = request_facts(request, slug.model, slug.variants)
    asked["draw"] = uniform_of(moment.seed)
    shared = {
        "model": view.facts,
        "request": asked,
        "tenant": tenant_facts(
            request.tenant,
            tenant.settings,
            tenant.preferences,
            slug.model,
            names=snapshot.provider_names,
        ),
    }
    sort = None if request.provider.order else request.provider.sort
    route = routes.route(slug.variants, sort, request.tenant, shared)
    shared["cohort"] = view.cohort[route.order.fold]
    rows = rows_at(view, view.rows[route.order.fold], request, moment)
    verdicts = _intersect_pools(route, view, snapshot)
    for program in route.programs:
        for index, found in enumerate(program.findings(rows, shared)):
            if found is not NO_FINDINGS:
                verdicts[index] = verdicts[index].with_findings(found)
    return RequestedModel(place, view, route, rows, shared, verdicts)


def rows_at(
    view: ModelView, rows: Sequence[Facts], request: Request, moment: Moment
) -> Sequence[Facts]:
    """Return the rows with the prices and the health of the moment."""
    demoted: list[int] = []
    if moment.health:
        ids = enumerate(view.endpoints)
        demoted = [index for index, endpoint in ids if endpoint.endpoint_id in moment.health]
    if not view.timed and not demoted:
        return rows
    changed = list(rows)
    for timed in view.timed:
        row = rows[timed.index]
        other = {name: value for name, value in row.items() if not name.startswith("price.")}
        prices = prices_at(timed.base, timed.overrides, moment.now, request.prompt_tokens)
        changed[timed.index] = {**other, **price_facts(prices)}
    for index in demoted:
        changed[index] = {**changed[index], "demoted": True}
    return changed


def _intersect_pools(route: PolicyRoute, view: ModelView, snapshot: Snapshot) -> list[Verdict]:
    """Return the verdicts of the route's pools: an endpoint has to be a member of all of them."""
    pools = [snapshot.pools[binding.name, view.model] for binding in route.pools]
    if not pools:
        return list(view.endpoints)
    verdicts = [endpoint.verdict for endpoint in pools[0].endpoints]
    for pool in pools[1:]:
        pairs = zip(verdicts, pool.endpoints, strict=True)
        verdicts = [before.with_findings(endpoint.verdict) for before, endpoint in pairs]
    return verdicts


def _order(
    models: Sequence[RequestedModel], request: Request, snapshot: Snapshot, moment: Moment
) -> list[_Candidate]:
    """Return every admitted endpoint, best first; ties break by endpoint id."""
    in_turn = request.provider.partition != "none"
    first = models[0].route.order
    across = _applying(first.across, models)
    candidates: list[_Candidate] = []
    for model in models:
        admitted = [index for index, verdict in enumerate(model.verdicts) if not verdict.broken]
        if not admitted:
            continue
        order = model.route.order if in_turn else first
        within = _applying(order.within, [model] if in_turn else models)
        values = [
            *_key_values(first.across, across, model, admitted, snapshot),
            *_key_values(order.within, within, model, admitted, snapshot),
        ]
        verdicts = [model.verdicts[index] for index in admitted]
        ids = [verdict.endpoint_id for verdict in verdicts]
        columns: list[Sequence[object]] = [*comparable_columns(values, ids, moment.seed), ids]
        columns.insert(len(across), [model.place if in_turn else 0] * len(admitted))
        for verdict, keys in zip(verdicts, zip(*columns, strict=True), strict=True):
            candidates.append(_Candidate(keys, verdict, model.route.rule_set))
    candidates.sort(key=_BY_KEYS)
    return candidates


def _applying(order: CompiledOrder, models: Sequence[RequestedModel]) -> tuple[CheckedKey, ...]:
    """Return the keys that apply to any of the models that are sorted together.

    A key applies unless its `when` is false; with a missing fact it still orders.
    """
    guards = zip(*(order.guards(NO_ROW, model.shared) for model in models), strict=True)
    return tuple(
        key
        for key in order.keys
        if key.when is None or any(value is not False for [value] in next(guards))
    )


def _key_values(
    order: CompiledOrder,
    keys: Sequence[CheckedKey],
    model: RequestedModel,
    admitted: Sequence[int],
    snapshot: Snapshot,
) -> list[tuple[CheckedKey, Sequence[object]]]:
    """Return each key with its values of a model's admitted endpoints."""
    if not keys:
        return []
    rows = [model.rows[index] for index in admitted]
    fused = order.fused(tuple(key for key in keys if not key.judged))
    computed = iter(fused(rows, model.shared))
    found: list[tuple[CheckedKey, Sequence[object]]] = []
    for key in keys:
        if key.judged:
            endpoints = snapshot.pools[order.binding, model.view.model].endpoints
            found.append((key, [endpoints[index].keys[key.name] for index in admitted]))
        else:
            found.append((key, next(computed)))
    return found


def _rank(candidates: Iterable[_Candidate]) -> tuple[PlannedAttempt, ...]:
    """Return attempts in order; an endpoint that two entries admit keeps its better place."""
    best: dict[str, _Candidate] = {}
    for candidate in candidates:
        best.setdefault(candidate.verdict.endpoint_id, candidate)
    attempts: list[PlannedAttempt] = []
    for rank, (_, verdict, rule_set) in enumerate(best.values(), 1):
        attempts.append(
            PlannedAttempt(
                rank, verdict.model, verdict.endpoint_id, verdict.provider, verdict.tag, rule_set
            )
        )
    return tuple(attempts)


def _with_single_choice(model: RequestedModel, choice: str) -> RequestedModel:
    """Return the model with a finding against every admitted endpoint except the choice."""
    message = f"fallbacks are not allowed and {choice} comes first"
    excluded = RuleFindings(
        (RuleFinding("allow_fallbacks", "policy", message, "false", model.route.rule_set),)
    )
    verdicts = [
        verdict
        if verdict.broken or verdict.endpoint_id == choice
        else verdict.with_findings(excluded)
        for verdict in model.verdicts
    ]
    return replace(model, verdicts=verdicts)
