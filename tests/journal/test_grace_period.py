"""Stored segments are kept for a while, so that a sink that lost commits gets them again."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.support.journals import (
    CHAINED,
    LOOSE,
    MemorySink,
    assert_kept,
    make_payload,
    make_shipper,
)
from tests.support.waiting import eventually

from assay.journal.heads import HeadFile
from assay.journal.layout import segments, streams
from assay.journal.shipment import GracePeriod
from assay.journal.sink import StreamPosition
from assay.journal.writer import Journal

GRACE = GracePeriod(seconds=600.0, spare_bytes=0, check=5.0)
SEGMENT_BYTES = 4096


@dataclass
class SteadyClock:
    """A steady clock that hardly moves between steps."""

    now: float = 1000.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


@dataclass
class ForgetfulSink(MemorySink):
    """A sink that can lose its newest commits, and be away."""

    saved: list[MemorySink] = field(default_factory=list)
    is_away: bool = False

    def save(self) -> None:
        self.saved.append(MemorySink(*deepcopy((self.rows, self.positions, self.heads))))

    def go_back(self) -> None:
        """Return to the last saved state, or to an empty one."""
        old = self.saved[-1] if self.saved else MemorySink()
        self.rows, self.positions, self.heads = deepcopy((old.rows, old.positions, old.heads))

    def position(self, stream: str) -> StreamPosition | None:
        if self.is_away:
            raise ConnectionError("away")
        return super().position(stream)


def fill(journal: Journal, first: int, number: int) -> list[bytes]:
    records = [make_payload(0, first + each) for each in range(number)]
    for each, record in enumerate(records):
        journal.append(LOOSE if each % 4 == 3 else CHAINED, record)
    return records


def ended_stream(spool: Path, first: int, number: int = 100) -> list[bytes]:
    """The stream of a process that has ended, in several segments."""
    with Journal(spool / "journal", segment_bytes=SEGMENT_BYTES, tick=0.001) as journal:
        return fill(journal, first, number)


def test_stored_segments_are_deleted_after_the_grace_period(spool: Path) -> None:
    clock, sink = SteadyClock(), MemorySink()
    with Journal(spool / "journal", segment_bytes=SEGMENT_BYTES, tick=0.001) as journal:
        moving = make_shipper(spool, sink, journal.stream, grace=GRACE, steady=clock)
        fill(journal, 0, 200)
        eventually(lambda: moving.drain(20) and len(segments(journal.path)) >= 4)
        assert moving.drain(20)
        early = segments(journal.path)[-2]
        clock.now += 400
        fill(journal, 200, 200)
        eventually(lambda: moving.drain(20) and segments(journal.path)[-1] >= early + 4)
        assert moving.drain(20)
        assert segments(journal.path)[0] == 1
        clock.now += 200
        assert moving.drain(20)
        assert segments(journal.path)[0] == early + 1
        clock.now += 400
        assert moving.drain(20)
        assert len(segments(journal.path)) == 1
        assert moving.kept == 0


def test_an_ended_stream_is_kept_unlocked_and_then_deleted(spool: Path) -> None:
    clock, sink = SteadyClock(), MemorySink()
    records = ended_stream(spool, 0)
    moving = make_shipper(spool, sink, grace=GRACE, steady=clock)
    assert moving.drain(20)
    (stream,) = streams(spool / "journal")
    assert sink.payloads == records
    assert (moving.behind, moving.kept > 0) == (0, True)
    other = make_shipper(spool, sink, grace=GRACE, steady=clock)
    assert other.drain(20)
    assert (other.shipped, other.behind) == (0, 0)
    clock.now += GRACE.seconds
    assert moving.drain(20)
    assert streams(spool / "journal") == []
    clock.now += GRACE.check
    assert other.drain(20)
    assert (other.kept, other.trouble) == (0, None)
    assert HeadFile(spool / "heads").newest()[stream] == sink.heads[stream]


def test_kept_streams_hold_no_descriptors(spool: Path) -> None:
    for life in range(10):
        ended_stream(spool, life * 10, 10)
    before = len(list(Path("/dev/fd").iterdir()))
    moving = make_shipper(spool, MemorySink(), grace=GRACE)
    assert moving.drain(20)
    assert len(streams(spool / "journal")) == 10
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.parametrize(
    "bound",
    [
        pytest.param({"most_bytes": 2500}, id="too many bytes"),
        pytest.param({"most_streams": 2}, id="too many streams"),
        pytest.param({"spare_bytes": 1 << 62}, id="too little space on the disk"),
    ],
)
def test_beyond_a_bound_the_oldest_are_deleted_at_once(spool: Path, bound: dict[str, int]) -> None:
    clock, sink = SteadyClock(), MemorySink()
    kept: list[bytes] = []
    for life in range(5):
        kept += ended_stream(spool, life * 20, 20)
    newest = streams(spool / "journal")[-1]
    moving = make_shipper(spool, sink, grace=replace(GRACE, **bound), steady=clock)
    assert moving.drain(20)
    assert moving.drain(20)
    left = streams(spool / "journal")
    assert left == [] if "spare_bytes" in bound else left[-1:] == [newest]
    assert len(left) <= 2
    assert moving.kept <= 2500
    assert_kept(sink, kept, spool)


def test_stored_segments_make_room_on_a_full_disk_while_the_sink_is_away(spool: Path) -> None:
    sink, is_full = ForgetfulSink(), False
    with Journal(spool / "journal", segment_bytes=SEGMENT_BYTES, tick=0.001) as journal:
        moving = make_shipper(spool, sink, journal.stream, grace=GRACE)
        moving._needs_space = lambda: is_full
        kept = fill(journal, 0, 100)
        assert moving.drain(20)
        assert segments(journal.path)[0] == 1
        sink.is_away = True
        kept += fill(journal, 100, 10)
        assert not moving.drain(0)
        is_full = True
        eventually(lambda: not moving.drain(0) and segments(journal.path)[0] > 1)
        sink.is_away = is_full = False
        assert moving.drain(20)
    assert_kept(sink, kept, spool)


@pytest.mark.parametrize("is_saved", [False, True], ids=["to nothing", "to an earlier commit"])
@pytest.mark.parametrize("is_busy", [False, True], ids=["while idle", "under load"])
def test_a_sink_that_went_back_gets_everything_again_once(
    spool: Path, *, is_saved: bool, is_busy: bool
) -> None:
    clock, sink = SteadyClock(), ForgetfulSink()
    kept = ended_stream(spool, 0)
    with Journal(spool / "journal", segment_bytes=SEGMENT_BYTES, tick=0.001) as journal:
        moving = make_shipper(spool, sink, journal.stream, grace=GRACE, steady=clock)
        kept += fill(journal, 100, 60)
        assert not moving.drain(0)
        if is_saved:
            sink.save()
        assert moving.drain(20)
        kept += fill(journal, 160, 60)
        assert moving.drain(20)
        assert set(sink.payloads) == set(kept)
        sink.go_back()
        assert set(sink.payloads) < set(kept)
        if is_busy:
            kept += fill(journal, 220, 60)
        clock.now += GRACE.check
        eventually(lambda: moving.drain(20) and set(sink.payloads) == set(kept))
    assert moving.drain(20)
    assert moving.counts.rewinds >= 1
    assert moving.counts.lost == 0
    assert_kept(sink, kept, spool)


def test_the_next_process_ships_again_what_the_sink_lost(spool: Path) -> None:
    sink = ForgetfulSink()
    kept = ended_stream(spool, 0)
    assert make_shipper(spool, sink, grace=GRACE).drain(20)
    sink.go_back()
    assert make_shipper(spool, sink, grace=GRACE).drain(20)
    assert_kept(sink, kept, spool)


def test_decisions_lost_after_the_grace_period_are_counted(spool: Path) -> None:
    clock, sink = SteadyClock(), ForgetfulSink()
    with Journal(spool / "journal", segment_bytes=SEGMENT_BYTES, tick=0.001) as journal:
        moving = make_shipper(spool, sink, journal.stream, grace=GRACE, steady=clock)
        fill(journal, 0, 200)
        assert moving.drain(20)
        clock.now += GRACE.seconds
        assert moving.drain(20)
        assert segments(journal.path)[0] > 1
        numbers = [row.seq for row in sink.rows[journal.stream] if row.seq]
        sink.go_back()
        fill(journal, 200, 1)
        assert moving.drain(20)
        first = sink.rows[journal.stream][0].seq
    assert moving.counts.lost == first - 1 > 0
    assert moving.counts.lost <= numbers[-1]


def test_a_restored_stream_is_not_deleted_before_it_is_stored_again(spool: Path) -> None:
    clock, sink = SteadyClock(), ForgetfulSink()
    kept = ended_stream(spool, 0)
    moving = make_shipper(spool, sink, grace=GRACE, steady=clock)
    assert moving.drain(20)
    sink.go_back()
    clock.now += GRACE.seconds
    assert moving.drain(20)
    assert moving.drain(20)
    assert_kept(sink, kept, spool)
    assert len(streams(spool / "journal")) == 1
