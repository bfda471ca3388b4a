"""One immutable, content-addressed world as of an instant: a manifest of parts, and the views planning reads.

Parts are canonical JSON named by their SHA-256: the policy's sources, one part per tenant, one per model with its
facts, one per (binding, model) with its verdicts. The views are made of the very parts, so that a snapshot read
back plans as the one that was judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from assay.engine.canonical import address, canonical
from assay.engine.parts import ModelView, Part, PoolView, TenantView, model_view, pool_view, tenant_views
from assay.engine.policy import Policy
from assay.engine.ruleset import PolicySource


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


def assemble(
    policy: Policy, as_of: datetime, models: Iterable[Part], pools: Iterable[Part], tenants: Sequence[Part]
) -> Snapshot:
    """Address every part, write the manifest and make the views."""
    parts: dict[str, bytes] = {}

    def add(part: object) -> str:
        data = canonical(part)
        parts[name := address(data)] = data
        return name

    model_parts, pool_parts = list(models), list(pools)
    manifest = canonical(
        {
            "as_of": as_of.isoformat(),
            "policy": add({"files": dict(policy.source.files)}),
            "policy_revision": policy.revision,
            "tenants": [add(part) for part in tenants],
            "models": {part["model"]: add(part) for part in model_parts},
            "pools": [[part["binding"], part["model"], add(part)] for part in pool_parts],
        }
    )
    return view(policy, as_of, Parts(model_parts, pool_parts, tenants), manifest, parts)


def sources(manifest: bytes, parts: Mapping[str, bytes]) -> tuple[PolicySource, int]:
    """The rule files a stored snapshot was judged by, and their revision number."""
    head = json.loads(manifest)
    return PolicySource(json.loads(parts[head["policy"]])["files"]), head["policy_revision"]


def restore(manifest: bytes, parts: Mapping[str, bytes], policy: Policy) -> Snapshot:
    """A stored snapshot back in memory; parts of tenants may be missing, since tenants can be erased.

    Raises KeyError where a part is missing, ValueError where one was altered or the policy is another one.
    """
    for name, data in parts.items():
        if address(data) != name:
            raise ValueError(f"part {name} was altered")
    head = json.loads(manifest)
    if head["policy"] != policy.digest:
        raise ValueError(f"the snapshot was judged by policy {head['policy']}, not by {policy.digest}")
    read = Parts(
        models=[json.loads(parts[name]) for name in head["models"].values()],
        pools=[json.loads(parts[name]) for _, _, name in head["pools"]],
        tenants=[json.loads(parts[name]) for name in head["tenants"] if name in parts],
    )
    return view(policy, datetime.fromisoformat(head["as_of"]), read, manifest, parts)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a snapshot as mappings."""

    models: Sequence[Part]
    pools: Sequence[Part]
    tenants: Sequence[Part]


def view(policy: Policy, as_of: datetime, read: Parts, manifest: bytes, data: Mapping[str, bytes]) -> Snapshot:
    """Make what planning reads of the parts."""
    model_views = {part["model"]: model_view(part) for part in read.models}
    return Snapshot(
        snapshot_id=address(manifest),
        as_of=as_of,
        policy=policy,
        models=model_views,
        pools={(p["binding"], p["model"]): pool_view(p, model_views[p["model"]]) for p in read.pools},
        tenants=tenant_views(read.tenants),
        manifest=manifest,
        parts=data,
    )
