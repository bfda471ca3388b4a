"""The shipped request rules and orders in plain Python: the same Plan from the same input.

It covers the suffix `:exacto`, `provider.sort: price` and every other preference, but no other
variant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.rules_by_hand import Check, Row, Tenant, checks_for, means_any, tenant_of

from assay.engine.decide.ordering import ExponentialRace, SortKey, draw_key
from assay.engine.decide.plan import Moment, Plan, PlannedAttempt, rows_at
from assay.engine.errors import PolicyBehind
from assay.engine.policy.verdict import RuleFinding, Verdict
from assay.engine.snapshot.parts import ModelView
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.request import Request, parse_slug

VARIANTS = frozenset({"exacto"})
SPEED = ("p50", "p75", "p90", "p99")
LAST: SortKey = (3, 0.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """One requested model: whether it is limited to its pool, and which order sorts it."""

    model: str
    pool: bool
    order: str
    rule_set: str


def plan_by_hand(request: Request, snapshot: Snapshot, moment: Moment) -> Plan:
    if request.min_policy_revision > snapshot.policy.revision:
        raise PolicyBehind(request.min_policy_revision, snapshot.policy.revision)
    tenant = tenant_of(request, snapshot)
    verdicts: list[Verdict] = []
    candidates: list[tuple[tuple[Any, ...], Verdict, str]] = []
    for place, text in enumerate(dict.fromkeys((request.model, *request.models))):
        choice = choose(text, request, snapshot)
        view = snapshot.models[choice.model]
        rows = rows_at(view, next(iter(view.rows.values())), request, moment)
        judged = judge(rows, view, choice, checks_for(request, view, tenant), snapshot)
        verdicts += judged
        candidates += sort_keys(
            place, rows, judged, choice, SortingInput(request, snapshot, moment, tenant)
        )
    candidates.sort(key=lambda candidate: candidate[0])
    attempts = number(candidates)
    if attempts and not request.provider.allow_fallbacks and not request.provider.order:
        raise NotImplementedError("a single choice")
    availability = "" if attempts else "constraint_filtered" if verdicts else "no_endpoints"
    return Plan(
        attempts, tuple(verdicts), availability, snapshot.snapshot_id, snapshot.policy.revision
    )


def choose(text: str, request: Request, snapshot: Snapshot) -> Choice:
    slug = parse_slug(text, models=snapshot.models, variants=VARIANTS)
    names = list(slug.variants)
    order = "default"
    if request.provider.sort == "price":
        order = "floor"
        names.append(order)
    elif request.tools > 0 and not request.provider.order:
        order = "auto-exacto"
        names.append(order)
    return Choice(slug.model, bool(slug.variants), order, "+".join(names or ["default"]))


def judge(
    rows: Sequence[Row],
    view: ModelView,
    choice: Choice,
    checks: Sequence[Check],
    snapshot: Snapshot,
) -> list[Verdict]:
    pool = snapshot.pools["exacto", choice.model].verdicts if choice.pool else view.endpoints
    if not checks:
        return list(pool)
    judged = []
    for row, verdict in zip(rows, pool, strict=True):
        broken = [finding for check in checks if (finding := check(row)) is not None]
        judged.append(add_findings(verdict, broken) if broken else verdict)
    return judged


def add_findings(verdict: Verdict, broken: list[RuleFinding]) -> Verdict:
    return Verdict(
        verdict.endpoint_id,
        verdict.model,
        verdict.provider,
        verdict.tag,
        (*verdict.broken, *broken),
        verdict.abstained,
        verdict.shadow,
    )


@dataclass(frozen=True, slots=True)
class SortingInput:
    """The input of sorting, except for the endpoints."""

    request: Request
    snapshot: Snapshot
    moment: Moment
    tenant: Tenant


def sort_keys(
    place: int,
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    choice: Choice,
    given: SortingInput,
) -> list[tuple[tuple[Any, ...], Verdict, str]]:
    wants = given.request.provider
    key = KEYS[choice.order](choice.model, given)
    speed = bool(limits(wants.preferred_min_throughput) or limits(wants.preferred_max_latency))
    found = []
    for index, (row, verdict) in enumerate(zip(rows, verdicts, strict=True)):
        if verdict.broken:
            continue
        slow = speed and not fast_enough(
            row, wants.preferred_min_throughput, wants.preferred_max_latency
        )
        rank = rank_in(row, wants.order) if wants.order else 0
        found.append(
            ((slow, place, rank, *key(index, row), verdict.endpoint_id), verdict, choice.rule_set)
        )
    return found


KeyOf = Callable[[int, Row], tuple[Any, ...]]


def default_key(_model: str, given: SortingInput) -> KeyOf:
    race, pins = ExponentialRace(given.moment.seed), given.tenant.pins
    explicit = bool(given.request.provider.order) or given.request.provider.sort is not None

    def key(_index: int, row: Row) -> tuple[Any, ...]:
        unsteady, price = instability(row), row.get("price.blended")
        pinned = 0 if pins and means_any(row, pins) else 1
        weight = 0.0 if explicit or unsteady else None if price is None else 1.0 / (price * price)
        return (
            pinned,
            unsteady,
            draw_key(weight, row["id"], race),
            LAST if price is None else (0, price),
        )

    return key


def auto_exacto_key(model: str, given: SortingInput) -> KeyOf:
    pool = given.snapshot.pools["auto", model].endpoints
    tiers = [endpoint.keys["quality_tier"] for endpoint in pool]
    race, pins = ExponentialRace(given.moment.seed), given.tenant.pins

    def key(index: int, row: Row) -> tuple[Any, ...]:
        unsteady, price = instability(row), row.get("price.blended")
        pinned = 0 if pins and means_any(row, pins) else 1
        weight = 0.0 if unsteady else None if price is None else 1.0 / (price * price)
        draw = draw_key(weight, row["id"], race)
        return pinned, tiers[index], unsteady, draw, LAST if price is None else (0, price)

    return key


def floor_key(_model: str, _given: SortingInput) -> KeyOf:
    def key(_index: int, row: Row) -> tuple[Any, ...]:
        price = row.get("price.blended")
        return row["demoted"], LAST if price is None else (0, price)

    return key


KEYS: Mapping[str, Callable[[str, SortingInput], KeyOf]] = {
    "default": default_key,
    "auto-exacto": auto_exacto_key,
    "floor": floor_key,
}


def instability(row: Row) -> int:
    if row["demoted"] or row.get("status", 0) < 0:
        return 2
    uptime = row.get("uptime_percent")
    if uptime is None or uptime >= 95.0:
        return 0
    return 1 if uptime >= 80.0 else 2


def limits(percentiles: object) -> dict[str, float]:
    return {p: value for p in SPEED if (value := getattr(percentiles, p)) is not None}


def fast_enough(row: Row, throughput: object, latency: object) -> bool:
    return all(
        row.get(f"throughput.{p}_tps", -1.0) >= least for p, least in limits(throughput).items()
    ) and all(
        row.get(f"latency.{p}_s", float("inf")) <= most for p, most in limits(latency).items()
    )


def rank_in(row: Row, names: Sequence[str]) -> int:
    return next((rank for rank, name in enumerate(names) if means_any(row, (name,))), len(names))


def number(
    candidates: Sequence[tuple[tuple[Any, ...], Verdict, str]],
) -> tuple[PlannedAttempt, ...]:
    seen: set[str] = set()
    attempts = []
    for _, verdict, rule_set in candidates:
        if verdict.endpoint_id not in seen:
            seen.add(verdict.endpoint_id)
            attempts.append(
                PlannedAttempt(
                    len(seen),
                    verdict.model,
                    verdict.endpoint_id,
                    verdict.provider,
                    verdict.tag,
                    rule_set,
                )
            )
    return tuple(attempts)
