"""The views that planning reads from a snapshot, and the parts in which they are stored.

`write_…` turns a view into a part, a mapping for JSON; `read_…` turns a part back into an equal
view. The JSON spelling of a part is fixed, since parts are named by their digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from datetime import datetime
from math import isinf
from typing import Any

from assay.engine.policy.evaluation import Facts, SharedFacts
from assay.engine.policy.fact_schema import with_current_names
from assay.engine.policy.verdict import RuleFinding, RuleFindings, Verdict
from assay.engine.snapshot.pool_memory import NO_COUNTS, DecayedCounts, PoolStanding
from assay.engine.world.catalog import PriceOverride, Prices
from assay.engine.world.provider_names import Offer, ProviderNames
from assay.engine.world.world import Preference, TenantSettings

Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TimedPrices:
    """Prices that depend on the hour or the prompt; `index` is the endpoint's place in the rows."""

    index: int
    base: Prices
    overrides: tuple[PriceOverride, ...]


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model with its endpoints, in the order of their ids.

    `endpoints` holds a verdict without findings for each. `rows` holds their facts and `cohort`
    those of all together, per way of folding evidence; the rows are what fused rules run over.
    """

    model: str
    facts: Facts
    endpoints: tuple[Verdict, ...]
    rows: Mapping[str, Sequence[Facts]]
    cohort: Mapping[str, Facts]
    timed: tuple[TimedPrices, ...] = ()

    @property
    def offers(self) -> Iterable[Offer]:
        """The names of every endpoint's provider."""
        for row in next(iter(self.rows.values()), ()):
            name = row.get("provider_name")
            yield str(row["provider"]), str(row["tag"]), None if name is None else str(name)

    def shared(self, fold: str) -> SharedFacts:
        """Return the facts that all endpoints share in pool rules."""
        return {"model": self.facts, "cohort": self.cohort[fold]}


@dataclass(frozen=True, slots=True)
class JudgedEndpoint:
    """One endpoint as the pool rules of one binding judged it.

    `keys` holds its values of the order keys that need no request. `standing` is `None` if it was
    judged without memory.
    """

    verdict: Verdict
    keys: Mapping[str, float | None]
    standing: PoolStanding | None = None


@dataclass(frozen=True, slots=True)
class PoolView:
    """The pool of one binding and model; its endpoints come in the order of the model's.

    `keys` names the order keys that need no request. A pool that `has_memory` knows the
    state of each endpoint.
    """

    binding: str
    model: str
    endpoints: tuple[JudgedEndpoint, ...]
    keys: tuple[str, ...] = ()
    has_memory: bool = False

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdict of each endpoint."""
        return tuple(endpoint.verdict for endpoint in self.endpoints)


@dataclass(frozen=True, slots=True)
class TenantView:
    """A tenant's settings and preferences."""

    settings: TenantSettings | None
    preferences: tuple[Preference, ...]


def write_model(view: ModelView) -> Part:
    """Write one model."""
    endpoints: list[Part] = [{"id": verdict.endpoint_id} for verdict in view.endpoints]
    for timed in view.timed:
        endpoints[timed.index] |= {
            "overrides": [asdict(override) for override in timed.overrides],
            "prices": asdict(timed.base),
        }
    return {
        "model": view.model,
        "facts": view.facts,
        "endpoints": endpoints,
        "folds": {
            fold: {"cohort": view.cohort[fold], "rows": view.rows[fold]} for fold in view.rows
        },
    }


def read_model(part: Part) -> ModelView:
    """Read one model."""
    folds: dict[str, Any] = part["folds"]
    rows = next(iter(folds.values()))["rows"]
    timed = [
        TimedPrices(index, Prices(**e["prices"]), tuple(map(_override, e["overrides"])))
        for index, e in enumerate(part["endpoints"])
        if "overrides" in e
    ]
    return ModelView(
        model=part["model"],
        facts=part["facts"],
        endpoints=tuple(Verdict(r["id"], part["model"], r["provider"], r["tag"]) for r in rows),
        rows={name: tuple(map(with_current_names, fold["rows"])) for name, fold in folds.items()},
        cohort={name: fold["cohort"] for name, fold in folds.items()},
        timed=tuple(timed),
    )


def _override(written: Part) -> PriceOverride:
    prices, days = Prices(**written["prices"]), tuple(written["utc_days"])
    return PriceOverride(**{**written, "prices": prices, "utc_days": days})


