"""Follow the newest publication: fetch its new parts, reuse the parts of the active snapshot.

A follower shares the interpreter with threads that answer requests. It therefore pauses after each
millisecond of work, keeps the garbage collector from scanning the new snapshot, and releases the
old one piece by piece.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import structlog
from sqlalchemy import Engine

from assay.curator.gc_pause import paused_collection
from assay.engine.errors import AssayError, OperatorError
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.snapshot.snapshot import (
    Manifest,
    Snapshot,
    read_manifest,
    read_policy_source,
    restore_snapshot,
)
from assay.engine.world.world import World
from assay.store.snapshots import Publication, latest_published, load_manifest, load_parts
from assay.store.world import load_world, world_revision

PARTS_PER_QUERY: Final = 50
WORK_S: Final = 0.001
PAUSE_S: Final = 0.001
log = structlog.get_logger("assay.server.snapshot_follower")


class PublicationUnusable(OperatorError):
    """The newest publication is unusable; the one before stays active."""

    def __init__(self, sequence: int, why: str) -> None:
        super().__init__(f"publication {sequence} {why}")
        self.sequence = sequence


class _WorkPauses:
    """Pauses after each millisecond of work, so that other threads of the interpreter can run."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def __call__(self) -> None:
        if time.perf_counter() - self._began >= WORK_S:
            time.sleep(PAUSE_S)
            self._began = time.perf_counter()


class SnapshotFollower:
    """Passes every newer publication to `publish`, never an older one.

    If that fails, the last valid snapshot stays active and `trouble` holds the error. `world`
    returns the world to publish with a snapshot.
    """

    def __init__(
        self,
        database: Engine,
        compile_source: Callable[[PolicySource], Policy],
        world: Callable[[], World],
        publish: Callable[[World, Snapshot], None],
    ) -> None:
        self.trouble: AssayError | None = None
        self.snapshot: Snapshot | None = None
        self._database = database
        self._compile = compile_source
        self._world = world
        self._publish = publish
        self._sequence = 0
        self._fetched: dict[str, bytes] = {}
        self._unusable: PublicationUnusable | None = None
        self._turn = threading.Lock()

    def follow(self) -> bool:
        """Activate the newest publication if it is newer; return whether it did.

        An error is stored in `trouble`, not raised.
        """
        try:
            taken = self._follow()
        except AssayError as error:
            if str(error) != str(self.trouble):
                log.warning("last valid snapshot stays active", error=str(error))
            self.trouble = error
            return False
        self.trouble = None
        return taken

    def take(self, publication: Publication, world: World, snapshot: Snapshot) -> bool:
        """Activate a snapshot unless it or a newer one is active; return whether it did."""
        with self._turn:
            if publication.sequence <= self._sequence:
                return False
            views: list[object] = []
            if self.snapshot is not None:
                views = [*self.snapshot.models.values(), *self.snapshot.pools.values()]
            self._publish(world, snapshot)
            self.snapshot, self._sequence, self._fetched = snapshot, publication.sequence, {}
        log.info(
            "snapshot activated", publication=publication.sequence, snapshot=snapshot.snapshot_id
        )
        rest = _WorkPauses()
        while views:  # one by one; freed all at once, they would block every thread
            views.pop()
            rest()
        return True

    def take_unpublished(self, world: World, snapshot: Snapshot) -> bool:
        """Activate an unpublished snapshot if none was published; return whether it did."""
        with self._turn:
            if self.snapshot is None:
                self._publish(world, snapshot)
            return self.snapshot is None

    def _follow(self) -> bool:
        newest, own = latest_published(self._database), self._sequence
        sequence = 0 if newest is None else newest.sequence
        if sequence < own:
            raise PublicationUnusable(sequence, f"is older than the active one, {own}")
        if newest is None or sequence == own:
            return False
        if self._unusable is not None and self._unusable.sequence == sequence:
            raise self._unusable.with_traceback(None)
        with paused_collection(freeze=True):
            return self.take(newest, self._world(), self._read_snapshot(newest, self.snapshot))

    def _read_snapshot(self, newest: Publication, former: Snapshot | None) -> Snapshot:
        """Read a snapshot; raises PublicationUnusable and StoreUnavailable."""
        manifest = load_manifest(self._database, newest.snapshot_id)
        if manifest is None:
            raise PublicationUnusable(
                newest.sequence, f"refers to snapshot {newest.snapshot_id}, which is missing"
            )
        parts = self._parts(newest, read_manifest(manifest), {} if former is None else former.parts)
        try:
            policy = self._policy(*read_policy_source(manifest, parts), former)
            return restore_snapshot(manifest, parts, policy, former=former, pause=_WorkPauses())
        except (AssayError, ValueError, LookupError, TypeError) as error:
            self._unusable = PublicationUnusable(newest.sequence, f"cannot be read: {error}")
            raise self._unusable from error

    def _parts(
        self, newest: Publication, head: Manifest, known: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        """Return every part of a snapshot; fetch unknown parts from the database, each once."""
        wanted = head.parts - known.keys()
        self._fetched = {name: content for name, content in self._fetched.items() if name in wanted}
        missing, rest = sorted(wanted - self._fetched.keys()), _WorkPauses()
        for start in range(0, len(missing), PARTS_PER_QUERY):
            self._fetched |= load_parts(self._database, missing[start : start + PARTS_PER_QUERY])
            rest()
        at_hand = {**known, **self._fetched}
        if lacking := sorted(head.needed - at_hand.keys()):
            raise PublicationUnusable(
                newest.sequence,
                f"lacks {len(lacking)} parts, missing or altered, the first is {lacking[0]}",
            )
        return {name: at_hand[name] for name in head.parts if name in at_hand}

    def _policy(self, source: PolicySource, revision: int, former: Snapshot | None) -> Policy:
        """Return a snapshot's policy; compile it only if its rule files have changed."""
        if former is not None and former.policy.digest == source.digest:
            return replace(former.policy, revision=revision)
        policy = self._compile(source)
        policy.warm()
        return replace(policy, revision=revision)


class CatalogWorld:
    """The catalog's world, read again only after the catalog has changed."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._revision = -1
        self._world = World()

    def load(self) -> World:
        """Return the world as the catalog lists it now."""
        revision = world_revision(self._database).catalog
        if revision != self._revision:
            self._world, self._revision = load_world(self._database), revision
        return self._world
