"""What a process's decision log reports about itself: troubles, counts and sizes."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Engine, event
from structlog.testing import capture_logs
from tests.support.decision_streams import empty_log
from tests.support.directories import delete_at_once
from tests.support.waiting import eventually

from assay.decision_log.auditor import Auditor
from assay.decision_log.writer import HEADS, KEY, DecisionLogWriter
from assay.journal.backoff import Backoff
from assay.journal.shipper import DEFAULT_PACE
from assay.journal.sink import RecordKind
from assay.rule_files.compile import compile_source
from assay.server.metrics import LogMetrics
from assay.server.settings import engine_version

pytestmark = pytest.mark.usefixtures("logging_of_every_level")
EAGER = replace(DEFAULT_PACE, backoff=Backoff(0.001, 0.01))


@pytest.fixture
def log(store: Engine) -> Iterator[Engine]:
    yield store
    empty_log(store)


def samples(writer: DecisionLogWriter) -> dict[str, float]:
    """Every sample of the log's metrics, by name and labels."""
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for metric in LogMetrics(writer).collect()
        for sample in metric.samples
    }


@dataclass
class Outage:
    """Lets every transaction of a database fail or hang."""

    database: Engine
    is_away: bool = False
    hangs: bool = False
    go_on: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        event.listen(self.database, "begin", self._begin)

    def _begin(self, _connection: object) -> None:
        if self.hangs:
            self.go_on.wait(60)
        if self.is_away:
            raise ConnectionError("the database is away")

    def end(self) -> None:
        """Let everything succeed; the listener stays, as other threads may be in it."""
        self.is_away = self.hangs = False
        self.go_on.set()


def troubles(lines: list[Any]) -> list[tuple[str, str]]:
    return [(line["event"], line["part"]) for line in lines if "part" in line]


def append(writer: DecisionLogWriter, number: int = 1) -> None:
    for _ in range(number):
        writer.journal.append(RecordKind.DECISION, b"not a decision")


def test_failing_shipping_is_logged_once_and_again_when_it_is_over(
    log: Engine, tmp_path: Path
) -> None:
    outage = Outage(log)
    with capture_logs() as lines:
        writer = DecisionLogWriter(tmp_path / "journal", log, pace=EAGER)
        assert writer.drain()
        outage.is_away = True
        append(writer)
        eventually(lambda: troubles(lines) and writer.shipper.failures > 5)
        assert str(writer.trouble) == "the database is away"
        seen = samples(writer)
        outage.end()
        eventually(lambda: troubles(lines), lambda seen: len(seen) == 2)
        writer.close()
    assert troubles(lines) == [("trouble", "shipping"), ("trouble is over", "shipping")]
    assert seen["assay_shipping_behind_bytes"] > 0
    assert writer.trouble is None


def test_metrics_show_what_waits_what_is_kept_and_what_cannot_be_read(
    log: Engine, tmp_path: Path
) -> None:
    writer = DecisionLogWriter(tmp_path / "journal", log)
    append(writer, 3)
    writer.journal.append(99, b"from a newer version")
    assert writer.drain()
    writer.close()
    seen = samples(writer)
    assert seen["assay_unreadable_decisions_total"] == 3
    assert seen["assay_set_aside_records_total"] == 1
    assert seen["assay_journal_heads_bytes"] > 100
    writer = DecisionLogWriter(tmp_path / "journal", log)
    assert writer.drain()
    seen = samples(writer)
    assert seen["assay_journal_kept_bytes"] > 40
    assert seen["assay_shipping_behind_bytes"] == 0
    writer.close()


def test_unknown_waiting_bytes_are_not_zero(log: Engine, tmp_path: Path) -> None:
    writer = DecisionLogWriter(tmp_path / "journal", log)
    assert writer.drain()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        eventually(lambda: writer.trouble)
        assert math.isnan(samples(writer)["assay_shipping_behind_bytes"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: writer.trouble is None)
    writer.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_shipper_is_reported_and_started_again(log: Engine, tmp_path: Path) -> None:
    dies = [True]

    def die(_connection: object) -> None:
        if dies and dies.pop():
            raise SystemExit

    with capture_logs() as lines:
        writer = DecisionLogWriter(tmp_path / "journal", log)
        event.listen(log, "begin", die)
        append(writer)
        eventually(lambda: writer.shipper.shipped == 1)
        event.remove(log, "begin", die)
        assert not dies
        eventually(lambda: writer.trouble is None)
        writer.close()
    restarted = [line["thread"] for line in lines if line["event"] == "thread restarted"]
    assert restarted == ["assay-shipper"]


def test_closing_does_not_wait_for_a_database_that_hangs(log: Engine, tmp_path: Path) -> None:
    outage = Outage(log)
    with capture_logs() as lines:
        writer = DecisionLogWriter(tmp_path / "journal", log)
        assert writer.drain()
        outage.hangs = True
        append(writer)
        assert not writer.drain(0.05)
        writer.close()
        assert not outage.go_on.is_set()  # the transaction still hangs
        outage.end()
    assert lines[-1]["event"] == "records stay in the journal for the next process"
    after = DecisionLogWriter(tmp_path / "journal", log)
    eventually(lambda: after.drain(0.1) and len(list(verified(log, after))) >= 1)
    after.close()


def verified(database: Engine, writer: DecisionLogWriter) -> list[int]:
    auditor = Auditor(database, engine_version(), compile_source)
    reports = auditor.verify(writer.public_keys, writer.heads())
    return [report.checked for report in reports]


@pytest.mark.parametrize("what", ["directory", KEY, HEADS])
def test_key_and_heads_that_were_deleted_are_restored(
    log: Engine, tmp_path: Path, what: str
) -> None:
    journal = tmp_path / "journal"
    with capture_logs() as lines:
        writer = DecisionLogWriter(journal, log)
        append(writer)
        assert writer.drain()
        eventually(writer.heads)
        heads = writer.head_file.newest()
        if what == "directory":
            delete_at_once(journal)
        else:
            (journal / what).unlink()
        eventually(lambda: "journal restored" in [line["event"] for line in lines])
        assert (journal / KEY).stat().st_mode & 0o777 == 0o600
        assert (journal / HEADS).exists()
        assert writer.head_file.newest() == heads
        append(writer)
        assert writer.drain()
        writer.close()
    again = DecisionLogWriter(journal, log)
    assert again.public_keys == writer.public_keys
    assert again.drain()
    again.close()


def test_the_defaults_keep_stored_records_for_ten_minutes() -> None:
    grace = DEFAULT_PACE.grace
    assert (grace.seconds, grace.most_bytes) == (600.0, 1 << 30)