def write_pool(view: PoolView) -> Part:
    """Write one pool; order keys go by column, infinities as words."""
    part: Part = {
        "binding": view.binding,
        "model": view.model,
        "findings": [_write_findings(endpoint.verdict) for endpoint in view.endpoints],
        "keys": {name: [_write_number(e.keys[name]) for e in view.endpoints] for name in view.keys},
    }
    if view.has_memory:
        part["standings"] = [_write_standing(e.standing) for e in view.endpoints if e.standing]
    return part


def read_pool(part: Part, model: ModelView) -> PoolView:
    """Read one pool."""
    columns: Mapping[str, list[Any]] = part["keys"]
    standings = part.get("standings")
    endpoints: list[JudgedEndpoint] = []
    for index, (unjudged, written) in enumerate(
        zip(model.endpoints, part["findings"], strict=True)
    ):
        findings = {kind: tuple(RuleFinding(*f) for f in found) for kind, found in written.items()}
        verdict = unjudged.with_findings(RuleFindings(**findings)) if findings else unjudged
        keys = {name: _read_number(column[index]) for name, column in columns.items()}
        standing = _read_standing(standings[index]) if standings else None
        endpoints.append(JudgedEndpoint(verdict, keys, standing))
    has_memory = standings is not None
    return PoolView(
        part["binding"], part["model"], tuple(endpoints), tuple(columns), has_memory=has_memory
    )


def _write_findings(verdict: Verdict) -> Part:
    kinds = {"broken": verdict.broken, "abstained": verdict.abstained, "shadow": verdict.shadow}
    return {
        kind: [[f.rule, f.reason, f.message, f.outcome, f.rule_set] for f in findings]
        for kind, findings in kinds.items()
        if findings
    }


def _write_number(value: float | None) -> object:
    return str(value) if isinstance(value, float) and isinf(value) else value


def _read_number(written: str | float | None) -> float | None:
    return float(written) if isinstance(written, str) else written


def _write_standing(standing: PoolStanding) -> Part:
    part: Part = {"state": standing.state, "rules": standing.rules}
    if standing.since is not None:
        part["since"] = standing.since.isoformat()
    if standing.held_until is not None:
        part["held_until"] = standing.held_until.isoformat()
    if standing.forgotten != NO_COUNTS:
        part["forgotten"] = astuple(standing.forgotten)
    return part


def _read_standing(part: Part) -> PoolStanding:
    def moment(name: str) -> datetime | None:
        return datetime.fromisoformat(part[name]) if name in part else None

    forgotten = DecayedCounts(*part.get("forgotten", ()))
    return PoolStanding(
        part["state"], moment("since"), part["rules"], moment("held_until"), forgotten
    )


def write_provider_names(names: ProviderNames) -> Part:
    """Write the names of all providers."""
    return {"offers": [list(offer) for offer in names.offers]}


def read_provider_names(part: Part) -> ProviderNames:
    """Read the names of all providers."""
    return ProviderNames((slug, tag, name) for slug, tag, name in part["offers"])


def write_tenants(
    tenants: Iterable[TenantSettings], preferences: Iterable[Preference]
) -> list[Part]:
    """Write each tenant as its own part, so that each can be erased alone."""
    settings = {t.tenant: asdict(t) for t in tenants}
    own: dict[str, list[Part]] = {tenant: [] for tenant in settings}
    ordered = sorted(preferences, key=lambda p: (p.tenant, p.kind, p.target, p.model or ""))
    for preference in ordered:
        own.setdefault(preference.tenant, []).append(asdict(preference))
    return [
        {"tenant": tenant, "settings": settings.get(tenant), "preferences": own[tenant]}
        for tenant in sorted(own)
    ]


def read_tenants(parts: Iterable[Part]) -> Mapping[str, TenantView]:
    """Read every tenant that has settings or preferences."""
    tenants: dict[str, TenantView] = {}
    for part in parts:
        settings, written = None, part["settings"]
        if written is not None:
            lists = {name: tuple(written[name]) for name in ("only", "ignore")}
            settings = TenantSettings(**{**written, **lists})
        preferences = tuple(Preference(**each) for each in part["preferences"])
        tenants[part["tenant"]] = TenantView(settings, preferences)
    return tenants
