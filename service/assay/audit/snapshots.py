"""Stored snapshots back in memory: each loaded once, its policy compiled once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from sqlalchemy import Engine

from assay.engine.policy import Policy
from assay.engine.ruleset import PolicySource
from assay.engine.snapshot import Snapshot, restore, sources
from assay.store.snapshots import load_snapshot

Compile = Callable[[PolicySource], Policy]
KEPT = 8


def stored_snapshots(engine: Engine, compile_source: Compile) -> Callable[[str], Snapshot | None]:
    """A function that finds snapshots by id; the last few stay in memory."""
    policies: dict[str, Policy] = {}

    @lru_cache(maxsize=KEPT)
    def find(snapshot_id: str) -> Snapshot | None:
        stored = load_snapshot(engine, snapshot_id)
        if stored is None:
            return None
        source, revision = sources(stored.manifest, stored.parts)
        if source.digest not in policies:
            policies[source.digest] = compile_source(source)
        policy = replace(policies[source.digest], revision=revision)
        return restore(stored.manifest, stored.parts, policy)

    return find
