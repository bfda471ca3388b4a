"""A snapshot follower that records what it does."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Engine
from tests.support.curated_pool import CuratorBench

from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.world import World
from assay.rule_files.compile import compile_source
from assay.server.snapshot_copy import SnapshotCopy
from assay.server.snapshot_follower import SnapshotFollower


@dataclass
class Follower:
    """A snapshot follower that records every snapshot it activates and every policy it compiles."""

    database: Engine
    copy: SnapshotCopy | None = None
    seconds: float = 0.0
    seen: list[Snapshot] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.following = SnapshotFollower(
            self.database,
            self.compile,
            World,
            lambda _, snapshot: self.seen.append(snapshot),
            copy=self.copy,
            steady=lambda: self.seconds,
        )

    def compile(self, source: PolicySource) -> Policy:
        self.compiled.append(source.digest)
        return compile_source(source)

    @property
    def ids(self) -> list[str]:
        return [snapshot.snapshot_id for snapshot in self.seen]

    @property
    def trouble(self) -> str:
        return str(self.following.trouble or "")


def published(bench: CuratorBench) -> list[str]:
    """Return the ids of all snapshots that a curator has published, in order."""
    return [each.snapshot.snapshot_id for each in bench.heard]
