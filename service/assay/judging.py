"""Judging at the edge: from the database and the policy directory, at start and on every change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy import Engine

from assay.engine.catalog import World
from assay.engine.errors import AssayError
from assay.engine.policy import Policy, compile_policy
from assay.engine.pool import judge
from assay.engine.ruleset import PolicySource
from assay.engine.snapshot import Snapshot
from assay.rulefiles.directory import read_directory
from assay.rulefiles.read import read_policy
from assay.store.policies import latest_policy, record_policy
from assay.store.snapshots import StoredSnapshot, save_snapshot
from assay.store.world import WorldRevision, load_world, world_revision

log = structlog.get_logger("assay.judging")


def compiled(source: PolicySource, revision: int = 0) -> Policy:
    """Read and compile rule files; raises PolicyFaults with every fault."""
    rule_sets, bindings = read_policy(source.files)
    return compile_policy(rule_sets, bindings, source, revision)


def judged(engine: Engine, directory: Path, as_of: datetime) -> tuple[World, Snapshot]:
    """Judge what the database holds by a policy directory, without memory, and keep nothing of it."""
    source = read_directory(directory)
    newest = latest_policy(engine)
    revision = newest.number if newest and newest.digest == source.digest else 0
    world = load_world(engine)
    return world, judge(world, compiled(source, revision), as_of)


@dataclass(frozen=True, slots=True)
class Basis:
    """What a snapshot was judged from; a new hour counts as a change, since evidence ages."""

    policy_digest: str
    world: WorldRevision
    hour: datetime


class Judging:
    """Judges at start and whenever catalog, evidence or policy changed, or a UTC hour has closed, and publishes.

    A policy that cannot be compiled leaves the last good one in force; `policy_error` then says why.
    """

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        publish: Callable[[World, Snapshot], None],
        *,
        pinned: datetime | None,
        clock: Callable[[], datetime],
    ) -> None:
        self.engine = engine
        self.directory = directory
        self.publish = publish
        self.pinned = pinned
        self.clock = clock
        self.policy: Policy | None = None
        self.policy_error: AssayError | None = None
        self.basis: Basis | None = None
        self._refused = ""

    def start(self) -> None:
        """Judge for the first time; raises what stands in the way."""
        self._renew_policy()
        if self.policy_error:
            raise self.policy_error
        self.refresh()

    def refresh(self) -> bool:
        """Judge again if anything changed; whether it did. What goes wrong leaves the last good snapshot in force."""
        self._renew_policy()
        if self.policy is None:
            return False
        as_of = self.pinned or self.clock().astimezone(UTC)
        hour = as_of.replace(minute=0, second=0, microsecond=0)
        basis = Basis(self.policy.digest, world_revision(self.engine), hour)
        if basis == self.basis:
            return False
        world = load_world(self.engine)
        snapshot = judge(world, self.policy, as_of)
        stored = StoredSnapshot(
            snapshot.snapshot_id, snapshot.as_of, self.policy.revision, snapshot.manifest, snapshot.parts
        )
        save_snapshot(self.engine, stored, published=False, now=self.clock())
        self.basis = basis
        self.publish(world, snapshot)
        log.info(
            "judged", snapshot=snapshot.snapshot_id, policy_revision=self.policy.revision, models=len(snapshot.models)
        )
        return True

    def _renew_policy(self) -> None:
        """Compile the directory if its content changed; on any fault keep what is in force."""
        source = None
        try:
            source = read_directory(self.directory)
            if self.policy and self.policy.digest == source.digest:
                self.policy_error, self._refused = None, ""
                return
            if source.digest == self._refused:
                return
            policy = compiled(source)
            policy.warm()
        except AssayError as error:
            if str(error) != str(self.policy_error):
                log.warning("policy refused", directory=str(self.directory), error=str(error))
            self.policy_error, self._refused = error, source.digest if source else ""
            return
        revision = record_policy(self.engine, source.digest, source.files, now=self.clock())
        self.policy = replace(policy, revision=revision)
        self.policy_error, self._refused = None, ""
