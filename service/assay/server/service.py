"""A running service: what its target takes of decider, catalog, log and curator, kept current by a watch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import structlog
from sqlalchemy import Engine

from assay.curator.curator import Curator, PublishedSnapshot
from assay.curator.judging import Judging, RuleFiles, compile_stored
from assay.curator.lease import lease_client
from assay.curator.loop import CuratorLoop
from assay.decision_log.auditor import Auditor
from assay.decision_log.queries import pseudonyms_by_tenant
from assay.decision_log.tenant_pseudonyms import TenantPseudonyms
from assay.decision_log.writer import NO_WITNESSES, Logbook, Witnesses
from assay.engine.errors import AssayError, SnapshotUnavailable, StoreUnavailable
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.world import World
from assay.outcomes.endpoint_health import EndpointHealth
from assay.outcomes.intake import OutcomeIntake
from assay.rpc.audit import Audit, audit_service
from assay.rpc.catalog import NAME as CATALOG, catalog_service
from assay.rpc.evidence import NAME as EVIDENCE, Evidence, evidence_service
from assay.rpc.routing import NAME as ROUTING, routing_service
from assay.rpc.server import Server
from assay.rpc.service import Service
from assay.rpc.view import WorldView
from assay.server.decider import Decider
from assay.server.snapshot_follower import Following, Listed
from assay.server.wiring import (
    clock_of,
    engine_version,
    process_name,
    published_snapshot,
    wall_clock,
)
from assay.store.preferences import PreferenceStore

Target = Literal["all", "decide", "query", "curate"]
DECIDING: Final = ("all", "decide")
QUERYING: Final = ("all", "query")
CURATING: Final = ("all", "curate")
LOGGED: Final = (ROUTING, EVIDENCE)
CURATOR_HEALTH = "assay.curator"
POLICY_HEALTH = "assay.policy"
SNAPSHOT_HEALTH = "assay.snapshot"
STORE_HEALTH = "assay.store"
log = structlog.get_logger("assay.server.service")


class Serving:
    """A server and what stands behind it; serves from construction.

    Decisions and the catalog follow the newest publication. As long as there is none, the target `all` judges without
    memory; a service that is `pinned` to a time does nothing else. The logbook is for who decides, `witnesses` are what
    the log is verified with.
    """

    def __init__(  # noqa: PLR0913 - what a process is made of
        self,
        database: Engine,
        policy: Path,
        listen: Sequence[str],
        pinned: datetime | None,
        logbook: Logbook | None,
        *,
        target: Target = "all",
        witnesses: Witnesses = NO_WITNESSES,
        interval: float = 1.0,
    ) -> None:
        self.logbook = logbook
        self.interval = interval
        self.view: WorldView | None = None
        self.decider = self._decider(database, pinned) if target in DECIDING else None
        self.rules = RuleFiles(policy) if target in CURATING else None
        self.following: Following | None = None
        self.judging: Judging | None = None
        self.running: CuratorLoop | None = None
        if pinned is None and target != "curate":
            listed = Listed(database) if target in QUERYING else World
            self.following = Following(database, compile_stored, listed, self.publish)
            self.following.look()
        if self.rules is not None:
            self._rule(database, self.rules, pinned, judges=target == "all")
        services = self._services(database, target, witnesses)
        self.needing = tuple(
            service.name for service in services if service.name in {*LOGGED, CATALOG}
        )
        self.server = Server(services, listen)
        self.tell_health()

    def _decider(self, database: Engine, pinned: datetime | None) -> Decider:
        return Decider(
            clock=clock_of(pinned),
            journal=self.logbook.journal if self.logbook else None,
            pseudonyms=TenantPseudonyms(pseudonyms_by_tenant(database)),
            engine_version=engine_version(),
        )

    def _rule(
        self, database: Engine, rules: RuleFiles, pinned: datetime | None, *, judges: bool
    ) -> None:
        """Have whatever reads rule files ready; raises where they are faulty and none were ever in force."""
        if pinned is not None or (judges and self.following and self.following.snapshot is None):
            publish = self.publish if self.following is None else self.following.stand_in
            self.judging = Judging(database, rules, publish, pinned=pinned, clock=wall_clock)
            self.judging.start()
        if pinned is None:
            try:
                rules.look()
            except AssayError:
                snapshot = published_snapshot(database)
                if snapshot is None:
                    raise
                rules.policy = snapshot.policy
            curator = Curator(database, rules, wall_clock, self.published)
            self.running = CuratorLoop(
                curator, lease_client(database, process_name(), wall_clock), self.interval
            )

    def _services(
        self, database: Engine, target: Target, witnesses: Witnesses
    ) -> Sequence[Service]:
        """The services of a target."""
        deciding = [] if self.decider is None else [routing_service(self.decider)]
        if self.decider is not None and self.logbook is not None:
            deciding.append(self._evidence(database, self.decider, self.logbook))
        if target not in QUERYING:
            return deciding
        auditor = Auditor(database, engine_version(), compile_stored)
        known = witnesses if self.logbook is None else self.logbook.witnesses
        audit = audit_service(Audit(auditor, wall_clock, known.public_keys, known.heads))
        return [*deciding, catalog_service(self.current_view), audit]

    def _evidence(self, database: Engine, decider: Decider, logbook: Logbook) -> Service:
        """What takes outcomes into the same journal, and has the decider heed them."""
        health = EndpointHealth()
        decider.health = health.now
        reporter = OutcomeIntake(
            decider.current, decider.pseudonyms.get, logbook.journal.append, health.update
        )
        return evidence_service(Evidence(reporter, PreferenceStore(database, wall_clock)))

    def publish(self, world: World, snapshot: Snapshot) -> None:
        """Put a judged world in force for every later call."""
        self.view = WorldView(world, snapshot)
        if self.decider is not None:
            self.decider.publish(snapshot)

    def published(self, new: PublishedSnapshot) -> None:
        """Put in force what this process's own curator has published."""
        if self.following is not None:
            self.following.take(new.publication, new.world, new.snapshot)

    def current_view(self) -> WorldView:
        """The view in force; raises SnapshotUnavailable before the first."""
        if self.view is None:
            raise SnapshotUnavailable("nothing has been published yet")
        return self.view

    def watching(self) -> Watch:
        """Look for changes, and curate, while the context lasts."""
        return Watch(self)

    def stopping(self) -> None:
        """Have another curator go on at once."""
        if self.running is not None:
            self.running.end()

    def look(self) -> None:
        """Take up changes; whatever goes wrong leaves the last good snapshot in force and shows in health."""
        trouble: AssayError | None = None
        if self.following is not None:
            self.following.look()
            trouble = self.following.trouble
        if self.judging is not None and (self.following is None or self.following.snapshot is None):
            try:
                self.judging.refresh()
            except AssayError as error:
                log.warning("last good snapshot stays in force", error=str(error))
                trouble = error
        self.tell_health(trouble)

    def tell_health(self, trouble: AssayError | None = None) -> None:
        """Say of each part whether it is well; decisions and outcomes need a snapshot, and a log that takes them.

        A database that can be read but takes no records counts as away.
        """
        tell = self.server.health.set_serving
        in_force, logging = self.view is not None, self.logbook is None or self.logbook.accepting
        for name in self.needing:
            tell(name, serving=in_force and (logging or name not in LOGGED))
        if self.needing:
            tell("", serving=in_force and logging)
        curating = self.running.trouble if self.running else None
        away = any(isinstance(each, StoreUnavailable) for each in (trouble, curating))
        tell(
            STORE_HEALTH,
            serving=not away and (self.logbook is None or self.logbook.trouble is None),
        )
        if self.rules is not None:
            tell(POLICY_HEALTH, serving=self.rules.error is None)
        if self.following is not None:
            tell(SNAPSHOT_HEALTH, serving=in_force and self.following.trouble is None)
        if self.running is not None:
            tell(CURATOR_HEALTH, serving=curating is None)


class Watch:
    """A thread that looks for changes until its context ends, and the curator beside it, if there is one."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.curating: AbstractContextManager[object] = serving.running or nullcontext()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, name="assay-watch", daemon=True)

    def __enter__(self) -> None:
        """Start looking."""
        self.thread.start()
        self.curating.__enter__()

    def __exit__(self, *_: object) -> None:
        """Stop looking, after a look that is under way."""
        self.ended.set()
        self.curating.__exit__(None, None, None)
        self.thread.join()

    def run(self) -> None:
        """Look until told to end; an unforeseen error is logged and does not end it."""
        while not self.ended.wait(self.serving.interval):
            try:
                self.serving.look()
            except Exception:
                log.exception("looking for changes failed")
