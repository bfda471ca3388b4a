"""Appended records are kept in order across threads, rotations and reopenings."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Literal

import pytest
from hypothesis import given, settings, strategies as st
from tests.support.journals import assert_order, make_payload, read_frames
from tests.support.waiting import eventually

from assay.journal.errors import JournalClosed, JournalFailed, JournalFull, RecordTooLarge
from assay.journal.layout import NEXT, segment_path, segments
from assay.journal.operating_system import REAL
from assay.journal.rotation import Rotation, WriterSlot
from assay.journal.segment import Segment
from assay.journal.writer import Journal, _Syncer

THREADS = 8
SIZES = st.lists(st.integers(0, 250), max_size=20)


@pytest.fixture(params=["write", "sync"])
def mode(request: pytest.FixtureRequest) -> Literal["write", "sync"]:
    chosen: Literal["write", "sync"] = request.param
    return chosen


@given(lives=st.lists(SIZES, min_size=1, max_size=3), segment_bytes=st.integers(1 << 10, 1 << 13))
@settings(max_examples=20, deadline=None)
def test_eight_threads_read_back_what_they_appended(
    tmp_path_factory: pytest.TempPathFactory, lives: list[list[int]], segment_bytes: int
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    names: list[str] = []
    expected: list[bytes] = []
    started = 0
    for sizes in lives:
        with (
            Journal(directory, segment_bytes=segment_bytes, tick=0.001) as journal,
            ThreadPoolExecutor(THREADS) as threads,
        ):
            names.append(journal.stream)
            records = [
                [make_payload(t, started + n, s) for n, s in enumerate(sizes)]
                for t in range(THREADS)
            ]

            def work(mine: list[bytes], journal: Journal = journal) -> None:
                for record in mine:
                    if len(record) <= segment_bytes // 4:
                        journal.append(1, record)

            list(threads.map(work, records))
            expected += [r for mine in records for r in mine if len(r) <= segment_bytes // 4]
            started += len(sizes)
        assert journal.appended == sum(
            len(r) <= segment_bytes // 4 for mine in records for r in mine
        )
        assert (journal.refused, journal.torn) == (0, 0)
    found = [frame.payload for frame in read_frames(directory, names)]
    assert sorted(found) == sorted(expected)
    assert_order(found)


def test_both_modes_keep_records_across_rotations(
    spool: Path, mode: Literal["write", "sync"]
) -> None:
    with Journal(spool, mode=mode, segment_bytes=4096, tick=0.001) as journal:
        for number in range(300):
            journal.append(number % 256, make_payload(0, number))
    found = read_frames(spool)
    assert [frame.payload for frame in found] == [make_payload(0, number) for number in range(300)]
    assert [frame.kind for frame in found] == [number % 256 for number in range(300)]
    assert len(segments(journal.path)) > 3


def test_an_append_survives_without_a_close(spool: Path) -> None:
    journal = Journal(spool, tick=60)
    journal.append(1, b"0:0:x")
    assert [frame.payload for frame in read_frames(spool)] == [b"0:0:x"]
    journal.close()


def test_mode_sync_writes_a_record_to_disk_before_append_returns(spool: Path) -> None:
    synced: dict[int, int] = {}

    def sync_data(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        REAL.sync_data(descriptor)
        synced[os.fstat(descriptor).st_ino] = size

    with Journal(spool, mode="sync", operations=replace(REAL, sync_data=sync_data)) as journal:
        path = segment_path(journal.path, 1)
        for number in range(20):
            journal.append(1, make_payload(0, number))
            assert synced[path.stat().st_ino] == path.stat().st_size


def test_mode_write_syncs_in_the_background(spool: Path) -> None:
    synced: list[int] = []
    sync = replace(REAL, sync_data=lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    with Journal(spool, operations=sync, tick=0.001) as journal:
        journal.append(1, b"0:0:x")
        size = segment_path(journal.path, 1).stat().st_size
        eventually(lambda: size in synced)


def test_space_is_reserved_ahead_and_released(tmp_path: Path) -> None:
    with Journal(tmp_path, segment_bytes=1 << 20, tick=0.001) as journal:
        reserved = [segment_path(journal.path, 1), segment_path(journal.path, 2, NEXT)]
        assert [path.stat().st_size for path in reserved] == [0, 0]
        assert all(path.stat().st_blocks * 512 >= 1 << 20 for path in reserved)
        journal.append(1, bytes(100))
    assert [path.name for path in sorted(journal.path.iterdir())] == ["00000001.seg", "lock"]
    assert reserved[0].stat().st_blocks * 512 <= 1 << 16


def test_a_segment_is_not_sealed_during_a_write(spool: Path) -> None:
    inside, go_on = Event(), Event()

    def write(descriptor: int, data: bytes) -> int:
        if b"slow" in data:
            inside.set()
            go_on.wait()
        return REAL.write(descriptor, data)

    with Journal(
        spool, segment_bytes=1 << 10, tick=0.001, operations=replace(REAL, write=write)
    ) as journal:
        slow = Thread(target=journal.append, args=(1, b"0:0:slow"))
        slow.start()
        inside.wait()
        for number in range(60):
            journal.append(1, make_payload(1, number))
        assert segments(journal.path) == [
            1
        ]  # the others stay hidden, so that no reader skips the slow one
        go_on.set()
        slow.join()
        eventually(lambda: len(segments(journal.path)) > 3)
    assert len(read_frames(spool)) == 61


def test_a_short_write_is_rejected_and_skipped(spool: Path) -> None:
    cut: list[bytes] = []

    def write(descriptor: int, data: bytes) -> int:
        if b"victim" in data and not cut:
            cut.append(data)
            return REAL.write(descriptor, data[:-3])
        return REAL.write(descriptor, data)

    with Journal(spool, operations=replace(REAL, write=write)) as journal:
        journal.append(1, b"0:0:before")
        with pytest.raises(JournalFailed, match="cut short"):
            journal.append(1, b"0:1:victim")
        journal.append(1, b"0:2:after")
        assert (journal.appended, journal.refused, journal.torn) == (2, 1, 1)
        assert journal.accepting
        eventually(lambda: segments(journal.path) == [1, 2])
    assert [frame.payload for frame in read_frames(spool)] == [b"0:0:before", b"0:2:after"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        pytest.param(errno.ENOSPC, JournalFull, id="no space"),
        pytest.param(errno.EDQUOT, JournalFull, id="over the quota"),
        pytest.param(errno.EIO, JournalFailed, id="broken disk"),
    ],
)
def test_a_failed_write_raises_its_error_and_the_journal_continues(
    spool: Path, code: int, error: type[Exception]
) -> None:
    fail = [True]

    def write(descriptor: int, data: bytes) -> int:
        if fail and fail.pop():
            raise OSError(code, os.strerror(code))
        return REAL.write(descriptor, data)

    with Journal(spool, operations=replace(REAL, write=write)) as journal:
        with pytest.raises(error):
            journal.append(1, b"0:0:x")
        journal.append(1, b"0:1:x")
    assert [frame.payload for frame in read_frames(spool)] == [b"0:1:x"]


def test_a_journal_without_reserved_space_rejects_records_until_it_recovers(spool: Path) -> None:
    full = Event()

    def reserve(descriptor: int, size: int) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, "no space")
        REAL.reserve(descriptor, size)

    kept: list[bytes] = []
    with Journal(
        spool, segment_bytes=4096, tick=0.001, operations=replace(REAL, reserve=reserve)
    ) as journal:
        full.set()
        with pytest.raises(JournalFull):  # noqa: PT012 - the number that fits varies
            for number in range(1000):
                journal.append(1, make_payload(0, number))
                kept.append(make_payload(0, number))
        assert not journal.accepting
        full.clear()
        eventually(lambda: journal.accepting)
        journal.append(1, make_payload(0, 1000))
    assert [frame.payload for frame in read_frames(spool)] == [*kept, make_payload(0, 1000)]


def test_a_full_disk_at_the_start_is_retried(spool: Path) -> None:
    full = [True]

    def reserve(_descriptor: int, _size: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, "no space")

    with Journal(spool, tick=0.001, operations=replace(REAL, reserve=reserve)) as journal:
        assert not journal.accepting
        with pytest.raises(JournalFull):
            journal.append(1, b"0:0:x")
        full.clear()
        eventually(lambda: journal.accepting)
        journal.append(1, b"0:1:x")
    assert [frame.payload for frame in read_frames(spool)] == [b"0:1:x"]


@pytest.mark.parametrize(
    ("room", "works"),
    [pytest.param(1, True, id="free"), pytest.param(1 << 60, False, id="not free")],
)
def test_free_space_is_checked_if_it_cannot_be_reserved(
    spool: Path, monkeypatch: pytest.MonkeyPatch, room: int, *, works: bool
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    descriptor = os.open(spool / "file", os.O_CREAT | os.O_RDWR)
    if works:
        REAL.reserve(descriptor, room)
    else:
        with pytest.raises(OSError, match="No space left"):
            REAL.reserve(descriptor, room)
    os.close(descriptor)


def test_a_closed_journal_rejects_records(spool: Path) -> None:
    journal = Journal(spool)
    journal.close()
    journal.close()
    with pytest.raises(JournalClosed):
        journal.append(1, b"x")
    assert not journal.accepting


def test_a_record_that_is_too_large_is_rejected(spool: Path) -> None:
    with Journal(spool, segment_bytes=4096) as journal:
        journal.append(1, bytes(1024))
        with pytest.raises(
            RecordTooLarge,
            match="of 1025 bytes is too large for the journal, expected at most 1024",
        ):
            journal.append(1, bytes(1025))


def test_records_of_sixteen_mebibytes_are_accepted(spool: Path) -> None:
    large = bytes(16 << 20)
    with Journal(spool) as journal:
        journal.append(1, large)
        journal.append(1, b"small")
    assert [frame.payload for frame in read_frames(spool)] == [large, b"small"]


def test_counters_include_finished_threads(spool: Path) -> None:
    with Journal(spool) as journal:
        for number in range(3):
            thread = Thread(target=journal.append, args=(1, make_payload(0, number)))
            thread.start()
            thread.join()
            assert journal.appended == number + 1


def test_counters_include_later_records_of_a_thread_that_goes_on(spool: Path) -> None:
    with Journal(spool) as journal:
        for number in range(3):
            journal.append(1, make_payload(0, number))
            assert journal.appended == number + 1


def test_counters_of_finished_threads_are_merged_into_one(spool: Path) -> None:
    with Journal(spool) as journal:
        for number in range(3):
            thread = Thread(target=journal.append, args=(1, make_payload(0, number)))
            thread.start()
            thread.join()
        assert len(journal._rotation.slots) == 3
        assert journal.appended == 3
        assert journal._rotation.slots == []


def test_the_end_waits_for_a_thread_that_moves_the_journal_on(spool: Path) -> None:
    rotation = Rotation(spool, 1 << 16, REAL)
    rotation.tidy()
    first = rotation.current
    rotation.tidy()
    following = first.next
    assert following is not None
    assert first.take_permit()  # as a writer does before it moves the journal on
    ended: list[Segment] = []
    ending = Thread(target=lambda: ended.append(rotation.end()))
    ending.start()
    ending.join(0.2)
    assert ending.is_alive()
    rotation.current = following
    ending.join()
    assert ended == [following]
    rotation.wind_up(following)


def test_a_thread_never_enters_a_segment_that_the_journal_has_left(spool: Path) -> None:
    rotation = Rotation(spool, 1 << 16, REAL)
    rotation.tidy()
    first = rotation.current
    rotation.tidy()

    class InterruptedSlot(WriterSlot):
        """The slot of a thread during whose announcement another moves the journal on."""

        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            if name == "inside" and value is first:
                assert rotation.move_on(first)
            super().__setattr__(name, value)

    slot = InterruptedSlot()
    assert rotation.enter(slot) is first.next
    assert slot.inside is first.next
    rotation.wind_up(rotation.end())


def test_a_thread_that_waits_for_a_sync_is_woken_at_the_end(spool: Path) -> None:
    syncing, go_on = Event(), Event()

    def sync_data(descriptor: int) -> None:
        syncing.set()
        go_on.wait()
        REAL.sync_data(descriptor)

    rotation = Rotation(spool, 1 << 16, replace(REAL, sync_data=sync_data))
    rotation.tidy()
    segment = rotation.current
    os.write(segment.descriptor, b"a frame")
    syncer = _Syncer(rotation, tick=60)
    syncer.start()
    ending = Thread(target=syncer.stop)
    ending.start()
    syncing.wait()  # the last sync has begun: it may miss what is written from now on
    waiting = Thread(target=syncer.commit, args=(segment,), daemon=True)
    waiting.start()
    eventually(lambda: syncer._open.is_wanted)
    go_on.set()
    ending.join()
    waiting.join(5)
    assert not waiting.is_alive()
    rotation.wind_up(rotation.end())


def test_a_segment_that_could_not_be_synced_gets_no_further_records(spool: Path) -> None:
    fail = [True]

    def sync_data(descriptor: int) -> None:
        if fail and fail.pop():
            raise OSError(errno.EIO, "broken disk")
        REAL.sync_data(descriptor)

    with Journal(spool, tick=0.001, operations=replace(REAL, sync_data=sync_data)) as journal:
        journal.append(1, b"0:0:x")
        eventually(lambda: segments(journal.path) == [1, 2])
        size = segment_path(journal.path, 1).stat().st_size
        journal.append(1, b"0:1:x")
        assert segment_path(journal.path, 1).stat().st_size == size
    assert [frame.payload for frame in read_frames(spool)] == [b"0:0:x", b"0:1:x"]


def test_a_directory_without_write_permission_is_named(spool: Path) -> None:
    (spool / "file").touch()
    with pytest.raises(JournalFailed, match="file"):
        Journal(spool / "file")
