"""A snapshot: one immutable, content-addressed world as of an instant, judged.

How it works
    A snapshot is a manifest and its parts. A part is canonical JSON, named by its SHA-256: the
    policy's rule files, one part per tenant, one per model with the facts of its endpoints, one per
    (binding, model) with its verdicts. The manifest lists the names of all parts; the SHA-256 of
    the manifest is the snapshot's id. Hence equal worlds give equal ids, and two snapshots share
    the parts that did not change.

    Planning does not read parts but the views made with them (`parts.py`). A view read back from a
    part equals the view that was written, so that a restored snapshot plans exactly as the judged
    one did. When a snapshot is restored with a former one, both share the views of unchanged parts:
    the cost depends on the changes, not on the size of the world.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    read_provider_names,
    read_tenants,
    write_model,
    write_pool,
    write_provider_names,
)
from assay.engine.world.provider_names import ProviderNames


@dataclass(frozen=True, slots=True)
class Manifest:
    """The addresses of all parts of a snapshot, its time and its policy.

    Snapshots of earlier versions have no part with the names of providers.
    """

    as_of: datetime
    policy: str
    policy_revision: int
    tenants: tuple[str, ...]
    models: Mapping[str, str]
    pools: Mapping[tuple[str, str], str]
    provider_names: str | None = None

    @property
    def needed(self) -> frozenset[str]:
        """The parts that restoring needs; parts of tenants may have been erased."""
        names = () if self.provider_names is None else (self.provider_names,)
        return frozenset((self.policy, *names, *self.models.values(), *self.pools.values()))

    @property
    def parts(self) -> frozenset[str]:
        """The addresses of all parts."""
        return self.needed.union(self.tenants)

    def encode(self) -> bytes:
        """Return the bytes whose digest is the snapshot's id."""
        names = self.provider_names
        return canonical(
            {
                "as_of": self.as_of.isoformat(),
                "policy": self.policy,
                "policy_revision": self.policy_revision,
                "tenants": self.tenants,
                "models": self.models,
                "pools": [[binding, model, name] for (binding, model), name in self.pools.items()],
                **({} if names is None else {"provider_names": names}),
            }
        )


def read_manifest(data: bytes) -> Manifest:
    """Read a manifest."""
    head = json.loads(data)
    return Manifest(
        as_of=datetime.fromisoformat(head["as_of"]),
        policy=head["policy"],
        policy_revision=head["policy_revision"],
        tenants=tuple(head["tenants"]),
        models=head["models"],
        pools={(binding, model): name for binding, model, name in head["pools"]},
        provider_names=head.get("provider_names"),
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world as of an instant, judged; `parts` holds the bytes of every part by address.

    `provider_names` is `None` in snapshots of earlier versions, which took every name literally.
    """

    snapshot_id: str
    as_of: datetime
    policy: Policy
    models: Mapping[str, ModelView]
    pools: Mapping[tuple[str, str], PoolView]
    tenants: Mapping[str, TenantView]
    manifest: bytes
    parts: Mapping[str, bytes]
    provider_names: ProviderNames | None = None


def assemble_snapshot(
    policy: Policy,
    as_of: datetime,
    models: Sequence[ModelView],
    pools: Sequence[PoolView],
    tenants: Sequence[Part],
) -> Snapshot:
    """Write every part, address it, and put the manifest and the views together."""
    parts: dict[str, bytes] = {}

    def add(part: Part) -> str:
        data = canonical(part)
        name = address(data)
        parts[name] = data
        return name

    names = ProviderNames(offer for view in models for offer in view.offers)
    head = Manifest(
        as_of=as_of,
        policy=add({"files": dict(policy.source.files)}),
        policy_revision=policy.revision,
        tenants=tuple(add(part) for part in tenants),
        models={view.model: add(write_model(view)) for view in models},
        pools={(view.binding, view.model): add(write_pool(view)) for view in pools},
        provider_names=add(write_provider_names(names)),
    )
    manifest = head.encode()
    return Snapshot(
        snapshot_id=address(manifest),
        as_of=as_of,
        policy=policy,
        models={view.model: view for view in models},
        pools={(view.binding, view.model): view for view in pools},
        tenants=read_tenants(tenants),
        manifest=manifest,
        parts=parts,
        provider_names=names,
    )


def read_policy_source(manifest: bytes, parts: Mapping[str, bytes]) -> tuple[PolicySource, int]:
    """Return the rule files that a stored snapshot was judged by, and their revision number."""
    head = read_manifest(manifest)
    return PolicySource(json.loads(parts[head.policy])["files"]), head.policy_revision


def restore_snapshot(
    manifest: bytes,
    parts: Mapping[str, bytes],
    policy: Policy,
    *,
    former: Snapshot | None = None,
    pause: Callable[[], object] = lambda: None,
) -> Snapshot:
    """Restore a stored snapshot; parts of tenants may be missing, since tenants can be erased.

    Views of parts that the `former` snapshot has too are shared with it. `pause` is called after
    each part, so that a process can yield to its other threads. Raises KeyError for a missing part,
    and ValueError for an altered part or another policy.
    """
    head = read_manifest(manifest)
    checked = {} if former is None else former.parts
    for name, data in parts.items():
        if checked.get(name) is not data:
            if address(data) != name:
                raise ValueError(f"part {name} was altered")
            pause()
    if head.policy != policy.digest:
        raise ValueError(f"the snapshot was judged by policy {head.policy}, not by {policy.digest}")
    known_models: dict[str, ModelView] = {}
    known_pools: dict[tuple[str, str], PoolView] = {}  # by its own address and the model's
    if former is not None:
        before = read_manifest(former.manifest)
        for model, name in before.models.items():
            known_models[name] = former.models[model]
        for key, name in before.pools.items():
            known_pools[name, before.models[key[1]]] = former.pools[key]
    models: dict[str, ModelView] = {}
    for model, name in head.models.items():
        models[model] = known_models.get(name) or read_model(json.loads(parts[name]))
        pause()
    pools: dict[tuple[str, str], PoolView] = {}
    for key, name in head.pools.items():
        known = known_pools.get((name, head.models[key[1]]))
        pools[key] = known or read_pool(json.loads(parts[name]), models[key[1]])
        pause()
    tenants = read_tenants(json.loads(parts[name]) for name in head.tenants if name in parts)
    return Snapshot(
        address(manifest),
        head.as_of,
        policy,
        models,
        pools,
        tenants,
        manifest,
        parts,
        _provider_names(head, parts, former),
    )


def _provider_names(
    head: Manifest, parts: Mapping[str, bytes], former: Snapshot | None
) -> ProviderNames | None:
    """Return the names of providers, shared with the former snapshot if it has the same part."""
    name = head.provider_names
    if name is None:
        return None
    if former is not None and former.provider_names is not None and name in former.parts:
        return former.provider_names
    return read_provider_names(json.loads(parts[name]))
