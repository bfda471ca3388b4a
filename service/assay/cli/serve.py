"""`assay serve`: the gRPC server of a target, and the curator."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Annotated

import structlog
from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, JournalDir, Now, PolicyDir, instant
from assay.cli.output import configure_logs
from assay.decision_log.writer import Mode
from assay.engine.errors import InvalidField
from assay.server.database import open_current_database
from assay.server.frontend import GrpcFrontend
from assay.server.metrics import metrics_at
from assay.server.service import ROLES, Service, ServiceSettings, Target
from assay.server.settings import journal_path, policy_path

log = structlog.get_logger("assay.serve")

Listen = Annotated[
    list[str] | None,
    Parameter(help="Where to listen: HOST:PORT on loopback or unix:PATH; may be repeated."),
]
Interval = Annotated[
    float, Parameter(help="Seconds between looks for what was published, or has changed.")
]
JournalMode = Annotated[
    Mode,
    Parameter(
        help="`write` survives the end of the process, `sync` a loss of power: every answer waits for the disk."
    ),
]
Targets = Annotated[
    Target,
    Parameter(
        help="`decide` answers from published snapshots, `query` shows catalog and log, `curate` judges and publishes; "
        "of several that curate one works. `all` is all of it."
    ),
]
Metrics = Annotated[
    str | None, Parameter(help="Where to answer Prometheus over HTTP: HOST:PORT on loopback.")
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
    """Answer Decide, BatchDecide and Explain, and the catalog, until SIGTERM or Ctrl-C.

    Example: assay serve

    Example: assay serve --metrics 127.0.0.1:9464

    Example: assay serve --listen unix:/run/assay.sock --listen 127.0.0.1:7333 --policy ./policy

    Example: assay serve --target decide --database postgresql://assay@db/assay
    """
    if not (math.isfinite(poll_interval) and poll_interval > 0):
        raise InvalidField("--poll-interval", poll_interval, "a number of seconds above zero")
    require_used(target, policy=policy, now=now, journal=journal, metrics=metrics)
    configure_logs(logging.INFO)
    pinned = instant("--now", now)
    with open_current_database(url) as database:
        settings = ServiceSettings(
            database=database,
            policy=policy_path(policy),
            roles=ROLES[target],
            journal=journal_path(journal),
            journal_mode=journal_mode,
            pinned=pinned,
            poll_interval=poll_interval,
        )
        with Service(settings) as service:
            frontend = GrpcFrontend(service, listen or ["127.0.0.1:7333"])
            with frontend, metrics_at(metrics, service.log_writer) as scraped:
                log.info(
                    "serving",
                    target=target,
                    listen=list(frontend.addresses),
                    metrics=scraped,
                    pinned=str(pinned or "no"),
                )
                frontend.serve()
    log.info("stopped")


def require_used(
    target: Target,
    *,
    policy: Path | None,
    now: str | None,
    journal: Path | None,
    metrics: str | None,
) -> None:
    """Refuse options that a target has no use for."""
    if now is not None and target != "all":
        raise InvalidField(
            "--now", now, f"to be used with --target {target}, which follows what is published"
        )
    if policy is not None and "curate" not in ROLES[target]:
        raise InvalidField(
            "--policy",
            str(policy),
            f"to be used with --target {target}: who curates reads rule files",
        )
    if journal is not None and target == "curate":
        raise InvalidField(
            "--journal", str(journal), "to be used with --target curate, which decides nothing"
        )
    if metrics is not None and "decide" not in ROLES[target]:
        raise InvalidField(
            "--metrics", metrics, f"to be used with --target {target}: they tell of the journal"
        )
