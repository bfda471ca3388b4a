"""Every record reaches the sink once and in order, whatever fails on the way; then its segment goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread

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
from assay.journal.chain import Head, HeadSigner, genesis_link
from assay.journal.chain_signer import ChainSigner
from assay.journal.heads import HeadFile
from assay.journal.layout import segments, streams
from assay.journal.shipper import Shipper, ShippingPace
from assay.journal.sink import JournalRecord, StreamPosition
from assay.journal.writer import Journal


def fill(
    journal: Journal, number: int, first: int = 0, kinds: Sequence[int] = (CHAINED,)
) -> list[bytes]:
    records = [make_payload(0, first + each) for each in range(number)]
    for each, record in enumerate(records):
        journal.append(kinds[each % len(kinds)], record)
    return records


class Away(MemorySink):
    """A sink that is away until it comes back: before a transaction, or after it without saying so."""

    gone = True
    after = False
    calls = 0

    def position(self, stream: str) -> StreamPosition | None:
        self.calls += 1
        if self.gone and not self.after:
            raise ConnectionError("away")
        return super().position(stream)

    def store(
        self, stream: str, records: Sequence[JournalRecord], position: StreamPosition, head: Head
    ) -> None:
        self.calls += 1
        super().store(stream, records, position, head)
        if self.gone:
            raise ConnectionError("lost after the commit")


def test_a_living_stream_and_those_left_behind_are_shipped(spool: Path) -> None:
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
        assert (moving.behind, moving.shipped, moving.torn, moving.trouble) == (0, 300, 0, None)
    assert moving.drain(20)
    assert streams(spool / "journal") == []
    assert_kept(sink, kept, spool)


def test_the_stream_of_another_living_process_is_left_to_it(spool: Path) -> None:
    with Journal(spool / "journal") as other, Journal(spool / "journal") as journal:
        fill(other, 5)
        fill(journal, 5, 5)
        sink = MemorySink()
        assert make_shipper(spool, sink, journal.stream).drain(20)
        assert list(sink.rows) == [journal.stream]


def test_kinds_outside_the_chain_have_no_number(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal") as journal:
        kept = fill(journal, 20, kinds=(CHAINED, LOOSE, LOOSE))
    assert make_shipper(spool, sink).drain(20)
    assert_kept(sink, kept, spool)
    assert [row.seq for row in sink.rows[journal.stream]][:7] == [1, 0, 0, 2, 0, 0, 3]


def test_only_records_outside_the_chain_need_no_head_outside(spool: Path) -> None:
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
def test_a_sink_that_is_away_loses_and_doubles_nothing(spool: Path, *, after: bool) -> None:
    sink = Away()
    sink.after = after
    with Journal(spool / "journal", segment_bytes=4096, tick=0.001) as journal:
        moving = make_shipper(spool, sink, journal.stream)
        thread = Thread(target=moving.run)
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


def test_draining_into_a_sink_that_is_away_ends_in_time(spool: Path) -> None:
    with Journal(spool / "journal") as journal:
        fill(journal, 1)
    assert not make_shipper(spool, Away()).drain(0.05)


def test_one_stream_that_the_sink_refuses_does_not_hold_up_the_others(spool: Path) -> None:
    class Picky(MemorySink):
        def store(
            self,
            stream: str,
            records: Sequence[JournalRecord],
            position: StreamPosition,
            head: Head,
        ) -> None:
            if any(b"poison" in record.payload for record in records):
                raise ValueError("poison")
            super().store(stream, records, position, head)

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


def test_heads_are_known_outside_before_segments_go(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal") as journal:
        fill(journal, 20)
    (spool / "heads").mkdir()  # no file can be written there
    with pytest.raises(IsADirectoryError):
        make_shipper(spool, sink)
    (spool / "heads").rmdir()
    moving = make_shipper(spool, sink)
    (spool / "heads").mkdir()
    assert not moving.drain(0.1)
    assert sink.payloads == [frame.payload for frame in read_frames(spool / "journal")]
    (spool / "heads").rmdir()
    assert moving.drain(20)
    assert streams(spool / "journal") == []
    assert_kept(sink, sink.payloads, spool)


def test_a_sink_that_was_set_back_gets_again_what_is_still_there(spool: Path) -> None:
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


def test_a_sink_that_was_set_back_shows_a_gap_where_segments_are_gone(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal", segment_bytes=4096, tick=0.001) as journal:
        fill(journal, 200)
        assert make_shipper(spool, sink, journal.stream).drain(20)
        assert segments(journal.path)[0] > 1
        known = HeadFile(spool / "heads").last(journal.stream)
        assert known is not None
        sink.rows.clear()
        sink.positions.clear()
        fill(journal, 5, 200)
        assert make_shipper(spool, sink, journal.stream).drain(20)
    assert sink.rows[journal.stream][0].seq == known.seq + 1 > 1


def test_stopping_is_immediate(spool: Path) -> None:
    entered = Event()

    class Once(MemorySink):
        def store(
            self,
            stream: str,
            records: Sequence[JournalRecord],
            position: StreamPosition,
            head: Head,
        ) -> None:
            super().store(stream, records, position, head)
            entered.set()

    with Journal(spool / "journal") as journal:
        notary = ChainSigner(
            HeadSigner(spool / "key"), HeadFile(spool / "heads"), frozenset({CHAINED})
        )
        moving = Shipper(
            spool / "journal", Once(), notary, own=journal.stream, pace=ShippingPace(idle=3600.0)
        )
        thread = Thread(target=moving.run)
        fill(journal, 1)
        thread.start()
        assert entered.wait(20)
        moving.stop()
        thread.join(20)
        assert not thread.is_alive()


def test_waits_grow_to_the_longest_and_are_drawn_anew() -> None:
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


def test_a_torn_frame_takes_no_number(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal") as journal:
        kept = fill(journal, 3)
        with (journal.path / "00000001.seg").open("ab") as segment:
            segment.write(b"torn")
        kept += fill(journal, 3, 3)
    moving = make_shipper(spool, sink)
    assert moving.drain(20)
    assert moving.torn == 1
    assert_kept(sink, kept, spool)
