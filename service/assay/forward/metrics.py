"""Prometheus metrics of the forwarder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from assay.forward.reporting import OutcomeReporter

_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)  # seconds


class Metrics(Collector):
    """Counters of one process; `running` counts requests in progress."""

    def __init__(self, reporter: OutcomeReporter) -> None:
        self.running = 0
        self.requests: Counter[str] = Counter()
        self.attempts: Counter[tuple[str, str]] = Counter()
        self._reporter = reporter
        self._registry = CollectorRegistry()
        self._decide_seconds = Histogram(
            "assay_forward_decide_seconds", "Time to a decision.",
            buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self._registry.register(self)

    def observe_decision(self, began: float) -> None:
        """Record the time of a decision that was requested at `began` (`perf_counter`)."""
        self._decide_seconds.observe(perf_counter() - began)

    def collect(self) -> Iterable[Metric]:
        """Yield every metric with its current value."""
        reporter, spool = self._reporter, self._reporter.spool
        yield GaugeMetricFamily("assay_forward_running", "Requests in progress.", self.running)
        yield GaugeMetricFamily(
            "assay_forward_spool_bytes", "Bytes of unsent outcomes.", spool.bytes
        )
        yield CounterMetricFamily(
            "assay_forward_outcomes_sent", "Outcomes accepted by the service.", reporter.sent
        )
        yield CounterMetricFamily(
            "assay_forward_outcomes_lost", "Outcomes that the spool had no room for.", spool.lost
        )
        yield _family(
            "requests", "Requests by the status of their reply.", ["status"], self.requests
        )
        yield _family("attempts", "Attempts by result.", ["provider", "end"], self.attempts)
        yield _family("outcomes_refused", "Rejected outcomes.", ["reason"], reporter.rejected)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def _family(
    name: str,
    meaning: str,
    labels: list[str],
    counts: Mapping[str, int] | Mapping[tuple[str, str], int],
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"assay_forward_{name}", meaning, labels=labels)
    for key, count in counts.items():
        family.add_metric([key] if isinstance(key, str) else key, count)
    return family
