"""One immutable, content-addressed world as of an instant: a manifest of parts, and the views planning reads.

Parts are canonical JSON named by their SHA-256: the policy's sources, one part per tenant, one per model with its
facts, one per (binding, model) with its verdicts. The views are made of the very parts, so that a snapshot read
back plans as the one that was judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from assay.engine.canonical import address, canonical
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.snapshot.parts import (
    ModelView,
    Part,
    PoolView,
    TenantView,
    read_model,
    read_pool,
    read_tenants,
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """As of when, by which policy, and the address of every part: by tenants' order, model, and (binding, model)."""

    as_of: datetime
    policy: str
    policy_revision: int
    tenants: tuple[str, ...]
    models: Mapping[str, str]
    pools: Mapping[tuple[str, str], str]

    @property
    def needed(self) -> frozenset[str]:
        """The parts without which the snapshot cannot be read back; those of tenants may have been erased."""
        return frozenset((self.policy, *self.models.values(), *self.pools.values()))

    @property
    def parts(self) -> frozenset[str]:
        """Every part."""
        return self.needed.union(self.tenants)

    def written(self) -> bytes:
        """The bytes that a snapshot is named by."""
        return canonical(
            {
                "as_of": self.as_of.isoformat(),
                "policy": self.policy,
                "policy_revision": self.policy_revision,
                "tenants": self.tenants,
                "models": self.models,
                "pools": [[binding, model, name] for (binding, model), name in self.pools.items()],
            }
        )


def read_manifest(data: bytes) -> Manifest:
    """Read a manifest back."""
    head = json.loads(data)
    return Manifest(
        as_of=datetime.fromisoformat(head["as_of"]),
        policy=head["policy"],
        policy_revision=head["policy_revision"],
        tenants=tuple(head["tenants"]),
        models=head["models"],
        pools={(binding, model): name for binding, model, name in head["pools"]},
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world as of an instant, judged; `parts` holds the bytes behind every address in the manifest."""

    snapshot_id: str
    as_of: datetime
    policy: Policy
    models: Mapping[str, ModelView]
    pools: Mapping[tuple[str, str], PoolView]
    tenants: Mapping[str, TenantView]
    manifest: bytes
    parts: Mapping[str, bytes]


def assemble_snapshot(
    policy: Policy,
    as_of: datetime,
    models: Iterable[Part],
    pools: Iterable[Part],
    tenants: Sequence[Part],
) -> Snapshot:
    """Address every part, write the manifest and make the views."""
    parts: dict[str, bytes] = {}

    def add(part: object) -> str:
        data = canonical(part)
        parts[name := address(data)] = data
        return name

    model_views: dict[str, ModelView] = {}
    named: dict[str, str] = {}
    for part in models:
        named[part["model"]] = add(part)
        model_views[part["model"]] = read_model(part)
    pool_views: dict[tuple[str, str], PoolView] = {}
    pooled: dict[tuple[str, str], str] = {}
    for part in pools:
        key = part["binding"], part["model"]
        pooled[key] = add(part)
        pool_views[key] = read_pool(part, model_views[part["model"]])
    head = Manifest(
        as_of=as_of,
        policy=add({"files": dict(policy.source.files)}),
        policy_revision=policy.revision,
        tenants=tuple(add(part) for part in tenants),
        models=named,
        pools=pooled,
    )
    manifest = head.written()
    return Snapshot(
        address(manifest),
        as_of,
        policy,
        model_views,
        pool_views,
        read_tenants(tenants),
        manifest,
        parts,
    )


def read_policy_source(manifest: bytes, parts: Mapping[str, bytes]) -> tuple[PolicySource, int]:
    """The rule files a stored snapshot was judged by, and their revision number."""
    head = read_manifest(manifest)
    return PolicySource(json.loads(parts[head.policy])["files"]), head.policy_revision


def restore_snapshot(
    manifest: bytes,
    parts: Mapping[str, bytes],
    policy: Policy,
    *,
    former: Snapshot | None = None,
    rest: Callable[[], object] = lambda: None,
) -> Snapshot:
    """A stored snapshot back in memory; parts of tenants may be missing, since tenants can be erased.

    Views of parts that the `former` snapshot has too are its own. `rest` is called between parts, for who shares the
    interpreter with others. Raises KeyError where a part is missing, ValueError where one was altered or the policy is
    another one.
    """
    head = read_manifest(manifest)
    require_unaltered(parts, {} if former is None else former.parts, rest)
    if head.policy != policy.digest:
        raise ValueError(f"the snapshot was judged by policy {head.policy}, not by {policy.digest}")
    known = Known() if former is None else known_views(former)
    models: dict[str, ModelView] = {}
    for model, name in head.models.items():
        models[model] = known.models.get(name) or read_model(json.loads(parts[name]))
        rest()
    pools: dict[tuple[str, str], PoolView] = {}
    for key, name in head.pools.items():
        seen = known.pools.get((name, head.models[key[1]]))
        pools[key] = seen or read_pool(json.loads(parts[name]), models[key[1]])
        rest()
    tenants = read_tenants(json.loads(parts[name]) for name in head.tenants if name in parts)
    return Snapshot(address(manifest), head.as_of, policy, models, pools, tenants, manifest, parts)


def require_unaltered(
    parts: Mapping[str, bytes], checked: Mapping[str, bytes], rest: Callable[[], object]
) -> None:
    """Compare every part with its address, save those that were compared before."""
    for name, data in parts.items():
        if checked.get(name) is not data:
            if address(data) != name:
                raise ValueError(f"part {name} was altered")
            rest()


@dataclass(frozen=True, slots=True)
class Known:
    """Views by the addresses of what they were made of: a pool's are its own and its model's."""

    models: Mapping[str, ModelView] = field(default_factory=dict)
    pools: Mapping[tuple[str, str], PoolView] = field(default_factory=dict)


def known_views(snapshot: Snapshot) -> Known:
    """The views that another snapshot may share."""
    head = read_manifest(snapshot.manifest)
    return Known(
        {name: snapshot.models[model] for model, name in head.models.items()},
        {(name, head.models[key[1]]): snapshot.pools[key] for key, name in head.pools.items()},
    )
