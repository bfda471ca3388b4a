"""Parts of a snapshot: written as JSON-able mappings by judging, read back as the views that planning uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from datetime import datetime
from typing import Any

from assay.engine.policy.evaluation import Facts, RuleFindings
from assay.engine.policy.fact_schema import with_current_names
from assay.engine.policy.verdict import RuleFinding, Verdict
from assay.engine.snapshot.pool_memory import NO_COUNTS, DecayedCounts, PoolStanding
from assay.engine.world.catalog import Endpoint, PriceOverride, Prices
from assay.engine.world.tenants import Preference, TenantSettings

Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TimedPrices:
    """An endpoint whose price depends on the hour or the prompt: its place among the rows, and its prices."""

    index: int
    base: Prices
    overrides: tuple[PriceOverride, ...]


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model as planning reads it: rows of endpoint facts in the order of their ids, per way of folding evidence."""

    model: str
    facts: Facts
    ids: tuple[str, ...]
    rows: Mapping[str, Sequence[Facts]]
    cohort: Mapping[str, Facts]
    timed: tuple[TimedPrices, ...]
    clean: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class PoolView:
    """What the pool rules of one binding said of one model: verdicts and judged order keys, parallel to its rows.

    So are `standings`, of which there are none where it was judged without memory.
    """

    binding: str
    model: str
    verdicts: tuple[Verdict, ...]
    keys: Mapping[str, Sequence[object]]
    standings: tuple[PoolStanding, ...] = ()


@dataclass(frozen=True, slots=True)
class TenantView:
    """What applies to one tenant before its request is read."""

    settings: TenantSettings | None
    preferences: tuple[Preference, ...]


def write_model(
    facts: Facts, endpoints: Sequence[Endpoint], folds: Mapping[str, tuple[Facts, Sequence[Facts]]]
) -> Part:
    """Write one model: `folds` holds cohort facts and rows per way of folding evidence; rows follow the endpoints."""
    return {
        "model": facts["id"],
        "facts": facts,
        "endpoints": [
            {
                "id": e.endpoint_id,
                "overrides": [asdict(o) for o in e.overrides],
                "prices": asdict(e.prices),
            }
            if e.overrides
            else {"id": e.endpoint_id}
            for e in endpoints
        ],
        "folds": {name: {"cohort": cohort, "rows": rows} for name, (cohort, rows) in folds.items()},
    }


def read_model(part: Part) -> ModelView:
    """Read one model."""
    folds: dict[str, Any] = part["folds"]
    rows = next(iter(folds.values()))["rows"]
    return ModelView(
        model=part["model"],
        facts=part["facts"],
        ids=tuple(e["id"] for e in part["endpoints"]),
        rows={name: tuple(map(with_current_names, fold["rows"])) for name, fold in folds.items()},
        cohort={name: fold["cohort"] for name, fold in folds.items()},
        timed=tuple(
            TimedPrices(index, Prices(**e["prices"]), tuple(override(o) for o in e["overrides"]))
            for index, e in enumerate(part["endpoints"])
            if "overrides" in e
        ),
        clean=tuple(Verdict(row["id"], part["model"], row["provider"], row["tag"]) for row in rows),
    )


def override(written: Part) -> PriceOverride:
    """Read one price override."""
    return PriceOverride(
        **{**written, "prices": Prices(**written["prices"]), "utc_days": tuple(written["utc_days"])}
    )


def write_pool(
    binding: str,
    model: str,
    findings: Sequence[RuleFindings],
    keys: Mapping[str, Sequence[object]],
    standings: Sequence[PoolStanding] | None = None,
) -> Part:
    """Write what a binding's pool rules said of a model's endpoints, its judged order keys, and what it remembers."""
    part: Part = {
        "binding": binding,
        "model": model,
        "findings": [
            {k: [list(finding_fields(f)) for f in fs] for k, fs in by_kind(found) if fs}
            for found in findings
        ],
        "keys": {name: list(column) for name, column in keys.items()},
    }
    return (
        part
        if standings is None
        else part | {"standings": [written_standing(s) for s in standings]}
    )


def written_standing(standing: PoolStanding) -> Part:
    """Write where an endpoint stands; what there is nothing of is left out."""
    known = {"since": standing.since, "held_until": standing.held_until}
    return {
        "state": standing.state,
        "rules": standing.rules,
        **{name: at.isoformat() for name, at in known.items() if at is not None},
        **({} if standing.forgotten == NO_COUNTS else {"forgotten": astuple(standing.forgotten)}),
    }


def standing(written: Part) -> PoolStanding:
    """Read where an endpoint stands."""
    since, held_until = (
        datetime.fromisoformat(at) if (at := written.get(k)) else None
        for k in ("since", "held_until")
    )
    return PoolStanding(
        written["state"],
        since,
        written["rules"],
        held_until,
        DecayedCounts(*written.get("forgotten", ())),
    )


def by_kind(found: RuleFindings) -> Iterable[tuple[str, tuple[RuleFinding, ...]]]:
    """The three kinds of findings with their names."""
    return (("broken", found.broken), ("abstained", found.abstained), ("shadow", found.shadow))


def finding_fields(finding: RuleFinding) -> tuple[str, ...]:
    """A finding as a short row, in the order of the class's fields."""
    return (finding.rule, finding.reason, finding.message, finding.outcome, finding.rule_set)


def read_pool(part: Part, model: ModelView) -> PoolView:
    """Read one pool."""
    return PoolView(
        binding=part["binding"],
        model=part["model"],
        verdicts=tuple(
            Verdict(
                clean.endpoint_id,
                clean.model,
                clean.provider,
                clean.tag,
                **{kind: tuple(RuleFinding(*f) for f in found) for kind, found in findings.items()},
            )
            for clean, findings in zip(model.clean, part["findings"], strict=True)
        ),
        keys={name: tuple(map(number, column)) for name, column in part["keys"].items()},
        standings=tuple(map(standing, part.get("standings", ()))),
    )


def number(written: object) -> object:
    """An order key's value; infinities are written as words."""
    return float(written) if isinstance(written, str) else written


def write_tenants(
    tenants: Iterable[TenantSettings], preferences: Iterable[Preference]
) -> list[Part]:
    """Write each tenant by itself, so that one can be erased without touching what else a snapshot holds."""
    settings = {t.tenant: asdict(t) for t in tenants}
    standing: dict[str, list[dict[str, Any]]] = {tenant: [] for tenant in settings}
    for p in sorted(preferences, key=lambda p: (p.tenant, p.kind, p.target, p.model or "")):
        standing.setdefault(p.tenant, []).append(asdict(p))
    return [
        {"tenant": tenant, "settings": settings.get(tenant), "preferences": own}
        for tenant, own in sorted(standing.items())
    ]


def read_tenants(parts: Iterable[Part]) -> Mapping[str, TenantView]:
    """Read every tenant that has settings or preferences."""
    return {
        part["tenant"]: TenantView(
            settings_of(part["settings"]), tuple(Preference(**p) for p in part["preferences"])
        )
        for part in parts
    }


def settings_of(written: dict[str, Any] | None) -> TenantSettings | None:
    """Read a tenant's settings, if it has any."""
    if written is None:
        return None
    return TenantSettings(
        **{**written, "only": tuple(written["only"]), "ignore": tuple(written["ignore"])}
    )
