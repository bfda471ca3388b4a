"""Metrics for Prometheus: the state of the decision log, and outcomes that moved nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from assay.decision_log.writer import DecisionLogWriter
from assay.engine.errors import OperatorError, quoted
from assay.outcomes.outcome import Uncounted
from assay.rpc.address import check_address
from assay.server.service import Service


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
        journal, shipper = self._log_writer.journal, self._log_writer.shipper
        counters = (
            ("assay_journal_records", "Records appended to the journal.", journal.appended),
            (
                "assay_journal_refused_records",
                "Records, and with them answers, that were rejected.",
                journal.refused,
            ),
            ("assay_shipped_records", "Records moved from journal to database.", shipper.shipped),
            ("assay_shipping_failures", "Batches that failed and are retried.", shipper.failures),
        )
        gauges = (
            ("assay_shipping_behind_bytes", "Journaled bytes not in the database.", shipper.behind),
            ("assay_journal_accepting", "1 if the journal has room.", int(journal.accepting)),
        )
        for name, meaning, value in counters:
            yield CounterMetricFamily(name, meaning, value=value)
        for name, meaning, value in gauges:
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


class MetricsUnavailable(OperatorError):
    """The metrics endpoint cannot listen on its address."""


@contextmanager
def metrics_at(address: str | None, service: Service) -> Iterator[str]:
    """Answer scrapes at `HOST:PORT` within the context; yield the address, or "no" without one."""
    log_writer, intake = service.log_writer, service.intake
    if address is None or log_writer is None or intake is None:
        yield "no"
        return
    host, _, port = check_address(address).rpartition(":")
    if address.startswith("unix:"):
        raise MetricsUnavailable(
            f"metrics: {quoted(address)} is not a valid address; expected HOST:PORT"
        )
    registry = CollectorRegistry()
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
