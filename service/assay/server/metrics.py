"""Metrics for Prometheus: health, the state of the decision log, and outcomes without effect."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from assay.decision_log.writer import DecisionLogWriter
from assay.engine.errors import OperatorError, quoted
from assay.outcomes.outcome import Uncounted
from assay.rpc.address import check_address
from assay.server.health import HealthReporter
from assay.server.service import Service
from assay.store.sqlite import file_of

_Sample = tuple[str, str, float]  # name, help text, value


class LogMetrics(Collector):
    """Reads the counters of the journal and the shipper at each scrape.

    `uncounted` returns outcomes that moved nothing by kind, `rejected` rejected ones by reason.
    """

    def __init__(
        self,
        log_writer: DecisionLogWriter,
        uncounted: Callable[[], Counter[str]] = Counter,
        rejected: Callable[[], Counter[str]] = Counter,
    ) -> None:
        self._log_writer = log_writer
        self._uncounted = uncounted
        self._rejected = rejected

    def collect(self) -> Iterable[Metric]:
        """Yield every metric with its present value."""
        for name, meaning, value in self._counters():
            yield CounterMetricFamily(name, meaning, value=value)
        for name, meaning, value in self._gauges():
            yield GaugeMetricFamily(name, meaning, value=value)
        rejected = CounterMetricFamily(
            "assay_refused_outcomes", "Outcomes rejected on receipt.", labels=["reason"]
        )
        for reason, count in self._rejected().items():
            rejected.add_metric([reason], count)
        yield rejected
        uncounted = CounterMetricFamily(
            "assay_uncounted_outcomes",
            "Outcomes of decisions that moved no counter, once stored by this process.",
            labels=["kind"],
        )
        found = self._uncounted()
        for kind in Uncounted:
            uncounted.add_metric([kind.value], found[kind.value])
        yield uncounted

    def _counters(self) -> Iterable[_Sample]:
        writer = self._log_writer
        journal, shipper, counts = writer.journal, writer.shipper, writer.shipper.counts
        return (
            ("assay_journal_records", "Records appended to the journal.", journal.appended),
            (
                "assay_journal_refused_records",
                "Records, and with them answers, that were rejected.",
                journal.refused,
            ),
            (
                "assay_journal_sync_failures",
                "Syncs that failed: records of that time may not survive a power failure.",
                journal.sync_failures,
            ),
            (
                "assay_journal_torn_records",
                "Damaged places in the journal that were skipped.",
                counts.torn,
            ),
            ("assay_shipped_records", "Records moved from journal to database.", shipper.shipped),
            ("assay_shipping_failures", "Batches that failed and are retried.", shipper.failures),
            (
                "assay_shipping_rewinds",
                "Times that the database had lost commits and records were shipped again.",
                counts.rewinds,
            ),
            (
                "assay_shipping_lost_decisions",
                "Decisions that the database lost after the journal had deleted them.",
                counts.lost,
            ),
            (
                "assay_unreadable_decisions",
                "Decisions that were stored although this version cannot read them.",
                writer.sink.unlisted,
            ),
            (
                "assay_set_aside_records",
                "Other records that this version cannot read, stored for a newer one.",
                writer.sink.unreadable,
            ),
        )

    def _gauges(self) -> Iterable[_Sample]:
        writer = self._log_writer
        journal, shipper, behind = writer.journal, writer.shipper, writer.shipper.behind
        return (
            (
                "assay_shipping_behind_bytes",
                "Journaled bytes not in the database; NaN if the journal cannot be read.",
                math.nan if behind is None else behind,
            ),
            (
                "assay_journal_kept_bytes",
                "Journaled bytes that are in the database and kept for the grace period.",
                shipper.kept,
            ),
            ("assay_journal_heads_bytes", "Size of the file of heads.", writer.head_file.size),
            (
                "assay_journal_accepting",
                "1 if the journal takes records.",
                int(journal.accepting),
            ),
        )


class EvidenceMetrics(Collector):
    """Reads the sizes of what is remembered of tenants and reports, at each scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """Yield every metric with its present value."""
        tenants, intake = self._service.decider.pseudonyms, self._service.intake
        yield GaugeMetricFamily(
            "assay_remembered_tenants", "Tenants in this process's memory.", tenants.remembered
        )
        yield CounterMetricFamily(
            "assay_unnamed_tenants",
            "Decisions and reports stored without their tenant: too many new ones.",
            tenants.unnamed,
        )
        if intake is not None:
            yield GaugeMetricFamily(
                "assay_remembered_attempts",
                "Attempts in this process's memory as reported.",
                intake.remembered,
            )
        rows = GaugeMetricFamily(
            "assay_evidence_rows",
            "Rows that keep outcomes from counting twice, or wait; as of the last closed hour.",
            labels=["table"],
        )
        loop = self._service.curator_loop
        for table, number in loop.curator.sizes.items() if loop else ():
            rows.add_metric([table], number)
        yield rows


class HealthMetrics(Collector):
    """Reads the health of each part, and the size of SQLite's write-ahead log, at each scrape."""

    def __init__(self, health: HealthReporter, database: Engine) -> None:
        self._health = health
        self._file = file_of(database)

    def collect(self) -> Iterable[Metric]:
        """Yield every metric with its present value."""
        healthy = GaugeMetricFamily(
            "assay_healthy", "1 if this part can serve; the log has the cause.", labels=["service"]
        )
        for name, cause in self._health.current.items():
            healthy.add_metric([name or "all"], int(not cause))
        yield healthy
        if self._file is not None:
            yield GaugeMetricFamily(
                "assay_sqlite_wal_bytes",
                "Size of SQLite's write-ahead log.",
                value=self._file.log_size(),
            )


class MetricsUnavailable(OperatorError):
    """The metrics endpoint cannot listen on its address."""


@contextmanager
def metrics_at(address: str | None, service: Service, health: HealthReporter) -> Iterator[str]:
    """Answer scrapes at `HOST:PORT` within the context; yield the address, or "no" without one."""
    if address is None:
        yield "no"
        return
    host, _, port = check_address(address).rpartition(":")
    if address.startswith("unix:"):
        raise MetricsUnavailable(
            f"metrics: {quoted(address)} is not a valid address; expected HOST:PORT"
        )
    registry = CollectorRegistry()
    registry.register(HealthMetrics(health, service.settings.database))
    registry.register(EvidenceMetrics(service))
    log_writer, intake = service.log_writer, service.intake
    if log_writer is not None and intake is not None:
        rejected = intake.rejected.copy
        registry.register(LogMetrics(log_writer, service.uncounted_outcomes, rejected))
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise MetricsUnavailable(
            f"metrics: cannot listen on {quoted(address)}: {error.strerror}"
        ) from error
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
