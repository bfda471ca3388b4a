"""Follow the newest publication: fetch its new parts, and reuse the parts of the active snapshot."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import structlog
from sqlalchemy import Engine

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

PIECE: Final = 50  # parts a query
WORK_S: Final = 0.001
REST_S: Final = 0.001
log = structlog.get_logger("assay.server.snapshot_follower")


class PublicationUnusable(OperatorError):
    """The newest publication cannot be decided from; the one before stays in force."""

    def __init__(self, sequence: int, why: str) -> None:
        super().__init__(f"publication {sequence} {why}")
        self.sequence = sequence


class Pauses:
    """Lets the other threads of the interpreter have their turn: after each millisecond of work another one."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def __call__(self) -> None:
        """Rest, if it is time to."""
        if time.perf_counter() - self._began >= WORK_S:
            time.sleep(REST_S)
            self._began = time.perf_counter()


class SnapshotFollower:
    """Puts every newer publication in force by `publish`, never an older one.

    Whatever goes wrong leaves the last good snapshot in force, and is told by `trouble`. `compile_source` makes rule
    files a policy, `world` gives what is published beside a snapshot.
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
        self._refused: PublicationUnusable | None = None
        self._turn = threading.Lock()

    def follow(self) -> bool:
        """Put the newest publication in force; whether there was a newer one. What fails is told, not raised."""
        try:
            taken = self._follow()
        except AssayError as error:
            if str(error) != str(self.trouble):
                log.warning("last good snapshot stays in force", error=str(error))
            self.trouble = error
            return False
        self.trouble = None
        return taken

    def take(self, publication: Publication, world: World, snapshot: Snapshot) -> bool:
        """Put a snapshot in force, unless that or a newer one is; whether it was."""
        with self._turn:
            if publication.sequence <= self._sequence:
                return False
            views = views_of(self.snapshot)
            self._publish(world, snapshot)
            self.snapshot, self._sequence, self._fetched = snapshot, publication.sequence, {}
        log.info("in force", publication=publication.sequence, snapshot=snapshot.snapshot_id)
        release(views)
        return True

    def take_unpublished(self, world: World, snapshot: Snapshot) -> bool:
        """Put a snapshot in force that nobody published, as long as nothing was; whether it was."""
        with self._turn:
            if self.snapshot is None:
                self._publish(world, snapshot)
            return self.snapshot is None

    def _follow(self) -> bool:
        newest, own = latest_published(self._database), self._sequence
        sequence = 0 if newest is None else newest.sequence
        if sequence < own:
            raise PublicationUnusable(sequence, f"is older than the one in force, {own}")
        if newest is None or sequence == own:
            return False
        if self._refused is not None and self._refused.sequence == sequence:
            raise self._refused.with_traceback(None)
        with undisturbed():
            return self.take(newest, self._world(), self._restored(newest, self.snapshot))

    def _restored(self, newest: Publication, former: Snapshot | None) -> Snapshot:
        """The snapshot of a publication; raises PublicationUnusable and StoreUnavailable."""
        manifest = load_manifest(self._database, newest.snapshot_id)
        if manifest is None:
            raise PublicationUnusable(
                newest.sequence, f"is of snapshot {newest.snapshot_id}, which is not there"
            )
        parts = self._parts(newest, read_manifest(manifest), {} if former is None else former.parts)
        try:
            policy = self._policy(*read_policy_source(manifest, parts), former)
            return restore_snapshot(manifest, parts, policy, former=former, rest=Pauses())
        except (AssayError, ValueError, LookupError, TypeError) as error:
            self._refused = PublicationUnusable(newest.sequence, f"cannot be read: {error}")
            raise self._refused from error

    def _parts(
        self, newest: Publication, head: Manifest, known: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        """Every part of a snapshot: those at hand, and the others from the database, each fetched once."""
        wanted = head.parts - known.keys()
        self._fetched = {name: content for name, content in self._fetched.items() if name in wanted}
        missing, rest = sorted(wanted - self._fetched.keys()), Pauses()
        for start in range(0, len(missing), PIECE):
            self._fetched |= load_parts(self._database, missing[start : start + PIECE])
            rest()
        at_hand = {**known, **self._fetched}
        if lacking := sorted(head.needed - at_hand.keys()):
            raise PublicationUnusable(
                newest.sequence,
                f"lacks {len(lacking)} parts, missing or altered, the first is {lacking[0]}",
            )
        return {name: at_hand[name] for name in head.parts if name in at_hand}

    def _policy(self, source: PolicySource, revision: int, former: Snapshot | None) -> Policy:
        """The compiled policy of a snapshot: the former one's where its rule files are the same."""
        if former is not None and former.policy.digest == source.digest:
            return replace(former.policy, revision=revision)
        policy = self._compile(source)
        policy.warm()
        return replace(policy, revision=revision)


class CatalogWorld:
    """The world as catalogs list it, read again only where they changed."""

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


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector from going through what is made here, which lives long: that would stop everybody."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def views_of(snapshot: Snapshot | None) -> list[object]:
    """All that a snapshot is made of."""
    return [] if snapshot is None else [*snapshot.models.values(), *snapshot.pools.values()]


def release(views: list[object]) -> None:
    """Give views back one after the other: dropped with their snapshot, all at once, they would hold everybody up."""
    rest = Pauses()
    while views:
        views.pop()
        rest()
