"""Frames are found whatever bytes surround them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from assay.journal.frame import LARGEST, MARKER, OVERHEAD, Frame, TornBytes, encode, scan

FRAMES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=80)), max_size=8)


@given(FRAMES)
def test_frames_read_back_equal(frames: list[tuple[int, bytes]]) -> None:
    data = b"".join(encode(kind, payload) for kind, payload in frames)
    found = list(scan(data))
    assert [(each.kind, each.payload) for each in found if isinstance(each, Frame)] == frames
    assert len(found) == len(frames)
    assert [each.offset for each in found][1:] == [each.end for each in found][:-1]


def test_a_tail_cut_at_any_byte_is_reported_as_torn() -> None:
    before, last = encode(1, b"first"), encode(2, b"the last one")
    for length in range(1, len(last)):
        found = list(scan(before + last[:length]))
        assert found == [
            Frame(1, b"first", 0, len(before)),
            TornBytes(len(before), len(before) + length),
        ]


@given(FRAMES, st.binary(min_size=1, max_size=60), FRAMES)
def test_garbage_is_skipped_and_reported(
    before: list[tuple[int, bytes]], garbage: bytes, after: list[tuple[int, bytes]]
) -> None:
    data = b"".join(encode(*each) for each in before)
    start = len(data)
    data += garbage + b"".join(encode(*each) for each in after)
    found = list(scan(data))
    assert [
        (each.kind, each.payload) for each in found if isinstance(each, Frame)
    ] == before + after
    assert [each for each in found if isinstance(each, TornBytes)] == [
        TornBytes(start, start + len(garbage))
    ]


def test_any_changed_byte_of_a_frame_loses_that_frame_only() -> None:
    one, two, three = (encode(1, name * 20) for name in (b"a", b"b", b"c"))
    for place in range(len(two)):
        damaged = bytearray(two)
        damaged[place] ^= 0x41
        found = list(scan(one + bytes(damaged) + three))
        assert [each.payload for each in found if isinstance(each, Frame)] == [b"a" * 20, b"c" * 20]
        assert [each for each in found if isinstance(each, TornBytes)] == [
            TornBytes(len(one), len(one) + len(two))
        ]


@pytest.mark.parametrize(
    "cut", [pytest.param(OVERHEAD, id="in the payload"), pytest.param(5, id="in the header")]
)
def test_a_frame_after_a_cut_one_is_found(cut: int) -> None:
    one, two = encode(1, b"a" * 99), encode(1, b"b")
    assert list(scan(one[:cut] + two)) == [TornBytes(0, cut), Frame(1, b"b", cut, cut + len(two))]


def test_markers_without_frames_are_skipped() -> None:
    assert list(scan(MARKER * 50)) == [TornBytes(0, len(MARKER) * 50)]


def test_the_marker_is_not_found_in_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        MARKER[:1].decode()
    with pytest.raises(UnicodeDecodeError):
        MARKER[2:3].decode()


def test_a_length_over_the_maximum_is_damage() -> None:
    header = bytearray(encode(1, b""))
    header[4:8] = (LARGEST + 1).to_bytes(4, "little")
    assert list(scan(bytes(header) + random.Random(1).randbytes(50))) == [
        TornBytes(0, OVERHEAD + 50)
    ]
