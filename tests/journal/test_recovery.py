"""Streams of ended processes are recovered; streams of running ones are not touched."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from tests.support.journals import make_payload, read_frames
from tests.support.waiting import eventually

from assay.journal.frame import Frame, encode
from assay.journal.layout import (
    LOCK,
    NEXT,
    SEALED,
    create_stream,
    segment_path,
    segments,
    streams,
)
from assay.journal.operating_system import REAL
from assay.journal.reader import StreamReader
from assay.journal.recovery import RecoveredStream, recover
from assay.journal.writer import Journal

RECORDS = [make_payload(0, number) for number in range(5)]


def left_behind(directory: Path, *contents: bytes, last: str = SEALED) -> str:
    """Write a stream of an ended process; return its name."""
    claim = create_stream(directory)
    for number, content in enumerate(contents, start=1):
        segment_path(claim.path, number, last if number == len(contents) else SEALED).write_bytes(
            content
        )
    claim.release()
    return claim.path.name


def frames(*records: bytes) -> bytes:
    return b"".join(encode(1, record) for record in records)


def test_a_tail_torn_at_any_byte_is_cut_and_reported(spool: Path) -> None:
    last = encode(1, b"the last one")
    for length in range(len(last)):
        directory = spool / str(length)
        stream = left_behind(directory, frames(*RECORDS) + last[:length])
        assert recover(directory) == [RecoveredStream(stream, 5, length, int(length > 0))]
        assert segment_path(directory / stream, 1).read_bytes() == frames(*RECORDS)
        assert recover(directory) == [RecoveredStream(stream, 5, 0, 0)]


def test_garbage_in_the_middle_is_reported_and_skipped(spool: Path) -> None:
    stream = left_behind(
        spool, frames(*RECORDS[:2]) + b"garbage" + frames(*RECORDS[2:]), frames(b"0:9:x")
    )
    assert recover(spool) == [RecoveredStream(stream, 6, 0, 1)]
    assert [frame.payload for frame in read_frames(spool)] == [*RECORDS, b"0:9:x"]


def test_a_reserved_segment_is_recovered_only_if_it_has_records(spool: Path) -> None:
    stream = left_behind(spool, frames(*RECORDS), frames(b"0:9:x"), last=NEXT)
    other = left_behind(spool, frames(b"1:0:x"), b"", last=NEXT)
    assert [(each.stream, each.frames) for each in recover(spool)] in (
        [(stream, 6), (other, 1)],
        [(other, 1), (stream, 6)],  # streams of the same millisecond have no order
    )
    assert (segments(spool / stream), segments(spool / other)) == ([1, 2], [1])
    assert segments(spool / other, NEXT) == []


def test_a_recovered_stream_survives_a_power_loss(spool: Path) -> None:
    """Names and lengths are on the disk when `recover` returns."""
    stream = left_behind(spool, frames(*RECORDS) + b"torn", frames(b"0:9:x"), last=NEXT)
    names: list[str] = []
    lengths: dict[int, int] = {}

    def sync_directory(path: str | os.PathLike[str]) -> None:
        names[:] = sorted(each.name for each in Path(path).iterdir())

    def sync_data(descriptor: int) -> None:
        state = os.fstat(descriptor)
        lengths[state.st_ino] = state.st_size

    recover(spool, replace(REAL, sync_directory=sync_directory, sync_data=sync_data))
    assert names == ["00000001.seg", "00000002.seg", LOCK]
    first = segment_path(spool / stream, 1).stat()
    assert lengths == {first.st_ino: first.st_size}


def test_a_stream_that_is_being_created_is_not_recovered(spool: Path) -> None:
    """A process creates and claims its stream while it holds the lock of the directory."""
    (spool / ("0" * 32)).mkdir()
    descriptor = os.open(spool / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    recovery = Thread(target=recover, args=(spool,))
    recovery.start()
    recovery.join(0.2)
    assert recovery.is_alive()
    os.close(descriptor)
    recovery.join()


def test_a_new_stream_is_on_the_disk_before_it_is_used(spool: Path) -> None:
    synced: list[tuple[Path, list[str]]] = []

    def sync_directory(path: str | os.PathLike[str]) -> None:
        synced.append((Path(path), streams(Path(path))))

    claim = create_stream(spool, replace(REAL, sync_directory=sync_directory))
    claim.release()
    assert synced == [(spool, [claim.path.name])]


def test_an_empty_and_a_missing_directory_are_valid(spool: Path) -> None:
    assert recover(spool) == []
    assert recover(spool / "nothing") == []


def test_the_stream_of_a_running_process_is_not_recovered(spool: Path) -> None:
    with Journal(spool) as journal:
        journal.append(1, b"0:0:x")
        with segment_path(journal.path, 1).open("ab") as segment:
            segment.write(b"torn")
        assert recover(spool) == []
        assert segment_path(journal.path, 1).read_bytes().endswith(b"torn")
    assert recover(spool) == [RecoveredStream(journal.stream, 1, 4, 1)]


def test_a_reader_follows_a_stream_while_it_is_written(spool: Path) -> None:
    with Journal(spool, segment_bytes=1 << 10, tick=0.001) as journal:
        reader = StreamReader(journal.path)
        found: list[Frame] = []
        for number in range(100):
            journal.append(1, make_payload(0, number))
            found += reader.read(3)

        def all_found() -> bool:
            found.extend(reader.read(10))
            return len(found) == 100

        eventually(all_found)
        assert not reader.finished
    assert [frame.payload for frame in found] == [make_payload(0, number) for number in range(100)]


def test_a_reader_continues_where_another_stopped(spool: Path) -> None:
    stream = left_behind(spool, frames(*RECORDS[:2]), frames(*RECORDS[2:]))
    found: list[bytes] = []
    segment, offset = 1, 0
    for _ in RECORDS:
        reader = StreamReader(spool / stream, segment, offset, final=True)
        found += [frame.payload for frame in reader.read(1)]
        segment, offset = reader.segment, reader.offset
    assert found == RECORDS


def test_damage_in_a_growing_segment_is_read_again_later(spool: Path) -> None:
    stream = left_behind(spool, frames(RECORDS[0]) + b"half a frame" + frames(RECORDS[1]))
    reader = StreamReader(spool / stream)
    assert [frame.payload for frame in reader.read(10)] == RECORDS[:1]
    assert (reader.read(10), reader.torn) == ([], 0)
    segment_path(spool / stream, 2).touch()
    assert [frame.payload for frame in reader.read(10)] == RECORDS[1:2]
    assert reader.torn == 1


def test_a_long_frame_that_contains_a_frame_is_read_as_one(spool: Path) -> None:
    inner = frames(b"inner") + bytes(3 << 20)
    stream = left_behind(spool, frames(b"0:0:x", inner, b"0:1:x"))
    reader = StreamReader(spool / stream, final=True)
    found = [frame.payload for _ in range(3) for frame in reader.read(10)]
    assert found == [b"0:0:x", inner, b"0:1:x"]


def test_reading_stops_at_the_byte_limit(spool: Path) -> None:
    stream = left_behind(spool, frames(*RECORDS))
    assert len(StreamReader(spool / stream, final=True).read(10, most=len(RECORDS[0]) + 1)) == 2


def test_the_active_segment_never_counts_as_read(spool: Path) -> None:
    with Journal(spool, segment_bytes=1 << 10, tick=0.001) as journal:
        for number in range(50):
            journal.append(1, make_payload(0, number))
        eventually(lambda: len(segments(journal.path)) > 2)
        reader = StreamReader(journal.path, 1000)
        assert reader.read_segments == segments(journal.path)[:-1]


def test_segments_count_as_read_once_their_last_record_was_read(spool: Path) -> None:
    stream = left_behind(spool, *[frames(record) for record in RECORDS])
    reader = StreamReader(spool / stream, final=True)
    counts = []
    while not reader.finished:
        reader.read(1)
        counts.append(len(reader.read_segments))
    assert counts == [0, 1, 2, 3, 4, 5]


def test_a_failed_truncation_is_retried(spool: Path) -> None:
    stream = left_behind(spool, frames(*RECORDS) + b"torn")

    def truncate(_descriptor: int, _size: int) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        recover(spool, replace(REAL, truncate=truncate))
    assert recover(spool) == [RecoveredStream(stream, 5, 4, 1)]


def test_recovery_closes_every_segment_that_it_cuts(spool: Path) -> None:
    for number in range(20):
        left_behind(spool / str(number), frames(*RECORDS) + b"torn")
    before = len(list(Path("/dev/fd").iterdir()))
    for number in range(20):
        (found,) = recover(spool / str(number))
        assert found.cut_bytes == 4
    assert len(list(Path("/dev/fd").iterdir())) == before
