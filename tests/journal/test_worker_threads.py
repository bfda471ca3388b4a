"""No thread of the journal dies silently, and no wait for one is endless."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from tests.support.journals import CHAINED, MemorySink, assert_kept, make_payload, make_shipper
from tests.support.waiting import eventually

from assay.journal import operating_system, writer
from assay.journal.backoff import Backoff
from assay.journal.errors import JournalFailed
from assay.journal.layout import LOCK, streams
from assay.journal.operating_system import REAL
from assay.journal.worker_thread import WorkerThread
from assay.journal.writer import Journal


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let every attempt of this process to open a file fail with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_shipping_goes_on_after_the_process_had_no_descriptors_left(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal", tick=0.001) as other:
        other.append(CHAINED, make_payload(0, 0))
    with Journal(spool / "journal", tick=0.001) as journal:
        moving = make_shipper(spool, sink, journal.stream)
        shipping = WorkerThread("shipper", moving.run_round, late_after=60)
        with no_descriptors():
            shipping.start()
            journal.append(CHAINED, make_payload(0, 1))
            eventually(lambda: moving.failures > 5)
            assert isinstance(moving.trouble, OSError)
            assert moving.trouble.errno == errno.EMFILE
            assert moving.behind is None
            assert not moving.is_done
        eventually(lambda: moving.is_done)
        assert len(sink.payloads) == 2
    moving.stop()
    shipping.join()
    assert_kept(sink, [make_payload(0, 0), make_payload(0, 1)], spool)


@pytest.mark.parametrize("call", ["claim", "read", "listing"])
def test_a_stream_that_could_not_be_opened_counts_as_behind(spool: Path, call: str) -> None:
    with Journal(spool / "journal", tick=0.001) as journal:
        journal.append(CHAINED, make_payload(0, 0))
    (stream,) = streams(spool / "journal")
    refused = [call]

    def open_file(path: str | os.PathLike[str], flags: int, mode: int) -> int:
        is_lock = Path(path).name == LOCK
        if refused and stream in str(path) and is_lock == (refused[0] == "claim"):
            raise OSError(errno.EMFILE, "no descriptors")
        return os.open(path, flags, mode)

    moving = make_shipper(spool, MemorySink(), operations=replace(REAL, open=open_file))
    if call == "listing":
        assert moving.behind is not None
        assert moving.behind > 40  # before the first round, too
        return
    assert not moving.drain(0.05)
    assert moving.behind is not None
    assert moving.behind > 40
    refused.clear()
    assert moving.drain(20)
    assert moving.behind == 0


def test_a_sync_that_fails_in_an_unexpected_way_rejects_records_and_goes_on(spool: Path) -> None:
    broken = Event()

    def sync_data(descriptor: int) -> None:
        if broken.is_set():
            raise RuntimeError("a bug")
        REAL.sync_data(descriptor)

    operations = replace(REAL, sync_data=sync_data)
    with Journal(spool, mode="sync", tick=0.001, operations=operations) as journal:
        journal.append(CHAINED, make_payload(0, 0))
        broken.set()
        with pytest.raises(JournalFailed, match="broken off"):
            journal.append(CHAINED, make_payload(0, 1))
        assert str(eventually(lambda: journal.trouble)) == "a bug"
        broken.clear()
        eventually(lambda: journal.trouble is None)
        journal.append(CHAINED, make_payload(0, 2))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_records_are_synced_by_their_own_threads_once_the_syncer_is_dead(spool: Path) -> None:
    synced: list[int] = []
    dies = [True]

    def sync_data(descriptor: int) -> None:
        if dies and dies.pop():
            raise SystemExit
        synced.append(descriptor)
        REAL.sync_data(descriptor)

    operations = replace(REAL, sync_data=sync_data)
    with Journal(spool, mode="sync", tick=60, operations=operations) as journal:
        with pytest.raises(JournalFailed, match="broken off"):
            journal.append(CHAINED, make_payload(0, 0))
        eventually(lambda: journal.trouble)
        assert str(journal.trouble) == "thread journal-syncer has ended"
        for number in range(1, 4):
            before = len(synced)
            journal.append(CHAINED, make_payload(0, number))
            assert len(synced) > before
        assert journal.restart_dead_threads() == ["journal-syncer"]
        journal.append(CHAINED, make_payload(0, 4))
        assert journal.trouble is None


def test_a_record_waits_for_a_disk_that_does_not_answer_only_for_a_while(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SYNC_SECONDS", 0.05)
    go_on = Event()

    def sync_data(descriptor: int) -> None:
        go_on.wait(20)
        REAL.sync_data(descriptor)

    operations = replace(REAL, sync_data=sync_data)
    with Journal(spool, mode="sync", tick=0.001, operations=operations) as journal:
        with pytest.raises(JournalFailed, match="did not answer"):
            journal.append(CHAINED, make_payload(0, 0))
        go_on.set()


def test_the_janitor_survives_an_unexpected_failure(spool: Path) -> None:
    broken = Event()

    def reserve(descriptor: int, size: int) -> None:
        if broken.is_set():
            raise RuntimeError("a bug")
        REAL.reserve(descriptor, size)

    operations = replace(REAL, reserve=reserve)
    with Journal(spool, segment_bytes=1 << 12, tick=0.001, operations=operations) as journal:
        broken.set()
        with pytest.raises(JournalFailed):  # noqa: PT012 - a loop
            for number in range(200):
                journal.append(CHAINED, make_payload(0, number))
        assert str(eventually(lambda: journal._janitor.trouble)) == "a bug"
        assert journal.trouble is not None
        broken.clear()
        eventually(lambda: journal.accepting and journal.trouble is None)
        journal.append(CHAINED, make_payload(0, 999))


def test_a_failed_sync_is_a_trouble_for_a_while_in_mode_write(spool: Path) -> None:
    now = [1000.0]
    is_broken = Event()

    def sync_data(descriptor: int) -> None:
        if is_broken.is_set():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        REAL.sync_data(descriptor)

    operations = replace(REAL, sync_data=sync_data)
    with Journal(spool, tick=0.001, operations=operations, steady=lambda: now[0]) as journal:
        is_broken.set()
        journal.append(CHAINED, make_payload(0, 0))
        eventually(lambda: journal.sync_failures)
        is_broken.clear()
        assert "could not be synced: Input/output error" in str(journal.trouble)
        eventually(lambda: journal.accepting)
        journal.append(CHAINED, make_payload(0, 1))
        now[0] += writer.FAULT_SECONDS
        eventually(lambda: journal.trouble is None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_stands_still_or_has_ended_is_a_trouble() -> None:
    now, go_on, ends = [0.0], Event(), Event()

    def work() -> bool:
        go_on.wait(20)
        if ends.is_set():
            raise SystemExit
        return True

    thread = WorkerThread("busy", work, late_after=10.0, steady=lambda: now[0])
    assert not thread.trouble
    thread.start()
    assert not thread.trouble
    now[0] = 11.0
    assert str(thread.trouble) == "thread busy has stood still for 11 s"
    go_on.set()
    eventually(lambda: thread.trouble is None)
    ends.set()
    eventually(lambda: thread.is_dead)
    assert str(thread.trouble) == "thread busy has ended"
    ends.clear()
    thread.start()
    assert thread.trouble is None
    ends.set()
    assert thread.join(20)
    assert thread.trouble is None


def test_a_thread_goes_on_after_failures_and_shows_the_last_one() -> None:
    rounds: list[int] = []

    def work() -> bool:
        rounds.append(len(rounds))
        if len(rounds) < 5:
            raise ValueError(f"round {len(rounds)}")
        return len(rounds) < 10

    thread = WorkerThread("eager", work, late_after=60.0, backoff=Backoff(0.0, 0.0))
    thread.start()
    assert thread.join(20)
    assert len(rounds) == 10


def test_a_lock_that_another_process_holds_is_waited_for_only_a_while(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating_system.lock, "__defaults__", (0.05,))
    (spool / "journal").mkdir()
    with Journal(spool / "journal", tick=0.001) as journal:
        journal.append(CHAINED, make_payload(0, 0))
    sink = MemorySink()
    moving = make_shipper(spool, sink)
    holder = os.open(spool / "journal" / LOCK, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert not moving.drain(0.1)
    assert isinstance(moving.trouble, TimeoutError)
    os.close(holder)
    assert moving.drain(20)
    assert len(sink.payloads) == 1
