"""Prometheus metrics of the forwarder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from assay.forward.model_listing import ModelListing
from assay.forward.reporting import OutcomeReporter
from assay.forward.sessions import SessionMemory
from assay.forward.supervision import Supervisor

_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)  # seconds


class Metrics(Collector):
    """Counters of one process; `running` counts requests in progress."""

    def __init__(
        self,
        reporter: OutcomeReporter,
        listing: ModelListing,
        sessions: SessionMemory,
        supervisor: Supervisor,
    ) -> None:
        self.running = 0
        self.requests: Counter[str] = Counter()
        self.attempts: Counter[tuple[str, str]] = Counter()
        self._reporter = reporter
        self._sessions = sessions
        self._supervisor = supervisor
        self._troubles = reporter.spool.troubles, reporter.troubles, listing.troubles
        self._registry = CollectorRegistry()
        self._decide_seconds = Histogram(
            "assay_forward_decide_seconds", "Time to a decision.",
            buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self._registry.register(self)

    def observe_decision(self, began: float) -> None:
        """Record the time of a decision that was requested at `began` (`perf_counter`)."""
        self._decide_seconds.observe(perf_counter() - began)

    def causes(self) -> dict[str, str]:
        """Return what is wrong at the moment, by part."""
        return {each.part: str(each) for each in self._troubles if str(each)}

    def collect(self) -> Iterable[Metric]:
        """Yield every metric with its current value."""
        reporter, spool = self._reporter, self._reporter.spool
        gauges = (
            ("running", "Requests in progress.", self.running),
            ("spool_bytes", "Bytes of unsent outcomes.", spool.bytes),
            ("spool_batches", "Batches of unsent outcomes.", len(spool.waiting)),
            ("spool_unwritten_bytes", "Bytes of them that are not on disk.", spool.unwritten_bytes),
            ("set_aside_files", "Batches kept for the operator.", len(spool.aside)),
            ("set_aside_bytes", "Bytes of these batches.", sum(spool.aside.values())),
            ("sessions", "Sessions whose last endpoint is remembered.", self._sessions.size),
        )
        for name, meaning, value in gauges:
            yield GaugeMetricFamily(f"assay_forward_{name}", meaning, value)
        counters = (
            ("outcomes_sent", "Outcomes accepted by the service.", reporter.sent),
            ("outcomes_lost", "Outcomes without room, cut or deleted on disk.", spool.lost),
            ("spool_mended_files", "Damaged files of which the rest was sent.", spool.mended),
            ("set_aside_deleted", "Set aside batches deleted to make room.", spool.deleted),
        )
        for name, meaning, number in counters:
            yield CounterMetricFamily(f"assay_forward_{name}", meaning, number)
        healthy = GaugeMetricFamily(
            "assay_forward_healthy",
            "0 while a part has trouble; /healthz says why.",
            labels=["part"],
        )
        for each in self._troubles:
            healthy.add_metric([each.part], int(not str(each)))
        yield healthy
        restarts, faults = self._supervisor.restarts, spool.troubles.failures
        yield _family("task_restarts", "Tasks that failed and were restarted.", ["task"], restarts)
        yield _family("spool_faults", "Failed file operations.", ["operation"], faults)
        yield _family("set_aside", "Batches set aside.", ["reason"], spool.set_aside)
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
