"""`assay serve`: the gRPC server, judging at start and on every change."""

from __future__ import annotations

import logging
import math
from typing import Annotated

import structlog
from cyclopts import Parameter

from assay.cli.logs import configure_logs
from assay.cli.options import Database, JournalDir, Now, PolicyDir, instant
from assay.engine.errors import InvalidField
from assay.logbook import Logbook, Mode
from assay.metrics import metrics_at
from assay.serving import Serving
from assay.wiring import journal_path, open_database, policy_path

log = structlog.get_logger("assay.serve")

Listen = Annotated[
    list[str] | None, Parameter(help="Where to listen: HOST:PORT on loopback or unix:PATH; may be repeated.")
]
Interval = Annotated[float, Parameter(help="Seconds between looks for a changed catalog, evidence or policy.")]
JournalMode = Annotated[
    Mode,
    Parameter(help="`write` survives the end of the process, `sync` a loss of power: every answer waits for the disk."),
]
Metrics = Annotated[str | None, Parameter(help="Where to answer Prometheus over HTTP: HOST:PORT on loopback.")]


def serve_command(  # noqa: PLR0913 - one option per setting
    *,
    listen: Listen = None,
    database: Database = None,
    policy: PolicyDir = None,
    now: Now = None,
    poll_interval: Interval = 1.0,
    journal: JournalDir = None,
    journal_mode: JournalMode = "write",
    metrics: Metrics = None,
) -> None:
    """Answer Decide, BatchDecide and Explain, and the catalog, until SIGTERM or Ctrl-C.

    Example: assay serve

    Example: assay serve --metrics 127.0.0.1:9464

    Example: assay serve --listen unix:/run/assay.sock --listen 127.0.0.1:7333 --policy ./policy
    """
    if not (math.isfinite(poll_interval) and poll_interval > 0):
        raise InvalidField("--poll-interval", poll_interval, "a number of seconds above zero")
    configure_logs(logging.INFO)
    pinned = instant("--now", now)
    with open_database(database) as engine:
        logbook = Logbook(journal_path(journal), engine, journal_mode)
        try:
            running = Serving(engine, policy_path(policy), listen or ["127.0.0.1:7333"], pinned, logbook)
            with running.watching(poll_interval), metrics_at(metrics, logbook) as scraped:
                log.info("serving", listen=list(running.server.addresses), metrics=scraped, pinned=str(pinned or "no"))
                running.server.run()
        finally:
            logbook.close()
    log.info("stopped")
