"""The curator's work: close every hour that is due, and judge again between hours when rules or world changed."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog
from sqlalchemy import Engine

from assay.decision_log.retention import prune_published
from assay.engine.policy.policy import Policy
from assay.engine.pool.tick import tick
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.clock import EPOCH, HOUR
from assay.engine.world.world import World
from assay.store.database import writing
from assay.store.lease import Lease, require_lease
from assay.store.policies import number_policy
from assay.store.pools import SavedTick, TickResult, last_hour, load_memory, save_tick
from assay.store.snapshots import Publication, StoredSnapshot
from assay.store.traffic_counts import CounterCache
from assay.store.world import WorldRevision, load_world, world_revision

SETTLING: Final = timedelta(
    seconds=30
)  # for outcomes of the hour that are on their way from journals to the database


def due(done: int | None, now: datetime) -> range:
    """The hours to close now, as whole hours from 1970 to their end: all since the last one done, at first only one."""
    closed = (now - SETTLING - EPOCH) // HOUR
    return range(closed if done is None else done + 1, closed + 1)


def end_of(hour: int) -> datetime:
    """The instant at which an hour is over."""
    return EPOCH + hour * HOUR


KEPT: Final = timedelta(days=31)
HOURS_A_DAY: Final = 24
PAUSE: Final = 4.0  # between ticks that changes ask for, in times that the last one took: changes may come without end
log = structlog.get_logger("assay.curator")


class Rules(Protocol):
    """Where the rules come from: `assay.curator.judging.RuleFiles`."""

    def look(self) -> Policy:
        """The last good policy, not yet numbered; raises what stands in the way as long as there is none."""


@dataclass(frozen=True, slots=True)
class PublishedSnapshot:
    """What came into force, and of what it was judged."""

    publication: Publication
    snapshot: Snapshot
    world: World


@dataclass(frozen=True, slots=True)
class Basis:
    """What was judged last, under which lease."""

    token: int
    policy_digest: str
    world: WorldRevision


class Curator:
    """Ticks under a lease; `tell` hears of every publication once it is committed.

    It remembers nothing that the database does not hold, so that any other may go on where it stopped. A tick that
    fails leaves everything as it was.
    """

    def __init__(
        self,
        database: Engine,
        rules: Rules,
        clock: Callable[[], datetime],
        tell: Callable[[PublishedSnapshot], None],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database = database
        self.rules = rules
        self.clock = clock
        self.tell = tell
        self.basis: Basis | None = None
        self.numbered: tuple[int, Policy] | None = None
        self._steady = steady
        self._book = CounterCache()
        self._pause_ends = steady()

    def work(self, lease: Lease, wanted: Callable[[], bool]) -> None:
        """Close what is due, as long as it is `wanted`; raises LeaseLost and whatever else stands in the way."""
        policy = self.rules.look()
        done = last_hour(self.database)
        for hour in due(done, self.clock()):
            if not wanted():
                return
            self.tick(lease, policy, hour, closed=True)
            done = hour
        started = self._steady()
        if done is None or started < self._pause_ends:
            return
        if self.basis != Basis(lease.token, policy.digest, world_revision(self.database)):
            self.tick(lease, policy, done, closed=False)
            ended = self._steady()
            self._pause_ends = ended + PAUSE * (ended - started)

    def number(self, lease: Lease, policy: Policy) -> Policy:
        """The policy under its revision number, given under this lease."""
        if self.numbered is None or (self.numbered[0], self.numbered[1].digest) != (
            lease.token,
            policy.digest,
        ):
            with writing(self.database) as connection:
                require_lease(connection, lease)
                number = number_policy(
                    connection, policy.digest, policy.source.files, now=self.clock()
                )
            self.numbered = lease.token, replace(policy, revision=number)
        return self.numbered[1]

    def tick(self, lease: Lease, policy: Policy, hour: int, *, closed: bool) -> None:
        """Judge as of the end of an hour, write and publish."""
        with unpaused():
            self._tick(lease, policy, hour, closed=closed)

    def _tick(self, lease: Lease, policy: Policy, hour: int, *, closed: bool) -> None:
        as_of, policy = end_of(hour), self.number(lease, policy)
        basis = Basis(lease.token, policy.digest, world_revision(self.database))
        world = load_world(self.database, as_of, policy.folds, cache=self._book)
        memory = load_memory(self.database)
        done = tick(world, policy, as_of, memory, closed=closed)
        stored = StoredSnapshot(
            done.snapshot.snapshot_id,
            as_of,
            policy.revision,
            done.snapshot.manifest,
            done.snapshot.parts,
        )
        result = TickResult(stored, memory, done.memory, done.changes, hour if closed else None)
        saved = save_tick(self.database, result, lease, now=self.clock())
        self.basis = basis
        note(result, saved)
        self.tell(PublishedSnapshot(saved.publication, done.snapshot, world))
        if closed and hour % HOURS_A_DAY == 0:
            prune_published(self.database, self.clock() - KEPT)


@contextmanager
def unpaused() -> Iterator[None]:
    """Let the garbage collector rest: what a tick makes, it keeps to its end, and looking through it takes a second."""
    resting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if resting:
            gc.enable()


def note(result: TickResult, saved: SavedTick) -> None:
    """Log what a tick did."""
    log.info(
        "ticked" if result.hour is not None else "judged again",
        as_of=result.snapshot.as_of.isoformat(), publication=saved.publication.sequence,
        snapshot=result.snapshot.snapshot_id, policy_revision=result.snapshot.policy_revision,
        changes=len(result.changes), states_written=saved.states, parts_written=saved.parts,
    )  # fmt: skip
