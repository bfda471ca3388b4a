"""One request against one snapshot at one moment: the ordered attempts and a verdict for all the rest.

Stage order: models and variants, bindings, pools, request rules, order, attempts. Pools were judged before, so that
nothing a request says can bring a non-member in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import chain, repeat
from operator import itemgetter
from typing import NamedTuple

from assay.engine.decide.ordering import SortKey, draw_keys, sort_keys
from assay.engine.errors import PolicyBehind
from assay.engine.policy.binding import CompiledKey, CompiledOrder, PolicyRoute
from assay.engine.policy.evaluation import NO_FINDINGS, Facts, RuleFindings, SharedFacts
from assay.engine.policy.fact_values import price_facts, prices_at, request_facts, tenant_facts
from assay.engine.policy.verdict import RuleFinding, Verdict, listed_names
from assay.engine.snapshot.parts import ModelView, TenantView
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.request import Request
from assay.engine.world.slug import parse_slug

NOBODY = TenantView(None, ())


@dataclass(frozen=True, slots=True)
class Moment:
    """What planning needs of the outside: the time prices hold at (UTC), the seed of draws, health by endpoint_id.

    `health` names the endpoints that are demoted at this moment, with the reason.
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
    """The answer to one request: attempts in order, and the verdict of every endpoint of the requested models.

    `availability` is empty while there are attempts, else one of OpenRouter's codes: `no_endpoints` where the models
    have none, `constraint_filtered` where rules left none.
    """

    attempts: tuple[PlannedAttempt, ...]
    verdicts: tuple[Verdict, ...]
    availability: str
    snapshot_id: str
    policy_revision: int

    @property
    def excluded(self) -> tuple[Verdict, ...]:
        """The endpoints that rules left out; one that another entry of the request admits is not left out."""
        attempted = {a.endpoint_id for a in self.attempts}
        return tuple(v for v in self.verdicts if v.broken and v.endpoint_id not in attempted)

    def canonical(self) -> bytes:
        """The plan's own bytes, equal wherever request, snapshot and moment are: canonical JSON, messages left out.

        `attempts` are [place among the verdicts, rule set]; a verdict is [model, endpoint_id, provider, broken,
        abstained, shadow], a finding [rule set, rule, reason, outcome].
        """
        places = {verdict.endpoint_id: place for place, verdict in enumerate(self.verdicts)}
        return b'{"attempts":[%b],"availability":%b,"snapshot":%b,"verdicts":[%b]}' % (
            b",".join([spelled_attempt(places[a.endpoint_id], a.rule_set) for a in self.attempts]),
            listed_names(self.availability),
            listed_names(self.snapshot_id),
            b",".join([verdict.spelling or verdict.spelled() for verdict in self.verdicts]),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan as answered, with everything that a replay needs except the snapshot."""

    decision_id: str
    request: Request
    moment: Moment
    plan: Plan
    policy_digest: str


@lru_cache(maxsize=1 << 12)
def spelled_attempt(place: int, rule_set: str) -> bytes:
    """An attempt's part of a plan's canonical bytes; kept, since the same few occur in every plan."""
    return b"[%d,%b]" % (place, listed_names(rule_set))


@dataclass(frozen=True, slots=True)
class RequestedModel:
    """One requested model on its way through the stages; lists are parallel to the model's rows."""

    place: int
    view: ModelView
    route: PolicyRoute
    rows: Sequence[Facts]
    shared: SharedFacts
    verdicts: list[Verdict]

    @property
    def admitted(self) -> list[int]:
        """The rows that broke no rule."""
        return [index for index, verdict in enumerate(self.verdicts) if not verdict.broken]


def plan(request: Request, snapshot: Snapshot, moment: Moment) -> Plan:
    """Answer one request; raises UnknownModel, UnknownVariant, InvalidField and PolicyBehind.

    No endpoint left is an answer, not an error.
    """
    return answer(entries(request, snapshot, moment), request, snapshot, moment)


def entries(request: Request, snapshot: Snapshot, moment: Moment) -> list[RequestedModel]:
    """Every requested model, judged for this request."""
    if request.min_policy_revision > snapshot.policy.revision:
        raise PolicyBehind(request.min_policy_revision, snapshot.policy.revision)
    return [
        enter(place, slug, request, snapshot, moment) for place, slug in enumerate(slugs(request))
    ]


def answer(
    judged: Sequence[RequestedModel], request: Request, snapshot: Snapshot, moment: Moment
) -> Plan:
    """Put the judged models into one plan."""
    attempts = ranked(ordered(judged, request, snapshot, moment))
    if attempts and not request.provider.allow_fallbacks and not request.provider.order:
        attempts = only_first(judged, attempts)
    verdicts = tuple(chain.from_iterable(entry.verdicts for entry in judged))
    availability = "" if attempts else "constraint_filtered" if verdicts else "no_endpoints"
    return Plan(attempts, verdicts, availability, snapshot.snapshot_id, snapshot.policy.revision)


def slugs(request: Request) -> Iterable[str]:
    """The requested names in order, each once."""
    return dict.fromkeys((request.model, *request.models))


def enter(
    place: int, text: str, request: Request, snapshot: Snapshot, moment: Moment
) -> RequestedModel:
    """Take one requested model through variants, bindings, pools and request rules."""
    routes = snapshot.policy.routes
    slug = parse_slug(text, models=snapshot.models, variants=routes.variants(request.tenant))
    view = snapshot.models[slug.model]
    tenant = snapshot.tenants.get(request.tenant, NOBODY)
    shared = {
        "model": view.facts,
        "request": request_facts(request, slug.model, slug.variants),
        "tenant": tenant_facts(request.tenant, tenant.settings, tenant.preferences, slug.model),
    }
    sort = None if request.provider.order else request.provider.sort
    route = routes.route(slug.variants, sort, request.tenant, shared)
    shared["cohort"] = view.cohort[route.order.fold]
    rows = current(view, view.rows[route.order.fold], request, moment)
    verdicts = pooled(route, view, snapshot)
    for program in route.programs:
        for index, found in enumerate(program.findings(rows, shared)):
            if found is not NO_FINDINGS:
                verdicts[index] = united(verdicts[index], found)
    return RequestedModel(place, view, route, rows, shared, verdicts)


def current(
    view: ModelView, rows: Sequence[Facts], request: Request, moment: Moment
) -> Sequence[Facts]:
    """The rows with the prices and the health of the moment; the snapshot's own where nothing differs."""
    demoted = (
        [i for i, endpoint_id in enumerate(view.ids) if endpoint_id in moment.health]
        if moment.health
        else []
    )
    if not view.timed and not demoted:
        return rows
    changed = list(rows)
    for timed in view.timed:
        kept = {
            name: value
            for name, value in rows[timed.index].items()
            if not name.startswith("price.")
        }
        prices = prices_at(timed.base, timed.overrides, moment.now, request.prompt_tokens)
        changed[timed.index] = {**kept, **price_facts(prices)}
    for index in demoted:
        changed[index] = {**changed[index], "demoted": True}
    return changed


def pooled(route: PolicyRoute, view: ModelView, snapshot: Snapshot) -> list[Verdict]:
    """What the route's pools say of each row: an endpoint has to be a member of all."""
    verdicts = list(view.clean)
    for bound in route.pools:
        pool = snapshot.pools[bound.name, view.model].verdicts
        verdicts = [
            said if clean is before else united(before, said)
            for clean, before, said in zip(view.clean, verdicts, pool, strict=True)
        ]
    return verdicts


def united(verdict: Verdict, found: RuleFindings | Verdict) -> Verdict:
    """A verdict with further findings."""
    return Verdict(
        verdict.endpoint_id,
        verdict.model,
        verdict.provider,
        verdict.tag,
        broken=verdict.broken + found.broken,
        abstained=verdict.abstained + found.abstained,
        shadow=verdict.shadow + found.shadow,
    )


class Candidate(NamedTuple):
    """An admitted endpoint with what it is sorted by."""

    keys: tuple[object, ...]
    verdict: Verdict
    rule_set: str


def ordered(
    entries: Sequence[RequestedModel], request: Request, snapshot: Snapshot, moment: Moment
) -> list[Candidate]:
    """Every admitted endpoint, best first; ties break by endpoint_id.

    Entries keep their turn save for keys across models; with `partition: none` the first entry's order orders all.
    """
    first = entries[0].route.order
    apart = request.provider.partition != "none"
    across = taking_part(first.across, entries)
    merged = () if apart else taking_part(first.within, entries)
    candidates: list[Candidate] = []
    for entry in entries:
        if not (admitted := entry.admitted):
            continue
        own = entry.route.order if apart else first
        order = Order(entry, admitted, snapshot, moment)
        within = taking_part(own.within, [entry]) if apart else merged
        turn = [entry.place if apart else 0] * len(admitted)
        verdicts = [entry.verdicts[index] for index in admitted]
        ids = [verdict.endpoint_id for verdict in verdicts]
        keys = zip(
            *order.columns(first.across, across),
            turn,
            *order.columns(own.within, within),
            ids,
            strict=True,
        )
        candidates += map(Candidate, keys, verdicts, repeat(entry.route.rule_set))
    candidates.sort(key=BY_KEYS)
    return candidates


BY_KEYS = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Order:
    """The admitted rows of one entry, to be ordered."""

    entry: RequestedModel
    admitted: Sequence[int]
    snapshot: Snapshot
    moment: Moment

    def columns(self, keys: CompiledOrder, applying: Sequence[CompiledKey]) -> list[list[SortKey]]:
        """One column of comparable values per key that applies to the request."""
        entry = self.entry
        if not applying:
            return []
        asked = tuple(k for k in applying if not k.judged)
        computed = iter(
            keys.values(asked, [entry.rows[index] for index in self.admitted], entry.shared)
        )
        return [
            self.comparable(k, self.judged(k, keys) if k.judged else next(computed))
            for k in applying
        ]

    def judged(self, key: CompiledKey, keys: CompiledOrder) -> list[object]:
        """The values that were computed with the pool."""
        known = self.snapshot.pools[keys.binding, self.entry.view.model].keys[key.name]
        return [known[index] for index in self.admitted]

    def comparable(self, key: CompiledKey, values: Sequence[object]) -> list[SortKey]:
        """One key's values made comparable."""
        if key.draws:
            return draw_keys(
                values, [self.entry.view.ids[index] for index in self.admitted], self.moment.seed
            )
        return sort_keys(values, descending=key.descending)


def taking_part(keys: CompiledOrder, together: Sequence[RequestedModel]) -> tuple[CompiledKey, ...]:
    """The keys that apply to any of the models sorted together, so that all of them are sorted by the same."""
    if len(together) == 1:
        return keys.applying(together[0].shared)
    applying = {key for entry in together for key in keys.applying(entry.shared)}
    return tuple(key for key in keys.keys if key in applying)


def ranked(candidates: Iterable[Candidate]) -> tuple[PlannedAttempt, ...]:
    """Attempts in order; an endpoint that two entries admit keeps its better place."""
    best: dict[str, Candidate] = {}
    for candidate in candidates:
        best.setdefault(candidate.verdict.endpoint_id, candidate)
    return tuple(
        PlannedAttempt(
            rank,
            c.verdict.model,
            c.verdict.endpoint_id,
            c.verdict.provider,
            c.verdict.tag,
            c.rule_set,
        )
        for rank, c in enumerate(best.values(), 1)
    )


def only_first(
    entries: Sequence[RequestedModel], attempts: tuple[PlannedAttempt, ...]
) -> tuple[PlannedAttempt, ...]:
    """Without fallbacks the first choice is the only one; the others are told so."""
    for entry in entries:
        for index in entry.admitted:
            verdict = entry.verdicts[index]
            if verdict.endpoint_id != attempts[0].endpoint_id:
                words = f"fallbacks are not allowed and {attempts[0].endpoint_id} comes first"
                told = RuleFinding(
                    "allow_fallbacks", "policy", words, "false", entry.route.rule_set
                )
                entry.verdicts[index] = united(verdict, RuleFindings((told,)))
    return attempts[:1]
