"""The pool of one binding and model, as people read it: members, the others with reasons, and their facts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from assay.engine.errors import InvalidField, UnknownModel
from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.verdict import FactsRead, Verdict
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.slug import parse_slug


@dataclass(frozen=True, slots=True)
class PoolEndpoint:
    """One endpoint of a pool's model: its verdict, and the facts it was judged by, absent ones left out.

    `state` and `since` are where it stands, `None` where it was judged without memory.
    """

    verdict: Verdict
    facts: FactsRead = ()
    state: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PoolReport:
    """The pool of one binding and model; members and others come by endpoint id."""

    model: str
    variant: str
    binding: str
    rule_set: str
    as_of: datetime
    snapshot_id: str
    members: tuple[PoolEndpoint, ...]
    others: tuple[PoolEndpoint, ...]


def pool_report(snapshot: Snapshot, text: str, tenant: str = "") -> PoolReport:
    """The pool that `model:variant` means for a tenant.

    Raises UnknownModel, UnknownVariant, and InvalidField where no variant is given or it brings no pool.
    """
    routes = snapshot.policy.routes
    slug = parse_slug(text, models=snapshot.models, variants=routes.variants(tenant))
    if len(slug.variants) != 1:
        raise InvalidField("model", text, "a name with one variant, such as author/slug:exacto")
    bound = routes.pick(tenant, variant=slug.variants[0])
    if bound is None or bound.enter is None:
        raise InvalidField("variant", slug.variants[0], "a variant whose rule set has a pool")
    return report(snapshot, slug.model, bound)


def pool_reports(snapshot: Snapshot, model: str) -> tuple[PoolReport, ...]:
    """Every pool of one model, by binding; raises UnknownModel."""
    if model not in snapshot.models:
        raise UnknownModel(model)
    pools = sorted(
        (b for b in snapshot.policy.bound.values() if b.enter is not None), key=lambda b: b.name
    )
    return tuple(report(snapshot, model, bound) for bound in pools)


def report(snapshot: Snapshot, model: str, bound: CompiledBinding) -> PoolReport:
    """One pool with the facts it was judged by."""
    pool, rows = snapshot.pools[bound.name, model], snapshot.models[model].rows[bound.fold]
    judged = [
        PoolEndpoint(v, tuple(sorted(row.items())))
        for v, row in zip(pool.verdicts, rows, strict=True)
    ]
    if pool.standings:
        judged = [
            replace(j, state=s.state, since=s.since)
            for j, s in zip(judged, pool.standings, strict=True)
        ]
    return PoolReport(
        model=model,
        variant=bound.binding.variant or "",
        binding=bound.name,
        rule_set=bound.rules.name,
        as_of=snapshot.as_of,
        snapshot_id=snapshot.snapshot_id,
        members=tuple(j for j in judged if j.verdict.admitted),
        others=tuple(j for j in judged if not j.verdict.admitted),
    )
