"""Every record reaches the sink once and in order despite failures, then segments are deleted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest
from tests.support.journals import (
    CHAINED,
    LOOSE,
    MemorySink,
    assert_kept,
    make_payload,
    make_shipper,
    read_frames,
)
from tests.support.waiting import eventually

from assay.journal.backoff import Backoff
from assay.journal.chain import HeadSigner, genesis_link
from assay.journal.heads import ChainSigner, HeadFile
from assay.journal.layout import segments, streams
from assay.journal.shipper import Shipper, ShippingPace
from assay.journal.sink import RecordBatch, StreamPosition
from assay.journal.worker_thread import WorkerThread
from assay.journal.writer import Journal


def fill(
    journal: Journal, number: int, first: int = 0, kinds: Sequence[int] = (CHAINED,)
) -> list[bytes]:
    records = [make_payload(0, first + each) for each in range(number)]
    for each, record in enumerate(records):
        journal.append(kinds[each % len(kinds)], record)
    return records


class Away(MemorySink):
    """A sink that fails for a while, before a transaction or after its commit."""

    gone = True
    after = False
    calls = 0

    def position(self, stream: str) -> StreamPosition | None:
        self.calls += 1
        if self.gone and not self.after:
            raise ConnectionError("away")
        return super().position(stream)

    def store(self, batch: RecordBatch) -> None:
        self.calls += 1
        super().store(batch)
        if self.gone:
            raise ConnectionError("lost after the commit")


def test_active_and_abandoned_streams_are_shipped(spool: Path) -> None:
    sink = MemorySink()
    kept: list[bytes] = []
    for life in range(2):
        with Journal(spool / "journal", segment_bytes=4096, tick=0.001) as journal:
            kept += fill(journal, 100, 100 * life)
    with Journal(spool / "journal", segment_bytes=4096, tick=0.001) as journal:
        kept += fill(journal, 100, 200)
        moving = make_shipper(spool, sink, journal.stream)
        assert moving.drain(20)
        assert sorted(sink.payloads) == sorted(kept)
        assert streams(spool / "journal") == [journal.stream]
        assert segments(journal.path) == segments(journal.path)[-1:]
        assert (moving.behind, moving.shipped, moving.trouble) == (0, 300, None)
        assert moving.counts.torn == 0
    assert moving.drain(20)
    assert streams(spool / "journal") == []
    assert_kept(sink, kept, spool)


def test_the_stream_of_another_running_process_is_not_shipped(spool: Path) -> None:
    with Journal(spool / "journal") as other, Journal(spool / "journal") as journal:
        fill(other, 5)
        fill(journal, 5, 5)
        sink = MemorySink()
        assert make_shipper(spool, sink, journal.stream).drain(20)
        assert list(sink.rows) == [journal.stream]


def test_records_outside_the_chain_have_no_number(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal") as journal:
        kept = fill(journal, 20, kinds=(CHAINED, LOOSE, LOOSE))
    assert make_shipper(spool, sink).drain(20)
    assert_kept(sink, kept, spool)
    assert [row.seq for row in sink.rows[journal.stream]][:7] == [1, 0, 0, 2, 0, 0, 3]


def test_records_outside_the_chain_need_no_signed_head(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal") as journal:
        kept = fill(journal, 20, kinds=(LOOSE,))
    assert make_shipper(spool, sink).drain(20)
    assert sink.payloads == kept
    assert HeadFile(spool / "heads").read() == []
    assert sink.heads[journal.stream].chain == genesis_link(journal.stream)


@pytest.mark.parametrize(
    "after",
    [pytest.param(False, id="before the commit"), pytest.param(True, id="after the commit")],
)
def test_an_unavailable_sink_loses_and_duplicates_nothing(spool: Path, *, after: bool) -> None:
    sink = Away()
    sink.after = after
    with Journal(spool / "journal", segment_bytes=4096, tick=0.001) as journal:
        moving = make_shipper(spool, sink, journal.stream)
        thread = WorkerThread("shipper", moving.run_round, late_after=60)
        thread.start()
        kept = fill(journal, 100)
        eventually(lambda: moving.failures >= 10)
        assert isinstance(moving.trouble, ConnectionError)
        assert len(read_frames(spool / "journal", [journal.stream])) + len(sink.payloads) >= 100
        sink.gone = False
        eventually(lambda: len(sink.payloads) == 100 and moving.trouble is None)
    assert moving.drain(20)
    moving.stop()
    thread.join()
    assert_kept(sink, kept, spool)


def test_draining_into_an_unavailable_sink_ends_in_time(spool: Path) -> None:
    with Journal(spool / "journal") as journal:
        fill(journal, 1)
    assert not make_shipper(spool, Away()).drain(0.05)


def test_a_stream_that_the_sink_rejects_does_not_block_the_others(spool: Path) -> None:
    class Picky(MemorySink):
        def store(self, batch: RecordBatch) -> None:
            if any(b"poison" in record.payload for record in batch.records):
                raise ValueError("poison")
            super().store(batch)

    with Journal(spool / "journal") as bad:
        bad.append(CHAINED, b"9:0:poison")
    sink = Picky()
    with Journal(spool / "journal") as journal:
        kept = fill(journal, 50)
    moving = make_shipper(spool, sink)
    assert not moving.drain(0.2)
    assert sink.payloads == kept
    assert streams(spool / "journal") == [bad.stream]
    assert isinstance(moving.trouble, ValueError)


def test_signed_heads_are_written_before_segments_are_deleted(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal") as journal:
        fill(journal, 20)
    (spool / "heads").mkdir()  # so that no file can be written
    with pytest.raises(IsADirectoryError):
        make_shipper(spool, sink)
    (spool / "heads").rmdir()
    moving = make_shipper(spool, sink)
    (spool / "heads").unlink()
    (spool / "heads").mkdir()
    assert not moving.drain(0.1)
    assert sink.payloads == [frame.payload for frame in read_frames(spool / "journal")]
    (spool / "heads").rmdir()
    assert moving.drain(20)
    assert streams(spool / "journal") == []
    assert_kept(sink, sink.payloads, spool)


def test_a_sink_restored_from_a_backup_gets_the_remaining_records_again(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal") as journal:
        kept = fill(journal, 30)
        moving = make_shipper(spool, sink, journal.stream)
        assert moving.drain(20)
        moving.stop()
        sink.rows.clear()
        sink.positions.clear()
        assert make_shipper(spool, sink, journal.stream).drain(20)
    assert sink.payloads == kept
    assert [row.seq for row in sink.rows[journal.stream]] == list(range(1, 31))


def test_a_sink_restored_from_a_backup_has_a_gap_for_deleted_segments(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal", segment_bytes=4096, tick=0.001) as journal:
        fill(journal, 200)
        assert make_shipper(spool, sink, journal.stream).drain(20)
        assert segments(journal.path)[0] > 1
        known = HeadFile(spool / "heads").newest()[journal.stream]
        sink.rows.clear()
        sink.positions.clear()
        fill(journal, 5, 200)
        assert make_shipper(spool, sink, journal.stream).drain(20)
    assert sink.rows[journal.stream][0].seq == known.seq + 1 > 1


def test_stopping_is_immediate(spool: Path) -> None:
    entered = Event()

    class Once(MemorySink):
        def store(self, batch: RecordBatch) -> None:
            super().store(batch)
            entered.set()

    with Journal(spool / "journal") as journal:
        signer = ChainSigner(
            HeadSigner(spool / "key"), HeadFile(spool / "heads"), frozenset({CHAINED})
        )
        moving = Shipper(
            spool / "journal", Once(), signer, own=journal.stream, pace=ShippingPace(idle=3600.0)
        )
        thread = WorkerThread("shipper", moving.run_round, late_after=60)
        fill(journal, 1)
        thread.start()
        assert entered.wait(20)
        moving.stop()
        assert thread.join(20)


def test_waits_grow_to_the_maximum_with_new_jitter_each_time() -> None:
    longest = Backoff(draw=lambda: 1.0)
    assert [longest.wait(failures) for failures in (1, 2, 3, 6, 7, 5000)] == [
        0.1,
        0.2,
        0.4,
        3.2,
        5.0,
        5.0,
    ]
    assert Backoff(draw=lambda: 0.25).wait(2) == 0.05


def test_a_torn_frame_gets_no_number(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal") as journal:
        kept = fill(journal, 3)
        with (journal.path / "00000001.seg").open("ab") as segment:
            segment.write(b"torn")
        kept += fill(journal, 3, 3)
    moving = make_shipper(spool, sink)
    assert moving.drain(20)
    assert moving.counts.torn == 1
    assert_kept(sink, kept, spool)
