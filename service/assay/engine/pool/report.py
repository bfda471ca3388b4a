"""Pool reports: members, others with reasons, and their facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from assay.engine.errors import InvalidField, UnknownModel
from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.fact_values import TENANTS_ASIDE
from assay.engine.policy.verdict import FactsRead, Verdict
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.request import parse_slug


@dataclass(frozen=True, slots=True)
class PoolEndpoint:
    """One endpoint of a pool's model: its verdict and the known facts it was judged by.

    `state` and `since` are its pool state, `None` if it was judged without memory.
    """

    verdict: Verdict
    facts: FactsRead = ()
    state: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PoolReport:
    """The pool of one binding and model; members and others are ordered by endpoint id."""

    model: str
    variant: str
    binding: str
    rule_set: str
    as_of: datetime
    snapshot_id: str
    members: tuple[PoolEndpoint, ...]
    others: tuple[PoolEndpoint, ...]


def pool_report(snapshot: Snapshot, text: str, tenant: str = "") -> PoolReport:
    """Return the pool that `model:variant` selects for a tenant.

    Raises UnknownModel, UnknownVariant, and InvalidField if no variant is given or it has no pool.
    """
    bindings = snapshot.policy.routes.serving(tenant).by_variant
    slug = parse_slug(text, models=snapshot.models, variants=bindings)
    if len(slug.variants) != 1:
        raise InvalidField("model", text, "a name with one variant, such as author/slug:exacto")
    binding = bindings[slug.variants[0]]
    if binding.enter is None:
        raise InvalidField("variant", slug.variants[0], "a variant whose rule set has a pool")
    return _report(snapshot, slug.model, binding)


def pool_reports(snapshot: Snapshot, model: str) -> tuple[PoolReport, ...]:
    """Return every pool of one model, by binding; raises UnknownModel."""
    if model not in snapshot.models:
        raise UnknownModel(model)
    pools = [b for b in snapshot.policy.bindings.values() if b.enter is not None]
    pools.sort(key=lambda b: b.name)
    return tuple(_report(snapshot, model, binding) for binding in pools)


def tenants_set_aside(snapshot: Snapshot) -> Mapping[str, frozenset[str]]:
    """Return the tenants whose reports of a model are set aside, by model and as pseudonyms."""
    found: dict[str, frozenset[str]] = {}
    for model, view in snapshot.models.items():
        known = (cohort.get(TENANTS_ASIDE, ()) for cohort in view.cohort.values())
        named = (names for names in known if isinstance(names, Sequence))
        aside = frozenset(str(each) for names in named for each in names)
        if aside:
            found[model] = aside
    return found


def _report(snapshot: Snapshot, model: str, binding: CompiledBinding) -> PoolReport:
    pool, rows = snapshot.pools[binding.name, model], snapshot.models[model].rows[binding.fold]
    members: list[PoolEndpoint] = []
    others: list[PoolEndpoint] = []
    for judged, row in zip(pool.endpoints, rows, strict=True):
        standing, facts = judged.standing, tuple(sorted(row.items()))
        state, since = (standing.state, standing.since) if standing else (None, None)
        group = members if judged.verdict.admitted else others
        group.append(PoolEndpoint(judged.verdict, facts, state, since))
    return PoolReport(
        model=model,
        variant=binding.binding.variant or "",
        binding=binding.name,
        rule_set=binding.rules.name,
        as_of=snapshot.as_of,
        snapshot_id=snapshot.snapshot_id,
        members=tuple(members),
        others=tuple(others),
    )
