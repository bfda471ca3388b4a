"""The curator: it watches rules and world, judges what is due, and publishes snapshots.

How it works
    With a lease, the curator judges with memory. Every UTC hour that has closed is one tick, in
    order, also hours that were missed; between hours it rejudges if the rules or the world
    changed. A tick is one transaction: the snapshot, its publication, changed states and changes
    are written together. The transaction compares the lease's token, so that a curator
    that lost the lease without noticing writes nothing.

    Without a lease, it judges without memory, as of now or of a pinned time, whenever the rules or
    the world changed or an hour closed. Such snapshots are stored for replay but not published. A
    service judges so as long as nothing was published.

    The curator remembers nothing that the database does not hold, except which basis it judged
    last. Any other curator can continue where it stopped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog
from sqlalchemy import Engine

from assay.curator.gc_pause import paused_collection
from assay.decision_log.outcome_matching import WAITING, settle_waiting, waiting_limit
from assay.decision_log.retention import prune_published
from assay.engine.errors import OperatorError
from assay.engine.policy.policy import Policy
from assay.engine.pool.judge import judge
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.clock import EPOCH, HOUR, HOURS_PER_DAY
from assay.engine.world.world import World
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory
from assay.store.counter_cache import NOT_COUNTED, CounterCaches
from assay.store.database import with_limits, writing
from assay.store.evidence_retention import count_deduplication, prune_deduplication
from assay.store.lease import Lease, require_lease
from assay.store.policies import latest_policy, number_policy
from assay.store.pools import TickResult, last_hour, load_memory, save_tick
from assay.store.snapshots import Publication, StoredSnapshot, save_snapshot
from assay.store.world import WorldRevision, load_world, world_revision

SETTLING: Final = timedelta(seconds=30)
"""The time that outcomes of an hour may take from the journals to the database."""
KEPT: Final = timedelta(days=31)
"""For how long published snapshots are kept."""
PRUNED: Final = 100_000
"""How many rows of a table are pruned at most when hours were closed."""
PAUSE: Final = 4.0
"""The pause after judging between hours, as a multiple of its duration; it limits the load."""
AHEAD: Final = timedelta(minutes=5)
"""How far the clock may be set back behind the last closed hour before that is an error."""
log = structlog.get_logger("assay.curator")


class HoursClosedAhead(OperatorError):
    """The database says that hours are closed that are not over yet, so none can be closed."""

    def __init__(self, end: datetime, now: datetime) -> None:
        super().__init__(
            f"hours are closed up to {end:%Y-%m-%d %H:%M} UTC, but it is {now:%Y-%m-%d %H:%M} UTC;"
            " if this clock is right, run `assay curator repair`"
        )


class PolicySupplier(Protocol):
    """Where the rules come from: a `RuleDirectory`, or what a test supplies."""

    def refresh(self) -> Policy:
        """Return the last good policy, not numbered; raises while there is none."""


@dataclass(frozen=True, slots=True)
class JudgedSnapshot:
    """A snapshot and its world; `publication` is `None` if it was only stored."""

    snapshot: Snapshot
    world: World
    publication: Publication | None = None


@dataclass(frozen=True, slots=True)
class _Basis:
    """The input of the last judging; it changes with each hour, since evidence ages."""

    policy_digest: str
    world: WorldRevision
    hour: datetime
    token: int | None


def hours_due(done: int | None, now: datetime) -> range:
    """Return the hours to close, numbered from 1970: all since the last `done`, at first one."""
    closed = (now - SETTLING - EPOCH) // HOUR
    return range(closed if done is None else done + 1, closed + 1)


def end_of_hour(hour: int) -> datetime:
    """Return the instant at which an hour is over."""
    return EPOCH + hour * HOUR


def judge_once(database: Engine, directory: Path, as_of: datetime) -> tuple[World, Snapshot]:
    """Judge the database's content by a policy directory, without memory, and store nothing."""
    source = read_directory(directory)
    newest = latest_policy(database)
    revision = newest.number if newest and newest.digest == source.digest else 0
    policy = compile_source(source, revision)
    world = load_world(database, as_of, policy.folds)
    return world, judge(world, policy, as_of).snapshot


