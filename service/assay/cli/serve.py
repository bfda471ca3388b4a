"""`assay serve`: the gRPC services of a target, and the curator."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Final

import structlog
from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, JournalDir, Now, PolicyDir, instant
from assay.cli.output import configure_logs
from assay.decision_log.writer import Mode
from assay.engine.errors import InvalidField
from assay.server.database import open_for_serving
from assay.server.frontend import GrpcFrontend
from assay.server.metrics import metrics_at
from assay.server.service import ROLES, Service, ServiceSettings, Target
from assay.server.settings import journal_path, policy_path
from assay.server.snapshot_copy import SnapshotCopy

STOP_LIMIT_S: Final = 12.0
log = structlog.get_logger("assay.serve")

Listen = Annotated[
    list[str] | None,
    Parameter(
        help="Listen here: HOST:PORT on loopback, or unix:PATH; may be repeated. "
        "Default: 127.0.0.1:7333."
    ),
]
Interval = Annotated[
    float,
    Parameter(help="How often to check for new snapshots and changed rule files, in seconds."),
]
JournalMode = Annotated[
    Mode,
    Parameter(
        help="When a decision counts as logged: `write` survives a crash of the process, `sync` "
        "also a power failure, but every answer waits for the disk."
    ),
]
Targets = Annotated[
    Target,
    Parameter(
        help="`decide` serves RoutingService and EvidenceService from published snapshots. "
        "`query` serves CatalogService and AuditService. `curate` judges and publishes; several "
        "may run, and one at a time is active. `all` does all of this."
    ),
]
Metrics = Annotated[
    str | None, Parameter(help="Serve Prometheus metrics over HTTP: HOST:PORT on loopback.")
]


def serve_command(  # noqa: PLR0913 - one option per setting
    *,
    target: Targets = "all",
    listen: Listen = None,
    url: DatabaseUrl = None,
    policy: PolicyDir = None,
    now: Now = None,
    poll_interval: Interval = 1.0,
    journal: JournalDir = None,
    journal_mode: JournalMode = "write",
    metrics: Metrics = None,
) -> None:
    """Serve the gRPC API and curate pools, until SIGTERM or Ctrl-C.

    Serves RoutingService, EvidenceService, CatalogService and AuditService, with health and
    reflection. Also curates: at the end of each hour it judges every endpoint and publishes the
    pools. Decisions and outcomes are journaled on local disk and shipped into the database.

    Exit codes: 0 stopped by a signal; 1 the database, journal or address cannot be used; 2 invalid
    options; 3 the rule files have faults, and no earlier policy was ever active.

    Example: assay serve

    Example: assay serve --metrics 127.0.0.1:9464

    Example: assay serve --listen unix:/run/assay.sock --listen 127.0.0.1:7333 --policy ./policy

    Example: assay serve --target decide --database postgresql://assay@db/assay
    """
    if not (math.isfinite(poll_interval) and poll_interval > 0):
        raise InvalidField("--poll-interval", poll_interval, "a number of seconds greater than 0")
    roles = ROLES[target]
    for name, value, is_used, why in (
        ("--now", now, target == "all", "only follows published snapshots"),
        ("--policy", policy, "curate" in roles, "reads no rule files"),
        ("--journal", journal, target != "curate", "makes no decisions"),
    ):
        if value is not None and not is_used:
            raise InvalidField(name, str(value), f"allowed with --target {target}, which {why}")
    configure_logs(logging.INFO)
    pinned = instant("--now", now)
    directory = journal_path(journal)
    may_be_away = "decide" in roles and pinned is None and SnapshotCopy(directory).exists
    with open_for_serving(url, may_be_away=may_be_away) as database:
        settings = ServiceSettings(
            database=database,
            policy=policy_path(policy),
            roles=roles,
            journal=directory,
            journal_mode=journal_mode,
            pinned=pinned,
            poll_interval=poll_interval,
            checks_clock=True,
        )
        with exit_in_time() as hurry, Service(settings) as service:
            frontend = GrpcFrontend(service, listen or ["127.0.0.1:7333"])
            scraping = metrics_at(metrics, service, frontend.health)
            with scraping as scraped, frontend, stop_signal() as wait:
                log.info(
                    "serving",
                    target=target,
                    listen=list(frontend.addresses),
                    metrics=scraped,
                    pinned=str(pinned or "no"),
                )
                wait()
                hurry()
    log.info("stopped")


@contextmanager
def exit_in_time() -> Iterator[Callable[[], None]]:
    """Yield a function that ends the process after STOP_LIMIT_S, unless the context ends before.

    Whatever hangs then, a disk or a database, keeps nothing from being shipped later: records are
    in the journal.
    """

    def leave() -> None:
        log.error("stopping took too long; records stay in the journal", limit_s=STOP_LIMIT_S)
        os._exit(1)

    timer = threading.Timer(STOP_LIMIT_S, leave)
    timer.daemon = True
    try:
        yield timer.start
    finally:
        timer.cancel()


@contextmanager
def stop_signal() -> Iterator[Callable[[], object]]:
    """Yield a function that waits for SIGTERM or SIGINT, on the main thread.

    A signal counts from the start of the context. A second one, after its end, ends the process.
    """
    # The signal writes a byte to a socket. A flag set by a Python handler would be missed if the
    # signal came just before the wait. The handler keeps it from ending the process, so that the
    # socket has to be there first.
    waiting, woken = socket.socketpair()
    with waiting, woken:
        woken.settimeout(0.0)
        wakeup = signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        before = {
            number: signal.signal(number, lambda _number, _frame: None)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield partial(waiting.recv, 1)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
