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
from assay.server.snapshot_copy import SnapshotCopy
from assay.store.snapshots import Publication, latest_published, load_manifest, load_parts
from assay.store.world import load_world, world_revision

PARTS_PER_QUERY: Final = 50
WORK_S: Final = 0.001
PAUSE_S: Final = 0.001
STABLE_S: Final = 5.0
"""For how long the database must show an older publication until it is taken."""
log = structlog.get_logger("assay.server.snapshot_follower")


class PublicationUnusable(OperatorError):
    """The newest publication is unusable; the one before stays active."""

    def __init__(self, sequence: int, why: str) -> None:
        super().__init__(f"publication {sequence} {why}")
        self.sequence = sequence


class _WorkPauses:
    """Pauses after each millisecond of work, so that other threads of the interpreter can run."""

    def __init__(self, progress: Callable[[], object] = lambda: None) -> None:
        self._began = time.perf_counter()
        self._progress = progress

    def __call__(self) -> None:
        if time.perf_counter() - self._began >= WORK_S:
            self._progress()
            time.sleep(PAUSE_S)
            self._began = time.perf_counter()


class SnapshotFollower:
    """Passes every newer publication to `publish`.

    If that fails, the last valid snapshot stays active and `trouble` holds the error. `world`
    returns the world to publish with a snapshot. `progress` is called now and then during a long
    round. With a `copy`, the active snapshot is also kept in a file.

    Publications only grow, unless the database was restored. A number that went back, or that has
    another snapshot now, is therefore taken only after the database has said so for STABLE_S.
    """

    def __init__(  # noqa: PLR0913 - the last two have defaults
        self,
        database: Engine,
        compile_source: Callable[[PolicySource], Policy],
        world: Callable[[], World],
        publish: Callable[[World, Snapshot], None],
        *,
        copy: SnapshotCopy | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble: AssayError | None = None
        self.snapshot: Snapshot | None = None
        self.progress: Callable[[], object] = lambda: None
        self._database = database
        self._compile = compile_source
        self._world = world
        self._publish = publish
        self._copy = copy
        self._steady = steady
        self._active: Publication | None = None
        self._back_since: float | None = None
        self._lacks_world = False
        self._fetched: dict[str, bytes] = {}
        self._unusable: tuple[Publication, PublicationUnusable] | None = None
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
            taken = False
        else:
            if self.trouble is not None:
                log.info("publications are followed again")
            self.trouble = None
        if self._copy is not None and self._active is not None and self.snapshot is not None:
            self._copy.save(self._active, self.snapshot, _WorkPauses(self.progress))
        return taken

    def resume(self) -> bool:
        """Activate the copy, if there is one and it is whole; return whether it did."""
        copied = None if self._copy is None else self._copy.load()
        if copied is None:
            return False
        try:
            policy = self._policy(*read_policy_source(copied.manifest, copied.parts), None)
            snapshot = restore_snapshot(copied.manifest, copied.parts, policy)
        except (AssayError, ValueError, LookupError, TypeError) as error:
            log.warning("copy of the snapshot cannot be used", error=str(error))
            return False
        self._lacks_world = True
        return self._activate(copied.publication, World(), snapshot)

    def take(self, publication: Publication, world: World, snapshot: Snapshot) -> bool:
        """Activate a snapshot unless it or a newer one is active; return whether it did."""
        return self._activate(publication, world, snapshot)

    def take_unpublished(self, world: World, snapshot: Snapshot) -> bool:
        """Activate an unpublished snapshot if none was published; return whether it did."""
        with self._turn:
            if self.snapshot is None:
                self._publish(world, snapshot)
            return self.snapshot is None

    def _activate(
        self, publication: Publication, world: World, snapshot: Snapshot, *, went_back: bool = False
    ) -> bool:
        with self._turn:
            active = self._active
            if active is not None and publication.sequence <= active.sequence and not went_back:
                return False
            views: list[object] = []
            if self.snapshot is not None:
                views = [*self.snapshot.models.values(), *self.snapshot.pools.values()]
            self._publish(world, snapshot)
            self.snapshot, self._active, self._fetched = snapshot, publication, {}
        log.info(
            "snapshot activated", publication=publication.sequence, snapshot=snapshot.snapshot_id
        )
        rest = _WorkPauses(self.progress)
        while views:  # one by one; freed all at once, they would block every thread
            views.pop()
            rest()
        return True

    def _follow(self) -> bool:
        newest, active = latest_published(self._database), self._active
        if _same(newest, active):
            self._back_since = None
            if self._lacks_world and self.snapshot is not None:
                self._publish(self._world(), self.snapshot)
                self._lacks_world = False
            return False
        went_back = active is not None and (newest is None or newest.sequence <= active.sequence)
        if went_back and active is not None:
            self._require_stable(newest, active)
        else:
            self._back_since = None
        if newest is None:
            return False
        if self._unusable is not None and _same(self._unusable[0], newest):
            raise self._unusable[1].with_traceback(None)
        with paused_collection(freeze=True):
            snapshot = self._read_snapshot(newest, self.snapshot)
            return self._activate(newest, self._world(), snapshot, went_back=went_back)

    def _require_stable(self, newest: Publication | None, active: Publication) -> None:
        """Raise PublicationUnusable until the database has been back for long enough."""
        if self._back_since is None:
            self._back_since = self._steady()
        if newest is None or self._steady() - self._back_since < STABLE_S:
            sequence = 0 if newest is None else newest.sequence
            why = f"is older than the active one, {active.sequence}"
            if sequence == active.sequence:
                why = f"has another snapshot than the active one, {active.snapshot_id}"
            raise PublicationUnusable(sequence, why)
        log.warning(
            "the database has gone back, as after a restore; its publication is taken",
            publication=newest.sequence,
            before=active.sequence,
        )

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
            pauses = _WorkPauses(self.progress)
            return restore_snapshot(manifest, parts, policy, former=former, pause=pauses)
        except (AssayError, ValueError, LookupError, TypeError) as error:
            unusable = PublicationUnusable(newest.sequence, f"cannot be read: {error}")
            self._unusable = (newest, unusable)
            raise unusable from error

    def _parts(
        self, newest: Publication, head: Manifest, known: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        """Return every part of a snapshot; fetch unknown parts from the database, each once."""
        wanted = head.parts - known.keys()
        self._fetched = {name: content for name, content in self._fetched.items() if name in wanted}
        missing, rest = sorted(wanted - self._fetched.keys()), _WorkPauses(self.progress)
        for start in range(0, len(missing), PARTS_PER_QUERY):
            self._fetched |= load_parts(self._database, missing[start : start + PARTS_PER_QUERY])
            self.progress()
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


def _same(one: Publication | None, other: Publication | None) -> bool:
    """Whether number and snapshot are equal."""
    if one is None or other is None:
        return one is other
    return (one.sequence, one.snapshot_id) == (other.sequence, other.snapshot_id)


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