class Curator:
    """Judges when something is due, and passes every snapshot to `publish` once it is committed.

    A failure leaves everything as it was. `uncounted` counts, by kind, outcomes that were given up.
    `sizes` has the rows of tables that are pruned, as of the last hour that was closed here.
    """

    def __init__(
        self,
        database: Engine,
        rules: PolicySupplier,
        clock: Callable[[], datetime],
        publish: Callable[[JudgedSnapshot], object],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble: HoursClosedAhead | None = None
        self.progress: Callable[[], object] = lambda: None  # called after each step of a round
        self._database = with_limits(database)
        self._rules = rules
        self._clock = clock
        self._publish = publish
        self._steady = steady
        self._basis: _Basis | None = None
        self._numbered: tuple[int | None, Policy] | None = None
        self._caches = CounterCaches()
        self._pause_ends = steady()
        self.uncounted: Counter[str] = Counter()
        self.sizes: Mapping[str, int] = {}

    def judge_if_changed(self, pinned: datetime | None = None) -> bool:
        """Judge without a lease if anything changed, as of now or `pinned`.

        Returns whether it judged.
        """
        as_of = pinned or self._clock().astimezone(UTC)
        return self._judge_changes(self._rules.refresh(), as_of, None)

    def curate(self, lease: Lease, is_wanted: Callable[[], bool]) -> None:
        """Close the hours that are due while that `is_wanted`, then judge changes.

        Does nothing but set `trouble` if the last hour is not over yet.
        """
        policy = self._rules.refresh()
        done, now = last_hour(self._database), self._clock()
        is_ahead = done is not None and end_of_hour(done) - now > AHEAD
        self.trouble = HoursClosedAhead(end_of_hour(done), now) if done and is_ahead else None
        if is_ahead:
            return
        is_closed = False
        for hour in hours_due(done, now):
            if not is_wanted():
                return
            self.close_hour(lease, policy, hour)
            self.progress()
            done = hour
            is_closed = True
        if is_closed:
            prune_deduplication(self._database, now, most=PRUNED)
            self.progress()
            self.sizes = count_deduplication(self._database)
        started = self._steady()
        if done is None or started < self._pause_ends:
            return
        if self._judge_changes(policy, end_of_hour(done), lease):
            ended = self._steady()
            self._pause_ends = ended + PAUSE * (ended - started)

    def close_hour(self, lease: Lease, policy: Policy, hour: int) -> None:
        """Judge as of the end of one hour, and publish.

        Outcomes whose decision did not arrive within a day are given up first.
        """
        limit = waiting_limit(self._database, self._clock() - WAITING)
        given_up = settle_waiting(self._database, limit)
        if given_up:
            log.info("outcomes waited in vain for their decision", **given_up)
            self.uncounted = self.uncounted + given_up  # swapped: metrics read it meanwhile
        self._judge(policy, end_of_hour(hour), lease, closed_hour=hour)

    def _judge_changes(self, policy: Policy, as_of: datetime, lease: Lease | None) -> bool:
        is_changed = self._basis != self._current_basis(policy, as_of, lease)
        if is_changed:
            self._judge(policy, as_of, lease)
        return is_changed

    def _current_basis(self, policy: Policy, as_of: datetime, lease: Lease | None) -> _Basis:
        hour = as_of.replace(minute=0, second=0, microsecond=0)
        revision = world_revision(self._database)
        return _Basis(policy.digest, revision, hour, lease.token if lease else None)

    def _judge(
        self,
        policy: Policy,
        as_of: datetime,
        lease: Lease | None,
        *,
        closed_hour: int | None = None,
    ) -> None:
        with paused_collection():
            policy = self._number(policy, lease)
            basis = self._current_basis(policy, as_of, lease)
            if lease is None:
                judged = self._judge_unpublished(policy, as_of)
            else:
                judged = self._judge_published(policy, as_of, lease, closed_hour)
            self._basis = basis
            self._publish(judged)
            if closed_hour is not None and closed_hour % HOURS_PER_DAY == 0:
                prune_published(self._database, self._clock() - KEPT)

    def _judge_unpublished(self, policy: Policy, as_of: datetime) -> JudgedSnapshot:
        world = load_world(self._database, as_of, policy.folds)
        snapshot = judge(world, policy, as_of).snapshot
        save_snapshot(self._database, _stored(snapshot), published=False, now=self._clock())
        log.info(
            "judged",
            snapshot=snapshot.snapshot_id,
            policy_revision=policy.revision,
            models=len(snapshot.models),
        )
        return JudgedSnapshot(snapshot, world)

    def _judge_published(
        self, policy: Policy, as_of: datetime, lease: Lease, closed_hour: int | None
    ) -> JudgedSnapshot:
        memory = load_memory(self._database)
        counted = NOT_COUNTED if closed_hour is None else memory.counted
        world = load_world(
            self._database, as_of, policy.folds, caches=self._caches, counted=counted
        )
        self.progress()
        judgment = judge(world, policy, as_of, memory, closes_hour=closed_hour is not None)
        self.progress()
        snapshot, changes = judgment.snapshot, judgment.changes
        result = TickResult(_stored(snapshot), memory, judgment.memory, changes, closed_hour)
        saved = save_tick(self._database, result, lease, now=self._clock())
        log.info(
            "judged between hours" if closed_hour is None else "closed an hour",
            as_of=as_of.isoformat(),
            publication=saved.publication.sequence,
            snapshot=snapshot.snapshot_id,
            policy_revision=policy.revision,
            changes=len(changes),
            states_written=saved.states,
            parts_written=saved.parts,
        )
        return JudgedSnapshot(snapshot, world, saved.publication)

    def _number(self, policy: Policy, lease: Lease | None) -> Policy:
        """Return the policy with its revision number, which the store gives it, once per lease."""
        token = lease.token if lease else None
        known = self._numbered
        if known is None or (known[0], known[1].digest) != (token, policy.digest):
            with writing(self._database) as connection:
                if lease is not None:
                    require_lease(connection, lease)
                number = number_policy(
                    connection, policy.digest, policy.source.files, now=self._clock()
                )
            known = self._numbered = (token, replace(policy, revision=number))
        return known[1]


def _stored(snapshot: Snapshot) -> StoredSnapshot:
    return StoredSnapshot(
        snapshot.snapshot_id,
        snapshot.as_of,
        snapshot.policy.revision,
        snapshot.manifest,
        snapshot.parts,
    )
