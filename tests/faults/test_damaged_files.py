"""A damaged segment costs the damaged records alone, wherever it is cut off or altered."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.directories import fast_directory
from tests.support.journals import CHAINED, MemorySink, assert_kept, make_payload, make_shipper

from assay.journal.frame import Frame, encode, scan
from assay.journal.layout import segment_path, segments, streams
from assay.journal.recovery import recover
from assay.journal.writer import Journal

RECORDS = 12
SEGMENT_BYTES = 1 << 10


@pytest.fixture(scope="module")
def abandoned() -> Iterator[Path]:
    """A directory with the stream of a process that died."""
    with fast_directory("assay-damage-") as directory:
        journal = Journal(directory / "journal", segment_bytes=SEGMENT_BYTES, tick=0.001)
        for number in range(RECORDS):
            journal.append(CHAINED, make_payload(0, number))
        journal.close()
        yield directory


def segment_files(spool: Path) -> list[Path]:
    (name,) = streams(spool / "journal")
    stream = spool / "journal" / name
    return [segment_path(stream, number) for number in segments(stream)]


def payloads(data: bytes) -> list[bytes]:
    return [found.payload for found in scan(data) if isinstance(found, Frame)]


def ship_damaged(
    abandoned: Path, place: Path, file_number: int, damage: Callable[[bytes], bytes]
) -> tuple[list[bytes], list[bytes], int]:
    """Damage one segment of a copy; return the records before, those shipped, and the damages."""
    shutil.copytree(abandoned, place)
    files = segment_files(place)
    before = [payload for file in files for payload in payloads(file.read_bytes())]
    files[file_number].write_bytes(damage(files[file_number].read_bytes()))
    found = recover(place / "journal")
    assert recover(place / "journal")[0].cut_bytes == 0
    sink = MemorySink()
    shipper = make_shipper(place, sink)
    assert shipper.drain(20.0)
    assert_kept(sink, [], place)
    shutil.rmtree(place)
    return before, sink.payloads, found[0].torn_frames


def sizes_to_try(whole: bytes) -> list[int]:
    """The ends of frames, two bytes around each, and every eleventh place."""
    ends = [0, *(found.end for found in scan(whole))]
    near = {end + by for end in ends for by in (-2, -1, 0, 1, 2)}
    return sorted({*near, *range(0, len(whole), 11)} & set(range(len(whole) + 1)))


@pytest.mark.slow
@pytest.mark.parametrize("is_last", [True, False])
def test_a_segment_that_is_cut_off_anywhere_keeps_its_whole_records(
    abandoned: Path, tmp_path: Path, *, is_last: bool
) -> None:
    file_number = len(segment_files(abandoned)) - 1 if is_last else 0
    whole = segment_files(abandoned)[file_number].read_bytes()
    lost = payloads(whole)
    for size in sizes_to_try(whole):

        def cut(data: bytes, size: int = size) -> bytes:
            return data[:size]

        before, shipped, _ = ship_damaged(abandoned, tmp_path / "copy", file_number, cut)
        kept = payloads(whole[:size])
        assert shipped == [each for each in before if each not in lost or each in kept], size


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_costs_one_record_and_is_counted(
    abandoned: Path, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    files = segment_files(abandoned)
    for _ in range(60):
        file_number = draw.randrange(len(files))
        data = files[file_number].read_bytes()
        place, bit = draw.randrange(len(data)), 1 << draw.randrange(8)

        def flip(data: bytes, place: int = place, bit: int = bit) -> bytes:
            return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]

        before, shipped, torn = ship_damaged(abandoned, tmp_path / "copy", file_number, flip)
        (hit,) = (found for found in scan(data) if found.offset <= place < found.end)
        assert isinstance(hit, Frame)
        assert encode(hit.kind, hit.payload) == data[hit.offset : hit.end]
        assert shipped == [each for each in before if each != hit.payload], (place, bit)
        assert torn == 1
