"""A running service: judging, decider and gRPC server, and the watch that takes up changes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import structlog
from sqlalchemy import Engine

from assay.audit.auditor import Auditor
from assay.decider import Decider
from assay.engine.catalog import World
from assay.engine.errors import AssayError
from assay.engine.snapshot import Snapshot
from assay.judging import Judging, compiled
from assay.logbook import Logbook
from assay.rpc.audit import Audit, audit_service
from assay.rpc.catalog import catalog_service
from assay.rpc.routing import routing_service
from assay.rpc.server import Server
from assay.rpc.view import WorldView
from assay.store.audit_tenants import pseudonyms_by_tenant
from assay.wiring import engine_version, wall_clock

POLICY_HEALTH = "assay.policy"
STORE_HEALTH = "assay.store"
log = structlog.get_logger("assay.serving")


class Serving:
    """A server and the judging behind it; serves from construction."""

    def __init__(
        self, engine: Engine, policy: Path, listen: Sequence[str], pinned: datetime | None, logbook: Logbook
    ) -> None:
        self.logbook = logbook
        self.decider = Decider(
            clock=(lambda: pinned) if pinned else wall_clock,
            journal=logbook.journal,
            pseudonyms=pseudonyms_by_tenant(engine),
            engine_version=engine_version(),
        )
        self.judging = Judging(engine, policy, self.publish, pinned=pinned, clock=wall_clock)
        self.judging.start()
        routing = routing_service(self.decider)
        auditor = Auditor(engine, engine_version(), compiled)
        audit = audit_service(Audit(auditor, wall_clock, logbook.public_keys, logbook.heads))
        self.routing = routing.name
        self.server = Server((routing, catalog_service(lambda: self.view), audit), listen)
        self.tell_health()

    def publish(self, world: World, snapshot: Snapshot) -> None:
        """Put a judged world in force for every later call."""
        self.view = WorldView(world, snapshot)
        self.decider.publish(snapshot)

    def watching(self, interval: float) -> Watch:
        """Look for changes every `interval` seconds while the context lasts."""
        return Watch(self, interval)

    def look(self) -> None:
        """Take up changes; whatever goes wrong leaves the last good snapshot in force and shows in health."""
        try:
            self.judging.refresh()
            store = True
        except AssayError as error:
            log.warning("last good snapshot stays in force", error=str(error))
            store = False
        self.tell_health(store=store)

    def tell_health(self, *, store: bool = True) -> None:
        """Say whether decisions can be logged, without which none is answered, and of rule files and database.

        A database that can be read but takes no records counts as away.
        """
        accepting = self.logbook.accepting
        for name in ("", self.routing):
            self.server.health.set_serving(name, serving=accepting)
        self.server.health.set_serving(POLICY_HEALTH, serving=self.judging.policy_error is None)
        self.server.health.set_serving(STORE_HEALTH, serving=store and self.logbook.trouble is None)


class Watch:
    """A thread that looks for changes until its context ends."""

    def __init__(self, serving: Serving, interval: float) -> None:
        self.serving = serving
        self.interval = interval
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, name="assay-watch", daemon=True)

    def __enter__(self) -> None:
        """Start looking."""
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        """Stop looking, after a look that is under way."""
        self.ended.set()
        self.thread.join()

    def run(self) -> None:
        """Look until told to end; an unforeseen error is logged and does not end it."""
        while not self.ended.wait(self.interval):
            try:
                self.serving.look()
            except Exception:
                log.exception("looking for changes failed")
