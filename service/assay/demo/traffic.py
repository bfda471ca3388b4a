"""Second part of the demo: simulated traffic moves endpoints in and out of pools.

Two days pass hour by hour on a clock of the demo's own. Seeded traffic takes the way of real
outcomes: intake, journal, shipper, counters, curator. The service never sees an endpoint's true
accuracy.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import Engine

from assay.decision_log.record import to_micros
from assay.demo.questions import CATALOGS, DATA
from assay.engine.pool.report import pool_report
from assay.engine.snapshot.pool_memory import UNKNOWN, PoolChange
from assay.importers.catalog_csv import read_catalog
from assay.outcomes.intake import OutcomeSubmission
from assay.outcomes.outcome import Outcome, OutcomeReport, ToolUse
from assay.server.database import open_current_database
from assay.server.decider import Decider
from assay.server.service import Service, ServiceSettings
from assay.server.settings import policy_dir
from assay.store.imports.catalog import apply_catalog
from assay.store.pools import list_pool_changes

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
TENANTS = tuple(f"simulated-{number}" for number in range(4))  # five would have to earn trust
REQUESTS = 75  # of a tenant at an endpoint in an hour
SEED = 7
SETTLING = timedelta(minutes=1)


@dataclass(slots=True)
class SimulatedEndpoint:
    """An endpoint and its true accuracy: the share of tool-call requests without invalid calls."""

    endpoint_id: str
    accuracy: float


@dataclass(frozen=True, slots=True)
class TrafficSimulation:
    """Pool states by endpoint at some hours, and every change of the pools, oldest first."""

    accuracies: Mapping[str, float]
    worsening: str
    states: Mapping[int, Mapping[str, str]]
    changes: Sequence[PoolChange]

    @property
    def worse_at(self) -> datetime:
        """The time at which one endpoint becomes worse."""
        return BEGIN + timedelta(hours=WORSE_AFTER)

    @property
    def eviction(self) -> PoolChange | None:
        """The eviction of the endpoint that became worse."""
        own = (change for change in self.changes if change.endpoint_id == self.worsening)
        return next((change for change in own if change.after == "evicted"), None)


class SteppedClock:
    """A clock that moves only when it is set."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the time it is set to."""
        return self.now


def simulate_traffic() -> TrafficSimulation:
    """Simulate two days of traffic; one endpoint becomes worse half way."""
    clock = SteppedClock(BEGIN)
    with (
        TemporaryDirectory(prefix="assay-demo-") as folder,
        open_current_database(f"sqlite:///{Path(folder) / 'traffic.db'}") as database,
    ):
        for name in CATALOGS:
            import_catalog(database, name)
        settings = ServiceSettings(
            database=database, policy=policy_dir(), journal=Path(folder) / "journal", clock=clock
        )
        with Service(settings) as service:
            return _run_hours(service, clock)


def import_catalog(database: Engine, name: str) -> None:
    """Import a catalog's models and endpoints, as far as they belong to the five models."""
    document = read_catalog((DATA / "catalog_facts" / f"{name}.csv").read_bytes(), source=name)
    endpoints = tuple(e for e in document.endpoints if e.model in MODELS)
    models = tuple(m for m in document.models if m.model in MODELS)
    apply_catalog(database, replace(document, endpoints=endpoints, models=models), now=BEGIN)


def _run_hours(service: Service, clock: SteppedClock) -> TrafficSimulation:
    """Report each hour's traffic, close the hour and read the pools."""
    draw = random.Random(SEED)  # noqa: S311 - simulated traffic is the same in every run
    endpoints = _simulated_endpoints(service.decider)
    accuracies = {each.endpoint_id: each.accuracy for each in endpoints}
    worsening = next(
        e for e in endpoints if e.endpoint_id.startswith("openai/") and e.accuracy == GOOD
    )
    states: dict[int, Mapping[str, str]] = {}
    for hour in range(1, HOURS + 1):
        if hour == WORSE_AFTER + 1:
            worsening.accuracy = WORSE
        end = BEGIN + timedelta(hours=hour)
        outcomes = list(_hour_of_traffic(endpoints, end, draw))
        clock.now = end + SETTLING
        service.report(OutcomeSubmission("simulated", f"hour-{hour}", len(outcomes), outcomes))
        service.drain_log()
        service.curate_once()
        if hour in SHOWN:
            states[hour] = _pool_states(service.decider)
    database = service.settings.database
    changes = [
        change for model in MODELS for change in list_pool_changes(database, "exacto", model)
    ]
    changes.sort(key=lambda change: change.at)
    return TrafficSimulation(accuracies, worsening.endpoint_id, states, changes)


def _simulated_endpoints(decider: Decider) -> list[SimulatedEndpoint]:
    views = [decider.current().models[model] for model in MODELS]
    return [
        SimulatedEndpoint(endpoint.endpoint_id, ACCURACIES[(place + turn) % len(ACCURACIES)])
        for turn, view in enumerate(views)
        for place, endpoint in enumerate(view.endpoints)
    ]


def _hour_of_traffic(
    endpoints: Sequence[SimulatedEndpoint], end: datetime, draw: random.Random
) -> Iterator[OutcomeReport]:
    """Yield one hour's requests with tools, in sums as a gateway reports them."""
    at_us = to_micros(end) - 1
    for endpoint in endpoints:
        for tenant in TENANTS:
            calls = sum(draw.random() < PROPENSITY for _ in range(REQUESTS))
            errored = sum(draw.random() >= endpoint.accuracy for _ in range(calls))
            use = ToolUse(
                2,
                tool_call_requests=calls,
                errored_requests=errored,
                tool_calls=calls,
                schema_mismatch=errored,
            )
            yield OutcomeReport(
                endpoint.endpoint_id,
                tenant,
                Outcome(at_us, "answered", requests=REQUESTS, tools=use),
            )


def _pool_states(decider: Decider) -> Mapping[str, str]:
    reports = (pool_report(decider.current(), f"{model}:exacto") for model in MODELS)
    return {
        j.verdict.endpoint_id: j.state or UNKNOWN
        for report in reports
        for j in (*report.members, *report.others)
    }
