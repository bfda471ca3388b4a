"""The table of contents of a snapshot: which parts it is made of, by address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from assay.engine.canonical import canonical


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
