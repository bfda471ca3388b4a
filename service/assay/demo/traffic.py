"""The demo's second act: pools earned, kept and lost on simulated traffic, at the real catalog's endpoints.

Two days pass hour by hour under a clock of the demo's own. Traffic is drawn by a seed and goes the way of real
outcomes: reporter, journal, shipper, counters, curator. Each endpoint's true accuracy is never seen by the service.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import Engine

from assay.curator.curator import Curator, PublishedSnapshot
from assay.curator.judging import RuleFiles, judged
from assay.curator.lease import RowLeaseClient
from assay.decision_log.record import micros
from assay.decision_log.writer import Logbook
from assay.demo.questions import CATALOGS, DATA
from assay.engine.pool.report import pool_report
from assay.engine.snapshot.pool_memory import UNKNOWN, PoolChange
from assay.importers.catalog_csv import read_catalog
from assay.outcomes.intake import OutcomeIntake, OutcomeSubmission
from assay.outcomes.outcome import Outcome, OutcomeReport, ToolUse
from assay.server.decider import Decider
from assay.server.settings import policy_dir
from assay.server.wiring import open_current_database
from assay.store.imports.catalog import apply_catalog
from assay.store.pools import pool_changes

MODELS: Final = (
    "moonshotai/kimi-k2-0905",
    "deepseek/deepseek-v3.1-terminus",
    "z-ai/glm-4.6",
    "openai/gpt-oss-120b",
    "qwen/qwen3-coder",
)
BEGIN: Final = datetime(2026, 7, 4, tzinfo=UTC)
HOURS, WORSE_AFTER = 48, 24
SHOWN: Final = (1, 3, 24, 26, 48)
ACCURACIES: Final = (0.99, 0.985, 0.94, 0.98, 0.995, 0.90, 0.97)
GOOD, WORSE = 0.985, 0.90
PROPENSITY = 0.6
TENANTS = tuple(f"simulated-{number}" for number in range(5))
REQUESTS = 60  # of a tenant at an endpoint in an hour
SEED = 7
SETTLED = timedelta(minutes=1)


@dataclass(slots=True)
class Truth:
    """What an endpoint is like: the share of its tool-call requests without a bad call."""

    endpoint_id: str
    accuracy: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What two days came to: states by endpoint at the hours shown, and every change of the pools, oldest first."""

    truths: Mapping[str, float]
    fallen: str
    states: Mapping[int, Mapping[str, str]]
    changes: Sequence[PoolChange]

    @property
    def worse_at(self) -> datetime:
        """When one endpoint turned bad."""
        return BEGIN + timedelta(hours=WORSE_AFTER)

    @property
    def eviction(self) -> PoolChange | None:
        """How the endpoint that turned bad lost its place."""
        return next(
            (c for c in self.changes if c.endpoint_id == self.fallen and c.after == "evicted"), None
        )


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The time it stands at."""
        return self.now

    def us(self) -> int:
        """The same in microseconds since 1970."""
        return micros(self.now)


def two_days() -> Seen:
    """Let two days of simulated traffic pass, with one endpoint turning bad half way."""
    with (
        TemporaryDirectory(prefix="assay-demo-") as folder,
        open_current_database(f"sqlite:///{Path(folder) / 'traffic.db'}") as database,
        logging(Path(folder), database) as logbook,
    ):
        for name in CATALOGS:
            load(database, name)
        return lived_through(database, logbook)


@contextmanager
def logging(folder: Path, database: Engine) -> Iterator[Logbook]:
    """A journal in the folder, closed at the end."""
    logbook = Logbook(folder / "journal", database)
    try:
        yield logbook
    finally:
        logbook.close()


def load(database: Engine, name: str) -> None:
    """Import what a catalog says of the five models."""
    document = read_catalog((DATA / "catalog_facts" / f"{name}.csv").read_bytes(), source=name)
    endpoints = tuple(e for e in document.endpoints if e.model in MODELS)
    models = tuple(m for m in document.models if m.model in MODELS)
    apply_catalog(database, replace(document, endpoints=endpoints, models=models), now=BEGIN)


def lived_through(database: Engine, logbook: Logbook) -> Seen:
    """Report each hour's traffic, close the hour, and look at the pools."""
    clock, draw = Clock(BEGIN), random.Random(SEED)  # noqa: S311 - simulated traffic is to be the same every time
    decider = Decider(clock=clock, journal=logbook.journal)
    decider.publish(judged(database, policy_dir(), BEGIN)[1])
    reporter = OutcomeIntake(
        decider.current,
        decider.pseudonyms.get,
        logbook.journal.append,
        lambda _groups, _now: None,
        clock_us=clock.us,
    )
    truths = truths_of(decider)
    accuracies = {t.endpoint_id: t.accuracy for t in truths}
    fallen = next(t for t in truths if t.endpoint_id.startswith("openai/") and t.accuracy == GOOD)

    def took_effect(new: PublishedSnapshot) -> None:
        decider.publish(new.snapshot)

    curator = Curator(database, RuleFiles(policy_dir()), clock, took_effect)
    states: dict[int, Mapping[str, str]] = {}
    leasing = RowLeaseClient(database, "demo", clock)
    for hour in range(1, HOURS + 1):
        if hour == WORSE_AFTER + 1:
            fallen.accuracy = WORSE
        end = BEGIN + timedelta(hours=hour)
        outcomes = list(traffic(truths, end, draw))
        clock.now = end + SETTLED
        reporter.take(OutcomeSubmission("simulated", f"hour-{hour}", len(outcomes), outcomes))
        logbook.drain()
        lease = leasing.acquire()
        if lease is None:
            raise RuntimeError("another curator works on the demo's own database")
        curator.work(lease, lambda: True)
        leasing.release(lease)
        if hour in SHOWN:
            states[hour] = states_of(decider)
    changes = [change for model in MODELS for change in pool_changes(database, "exacto", model)]
    return Seen(accuracies, fallen.endpoint_id, states, sorted(changes, key=lambda c: c.at))


def truths_of(decider: Decider) -> list[Truth]:
    """Give every endpoint of the five models a true accuracy."""
    views = [decider.current().models[model] for model in MODELS]
    return [
        Truth(endpoint_id, ACCURACIES[(place + turn) % len(ACCURACIES)])
        for turn, view in enumerate(views)
        for place, endpoint_id in enumerate(view.ids)
    ]


def traffic(truths: Sequence[Truth], end: datetime, draw: random.Random) -> Iterator[OutcomeReport]:
    """One hour's requests with tools, as a gateway reports them in sums."""
    at_us = micros(end) - 1
    for truth in truths:
        for tenant in TENANTS:
            calls = sum(draw.random() < PROPENSITY for _ in range(REQUESTS))
            errored = sum(draw.random() >= truth.accuracy for _ in range(calls))
            use = ToolUse(
                2,
                tool_call_requests=calls,
                errored_requests=errored,
                tool_calls=calls,
                schema_mismatch=errored,
            )
            yield OutcomeReport(
                truth.endpoint_id, tenant, Outcome(at_us, "answered", requests=REQUESTS, tools=use)
            )


def states_of(decider: Decider) -> Mapping[str, str]:
    """Where every endpoint stands with its pool now."""
    reports = (pool_report(decider.current(), f"{model}:exacto") for model in MODELS)
    return {
        j.verdict.endpoint_id: j.state or UNKNOWN
        for report in reports
        for j in (*report.members, *report.others)
    }
