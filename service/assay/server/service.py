"""The composition root: build one service from its settings.

How it works
------------
`assay serve`, `assay decide --record`, the demo and tests build a `Service`. Its roles select the
parts:

- `follow`: a `SnapshotFollower` activates every newer publication.
- `judge`: until there is a publication, snapshots are judged here, without memory, and stored
  unpublished.
- `decide`: requests and outcomes are journaled, and the journal is shipped into the database.
- `query`: the catalog of the active snapshot, and the auditor of the decision log.
- `curate`: a curator judges with memory and publishes while it holds the lease.

A built service can decide at once. It stays current only if something calls `refresh`, and
curates only inside its `curator_loop`; `assay.server.frontend` does both and adds gRPC.

`activate` swaps two references, the decider's snapshot and the catalog view. Calls that are
running keep what they read first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, Self

import structlog
from sqlalchemy import Engine

from assay.curator.clock import curator_clock, lease_clock
from assay.curator.curator import Curator, JudgedSnapshot
from assay.curator.lease import RowLeaseClient
from assay.curator.loop import CuratorLoop
from assay.decision_log.auditor import Auditor
from assay.decision_log.queries import pseudonyms_by_tenant
from assay.decision_log.record import REMEMBERED, TenantPseudonyms, to_micros
from assay.decision_log.writer import (
    NO_VERIFICATION_INPUTS,
    DecisionLogWriter,
    Mode,
    read_verification_inputs,
)
from assay.engine.errors import AssayError, SnapshotUnavailable
from assay.engine.pool.report import tenants_set_aside
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.world import World
from assay.journal.writer import Journal
from assay.outcomes.checks import BatchResult
from assay.outcomes.endpoint_health import EndpointHealth
from assay.outcomes.intake import OutcomeIntake, OutcomeSubmission
from assay.outcomes.outcome import OutcomeGroup
from assay.rpc.audit import AuditServicer, audit_service
from assay.rpc.catalog import CatalogView, catalog_service
from assay.rpc.evidence import EvidenceServicer, evidence_service
from assay.rpc.routing import routing_service
from assay.rpc.server import GrpcService
from assay.rule_files.compile import RuleDirectory, compile_stored
from assay.server.database import published_snapshot
from assay.server.decider import Decider
from assay.server.settings import (
    Clock,
    engine_version,
    journal_path,
    migrations_dir,
    policy_path,
    process_name,
    wall_clock,
)
from assay.server.snapshot_copy import SnapshotCopy
from assay.server.snapshot_follower import CatalogWorld, SnapshotFollower
from assay.store.database import DatabaseUnreachable, end_waits
from assay.store.preferences import PreferenceStore
from assay.store.schema_version import require_current

Role = Literal["follow", "judge", "decide", "query", "curate"]
Target = Literal["all", "decide", "query", "curate"]

ROLES: Final[dict[Target, frozenset[Role]]] = {
    "all": frozenset({"follow", "judge", "decide", "query", "curate"}),
    "decide": frozenset({"follow", "decide"}),
    "query": frozenset({"follow", "query"}),
    "curate": frozenset({"curate"}),
}
PINNED_ROLES: Final[frozenset[Role]] = frozenset({"judge", "decide", "query"})
HURRY_S: Final = 2.0
"""How long the database may keep a process waiting that stops."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """The settings of one service.

    A service that is `pinned` judges as of that time, decides at its prices, and neither follows
    nor curates. Without a `journal` directory, decisions are not logged and outcomes are not
    accepted. `on_outcomes` is called with every accepted batch, after endpoint health is updated.
    With `checks_clock`, the curator compares the clock with others before it closes an hour.
    """

    database: Engine
    policy: Path
    roles: frozenset[Role] = ROLES["all"]
    journal: Path | None = None
    journal_mode: Mode = "write"
    pinned: datetime | None = None
    poll_interval: float = 1.0
    clock: Clock = wall_clock
    curator_clock: Clock | None = None
    checks_clock: bool = False
    on_outcomes: Callable[[Sequence[OutcomeGroup]], None] = lambda _groups: None


class Service:
    """One process's parts, ready to decide. As a context manager it closes itself."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.roles = settings.roles & PINNED_ROLES if settings.pinned else settings.roles
        self.settings = settings
        self.view: CatalogView | None = None
        self.set_aside: Mapping[str, frozenset[str]] = {}
        self.judging: Curator | None = None
        self.curator_loop: CuratorLoop | None = None
        self.intake: OutcomeIntake | None = None
        self.log_writer: DecisionLogWriter | None = None
        self._copy: SnapshotCopy | None = None
        self.refresh_error: AssayError | None = None
        self._is_known = True  # the database answered, at this Assay's migration
        if settings.journal is not None and "decide" in self.roles:
            database, mode = settings.database, settings.journal_mode
            self.log_writer = DecisionLogWriter(settings.journal, database, mode)
            if "follow" in self.roles:
                self._copy = SnapshotCopy(settings.journal)
        try:
            self.decider = self._decider()
            if self.log_writer is not None:
                self.intake = self._intake(self.log_writer.journal)
            self.rule_files = RuleDirectory(settings.policy)
            self.follower: SnapshotFollower | None = None
            if "follow" in self.roles:
                world = CatalogWorld(settings.database).load if "query" in self.roles else World
                self.follower = SnapshotFollower(
                    settings.database, compile_stored, world, self.activate, copy=self._copy
                )
                self._follow_or_resume(self.follower)
            if "judge" in self.roles and (self.follower is None or self.follower.snapshot is None):
                self._judge()
            if "curate" in self.roles:
                self._curate()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ship the journal as far as possible within seconds, and release the files."""
        if self.curator_loop is not None:
            self.curator_loop.end()
        if self.log_writer is not None:
            self.log_writer.close()

    def _decider(self) -> Decider:
        pinned = self.settings.pinned
        names: dict[str, str] = {}
        if self.log_writer is not None:
            try:
                names = pseudonyms_by_tenant(self.settings.database, REMEMBERED)
            except DatabaseUnreachable:
                if self._copy is None or not self._copy.exists:
                    raise
                self._is_known = False
        return Decider(
            clock=(lambda: pinned) if pinned else self.settings.clock,
            append=self.log_writer.journal.append if self.log_writer else None,
            pseudonyms=TenantPseudonyms(names),
            engine_version=engine_version(),
        )

    def _follow_or_resume(self, follower: SnapshotFollower) -> None:
        """Take the newest publication; if there is trouble with it, start from the copy."""
        if self._is_known:
            follower.follow()
        if follower.snapshot is None and (follower.trouble is not None or not self._is_known):
            is_resumed = follower.resume()
            log.warning("database not usable", resumed=is_resumed, error=str(follower.trouble))

    def _meet_database(self) -> None:
        """Check the database and read the tenants' pseudonyms, after a start without it.

        Tenants that were seen meanwhile have two; later decisions use the older one.
        """
        require_current(self.settings.database, migrations_dir())
        self.decider.pseudonyms.learn(pseudonyms_by_tenant(self.settings.database, REMEMBERED))
        self._is_known = True

    def _judge(self) -> None:
        """Judge for the first time; raises if the rule files have faults."""
        self.rule_files.require_valid()
        activate = self.activate if self.follower is None else self.follower.take_unpublished
        self.judging = Curator(
            self.settings.database,
            self.rule_files,
            self._curator_clock,
            lambda new: activate(new.world, new.snapshot),
        )
        self.judging.judge_if_changed(self.settings.pinned)

    def _curate(self) -> None:
        """Build the curator; raises if the rule files have faults and no policy was ever active."""
        database, clock = self.settings.database, self._curator_clock
        try:
            self.rule_files.refresh()
        except AssayError:
            snapshot = published_snapshot(database)
            if snapshot is None:
                raise
            self.rule_files.policy = snapshot.policy
        trusted = curator_clock(clock, database) if self.settings.checks_clock else clock
        curator = Curator(database, self.rule_files, trusted, self._take)
        lease = RowLeaseClient(database, process_name(), lease_clock(clock, database))
        self.curator_loop = CuratorLoop(curator, lease, self.settings.poll_interval)

    @property
    def _curator_clock(self) -> Clock:
        return self.settings.curator_clock or self.settings.clock

    def _take(self, new: JudgedSnapshot) -> None:
        """Activate a snapshot that this service's own curator has published."""
        if self.follower is not None and new.publication is not None:
            self.follower.take(new.publication, new.world, new.snapshot)

    def activate(self, world: World, snapshot: Snapshot) -> None:
        """Answer every later call from this snapshot."""
        self.view = CatalogView(world, snapshot)
        self.decider.publish(snapshot)
        aside = tenants_set_aside(snapshot)
        names = self.decider.pseudonyms.names() if aside else {}
        self.set_aside = {
            model: frozenset(names[each] for each in pseudonyms if each in names)
            for model, pseudonyms in aside.items()
        }

    def active_view(self) -> CatalogView:
        """Return the active catalog view; raises SnapshotUnavailable before the first."""
        if self.view is None:
            raise SnapshotUnavailable("nothing has been published yet")
        return self.view

    def refresh(self) -> AssayError | None:
        """Activate newer snapshots; return the error that kept the last one active, if any."""
        self.refresh_error = self._refresh()
        return self.refresh_error

    def _refresh(self) -> AssayError | None:
        error: AssayError | None = None
        if not self._is_known:
            try:
                self._meet_database()
            except AssayError as failure:
                if self.follower is not None:
                    self.follower.trouble = failure
                return failure
        if self.follower is not None:
            self.follower.follow()
            error = self.follower.trouble
        if self.judging is not None and (self.follower is None or self.follower.snapshot is None):
            try:
                self.judging.judge_if_changed(self.settings.pinned)
            except AssayError as failure:
                if str(failure) != str(self.refresh_error):
                    log.warning("last valid snapshot stays active", error=str(failure))
                error = failure
        return error

    def hurry(self) -> None:
        """Let nothing wait long for the database any more, because the process stops."""
        end_waits(self.settings.database, HURRY_S)

    def curate_once(self) -> None:
        """Close the hours that are due, for callers that do not run the curator loop."""
        loop = self.curator_loop
        if loop is None:
            raise RuntimeError("this service has no curator")
        loop.holder.refresh()
        if loop.holder.lease is None:
            raise RuntimeError("another curator holds the lease")
        loop.work()
        if loop.trouble is not None:
            raise loop.trouble

    def report(self, submission: OutcomeSubmission) -> BatchResult:
        """Accept a batch of outcomes, for callers in this process."""
        if self.intake is None:
            raise RuntimeError("this service has no journal")
        return self.intake.take(submission)

    def drain_log(self) -> None:
        """Ship every journaled record, or as many as possible within seconds."""
        if self.log_writer is not None:
            self.log_writer.drain()

    def uncounted_outcomes(self) -> Counter[str]:
        """Return how many outcomes of decisions moved nothing, by kind, since the start."""
        found: Counter[str] = Counter()
        if self.log_writer is not None:
            found += self.log_writer.sink.uncounted
        if self.curator_loop is not None:
            found += self.curator_loop.curator.uncounted
        return found

    @cached_property
    def services(self) -> list[GrpcService]:
        """The gRPC services of the roles."""
        services: list[GrpcService] = []
        if "decide" in self.roles:
            services.append(routing_service(self.decider.decide, self.decider.explain))
            if self.intake is not None:
                preferences = PreferenceStore(self.settings.database, self.settings.clock)
                servicer = EvidenceServicer(self.intake, preferences, lambda: self.set_aside)
                services.append(evidence_service(servicer))
        if "query" in self.roles:
            services += [catalog_service(self.active_view), self._audit_service()]
        return services

    def _intake(self, journal: Journal) -> OutcomeIntake:
        """Build the intake of outcomes, which demotes failing endpoints in this decider."""
        health, settings = EndpointHealth(), self.settings
        self.decider.health = health.now

        def accepted(groups: Sequence[OutcomeGroup], now_us: int) -> None:
            health.update(groups, now_us)
            settings.on_outcomes(groups)

        return OutcomeIntake(
            self.decider.current,
            self.decider.pseudonyms.get,
            journal.append,
            accepted,
            clock_us=lambda: to_micros(settings.clock()),
        )

    def _audit_service(self) -> GrpcService:
        settings = self.settings
        auditor = Auditor(settings.database, engine_version(), compile_stored)
        witnesses = NO_VERIFICATION_INPUTS
        if self.log_writer is not None:
            witnesses = self.log_writer.verification_inputs
        elif settings.journal is not None:
            witnesses = read_verification_inputs(settings.journal)
        audit = AuditServicer(auditor, settings.clock, witnesses.public_keys, witnesses.heads)
        return audit_service(audit)


@contextmanager
def recording_decider(
    database: Engine, policy: Path | None, now: datetime | None, journal: Path | None
) -> Iterator[Decider]:
    """Yield a decider whose decisions are in the log at the end, with their policy and snapshot.

    If the database becomes unavailable meanwhile, they stay in the journal, and the next process
    ships them.
    """
    published = published_snapshot(database) if policy is None and now is None else None
    settings = ServiceSettings(
        database=database,
        policy=policy_path(policy),
        roles=frozenset({"decide"} if published else {"decide", "judge"}),
        journal=journal_path(journal),
        pinned=now,
    )
    with Service(settings) as service:
        if published is not None:
            service.decider.publish(published)
        yield service.decider
