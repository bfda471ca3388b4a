"""Judging at the edge: from the database and the policy directory, at start and on every change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy import Engine

from assay.engine.errors import AssayError
from assay.engine.policy.policy import Policy, compile_policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.pool.judge import judge
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.world import World
from assay.rule_files.directory import read_directory
from assay.rule_files.read import read_policy
from assay.store.policies import latest_policy, record_policy
from assay.store.snapshots import StoredSnapshot, save_snapshot
from assay.store.world import WorldRevision, load_world, world_revision

log = structlog.get_logger("assay.curator.judging")


def compile_source(source: PolicySource, revision: int = 0) -> Policy:
    """Read and compile rule files; raises PolicyFaults with every fault."""
    rule_sets, bindings = read_policy(source.files)
    return compile_policy(rule_sets, bindings, source, revision)


def compile_stored(source: PolicySource) -> Policy:
    """Compile rule files read from the store, which may use former names of facts."""
    rule_sets, bindings = read_policy(source.files)
    return compile_policy(rule_sets, bindings, source, accept_former=True)


def judged(database: Engine, directory: Path, as_of: datetime) -> tuple[World, Snapshot]:
    """Judge what the database holds by a policy directory, without memory, and keep nothing of it."""
    source = read_directory(directory)
    newest = latest_policy(database)
    revision = newest.number if newest and newest.digest == source.digest else 0
    policy = compile_source(source, revision)
    world = load_world(database, as_of, policy.folds)
    return world, judge(world, policy, as_of)


@dataclass(frozen=True, slots=True)
class Basis:
    """What a snapshot was judged from; a new hour counts as a change, since evidence ages."""

    policy_digest: str
    world: WorldRevision
    hour: datetime


class RuleFiles:
    """A directory of rule files, compiled whenever its content has changed.

    What cannot be compiled leaves the last good policy in force; `error` then says why.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.policy: Policy | None = None
        self.error: AssayError | None = None
        self._refused: tuple[str, AssayError] | None = None

    def look(self) -> Policy:
        """The last good policy, not yet numbered; raises what stands in the way as long as there is none."""
        try:
            self.policy = self._read()
            self.error = None
        except AssayError as error:
            if str(error) != str(self.error):
                log.warning("policy refused", directory=str(self.directory), error=str(error))
            self.error = error
            if self.policy is None:
                raise
        return self.policy

    def _read(self) -> Policy:
        """Compile what the directory holds, each content once."""
        source = read_directory(self.directory)
        if self.policy and self.policy.digest == source.digest:
            return self.policy
        if self._refused and self._refused[0] == source.digest:
            raise self._refused[1].with_traceback(None)
        try:
            policy = compile_source(source)
        except AssayError as error:
            self._refused = source.digest, error
            raise
        policy.warm()
        return policy


class Judging:
    """Judges at start and whenever catalog, evidence or policy changed, or a UTC hour has closed, and publishes."""

    def __init__(
        self,
        database: Engine,
        rules: RuleFiles,
        publish: Callable[[World, Snapshot], object],
        *,
        pinned: datetime | None,
        clock: Callable[[], datetime],
    ) -> None:
        self.database = database
        self.rules = rules
        self.publish = publish
        self.pinned = pinned
        self.clock = clock
        self.policy: Policy | None = None
        self.basis: Basis | None = None

    def start(self) -> None:
        """Judge for the first time; raises what stands in the way."""
        self.rules.look()
        if self.rules.error:
            raise self.rules.error
        self.refresh()

    def refresh(self) -> bool:
        """Judge again if anything changed; whether it did. What goes wrong leaves the last good snapshot in force."""
        policy = self._numbered(self.rules.look())
        as_of = self.pinned or self.clock().astimezone(UTC)
        hour = as_of.replace(minute=0, second=0, microsecond=0)
        basis = Basis(policy.digest, world_revision(self.database), hour)
        if basis == self.basis:
            return False
        world = load_world(self.database, as_of, policy.folds)
        snapshot = judge(world, policy, as_of)
        stored = StoredSnapshot(
            snapshot.snapshot_id, snapshot.as_of, policy.revision, snapshot.manifest, snapshot.parts
        )
        save_snapshot(self.database, stored, published=False, now=self.clock())
        self.basis = basis
        self.publish(world, snapshot)
        log.info(
            "judged",
            snapshot=snapshot.snapshot_id,
            policy_revision=policy.revision,
            models=len(snapshot.models),
        )
        return True

    def _numbered(self, policy: Policy) -> Policy:
        """The policy under its revision, which the store gives it."""
        if self.policy is None or self.policy.digest != policy.digest:
            revision = record_policy(
                self.database, policy.digest, policy.source.files, now=self.clock()
            )
            self.policy = replace(policy, revision=revision)
        return self.policy
