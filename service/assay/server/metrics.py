"""What Prometheus may scrape: how the log fares, read from its own counters at each scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from assay.decision_log.writer import DecisionLogWriter
from assay.engine.errors import OperatorError, quoted
from assay.rpc.address import checked


class LogMetrics(Collector):
    """The journal's and the shipper's counters; nothing is counted a second time for the sake of metrics."""

    def __init__(self, logbook: DecisionLogWriter) -> None:
        self._logbook = logbook

    def collect(self) -> Iterable[Metric]:
        """Every metric with its value now."""
        journal, shipper = self._logbook.journal, self._logbook.shipper
        yield counter("assay_journal_records", "Records kept in the journal.", journal.appended)
        yield counter(
            "assay_journal_refused_records",
            "Records refused, and the answers with them.",
            journal.refused,
        )
        yield counter(
            "assay_shipped_records",
            "Records moved from the journal to the database.",
            shipper.shipped,
        )
        yield counter(
            "assay_shipping_failures",
            "Batches that were not moved and tried again.",
            shipper.failures,
        )
        yield gauge(
            "assay_shipping_behind_bytes",
            "Bytes in the journal that are not in the database.",
            shipper.behind,
        )
        yield gauge(
            "assay_journal_accepting",
            "1 while the next record has a place to go.",
            int(journal.accepting),
        )


def counter(name: str, meaning: str, value: float) -> Metric:
    """A value that only grows while the process lives."""
    return CounterMetricFamily(name, meaning, value=value)


def gauge(name: str, meaning: str, value: float) -> Metric:
    """A value that goes up and down."""
    return GaugeMetricFamily(name, meaning, value=value)


class MetricsUnavailable(OperatorError):
    """The address for metrics cannot be listened on."""


@contextmanager
def metrics_at(address: str | None, logbook: DecisionLogWriter | None) -> Iterator[str]:
    """Answer scrapes at `HOST:PORT` while the context lasts, or nobody; yields where, with the port chosen."""
    if address is None or logbook is None:
        yield "no"
        return
    host, _, port = checked(address).rpartition(":")
    if address.startswith("unix:"):
        raise MetricsUnavailable(f"metrics: {quoted(address)} is not HOST:PORT")
    registry = CollectorRegistry()
    registry.register(LogMetrics(logbook))
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
