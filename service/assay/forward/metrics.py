"""What Prometheus may scrape of the forwarding layer: counts and times by status, provider and failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from time import perf_counter
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from assay.forward.reporting import OutcomeReporter

SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
ANSWERED: Final = "answered"


class Metrics(Collector):
    """Counters of one process; `running` requests are under way."""

    def __init__(self, reporter: OutcomeReporter) -> None:
        self.running = 0
        self.requests: Counter[str] = Counter()
        self.attempts: Counter[tuple[str, str]] = Counter()
        self._reporter = reporter
        self._registry = CollectorRegistry()
        self._deciding = Histogram(
            "assay_forward_decide_seconds",
            "Time to a decision.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._registry.register(self)

    def decided(self, began: float) -> None:
        """Count a decision that was asked for at `began`, by the clock of `perf_counter`."""
        self._deciding.observe(perf_counter() - began)

    def collect(self) -> Iterable[Metric]:
        """Every metric with its value now."""
        reporter = self._reporter
        yield GaugeMetricFamily("assay_forward_running", "Requests under way.", value=self.running)
        yield GaugeMetricFamily(
            "assay_forward_spool_bytes", "Bytes of outcomes not sent.", value=reporter.spool.bytes
        )
        yield CounterMetricFamily(
            "assay_forward_outcomes_sent", "Outcomes acknowledged.", value=reporter.sent
        )
        yield CounterMetricFamily(
            "assay_forward_outcomes_lost", "Outcomes without room.", value=reporter.spool.lost
        )
        for name, meaning, labels, counts in (
            (
                "requests",
                "Requests answered.",
                ["status"],
                {(k,): v for k, v in self.requests.items()},
            ),
            ("attempts", "Attempts made.", ["provider", "end"], self.attempts),
            (
                "outcomes_refused",
                "Outcomes refused.",
                ["reason"],
                {(k,): v for k, v in reporter.refused.items()},
            ),
        ):
            family = CounterMetricFamily(f"assay_forward_{name}", meaning, labels=labels)
            for values, count in counts.items():
                family.add_metric(values, count)
            yield family

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)
