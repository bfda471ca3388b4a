"""On a full disk the journal rejects records before any damage, and recovers with free space."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.journals import (
    CHAINED,
    MemorySink,
    assert_kept,
    make_payload,
    make_shipper,
    read_frames,
)
from tests.support.waiting import eventually

from assay.journal.errors import JournalError, JournalFull
from assay.journal.operating_system import REAL
from assay.journal.writer import Journal

SEGMENT_BYTES = 256 << 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a disk of two megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = shutil.which("mount")
    if mount is None or sys.platform != "linux":
        pytest.skip("no tmpfs on this machine")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "none", path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.decode().strip()}")
    yield path
    subprocess.run([shutil.which("umount") or "umount", path], check=True)


def fill(journal: Journal, first: int) -> list[bytes]:
    """Append until the journal is full."""
    kept: list[bytes] = []
    with pytest.raises(JournalFull, match="is full: free some disk space"):  # noqa: PT012 - a loop
        for number in range(first, first + 10_000):
            journal.append(CHAINED, make_payload(0, number, 2000))
            kept.append(make_payload(0, number, 2000))
    return kept


def test_a_disk_filled_by_the_journal_accepts_records_after_shipping(
    small_disk: Path, spool: Path
) -> None:
    sink = MemorySink()
    (spool / "journal").symlink_to(small_disk)
    with Journal(spool / "journal", segment_bytes=SEGMENT_BYTES, tick=0.001) as journal:
        kept = fill(journal, 0)
        assert not journal.accepting
        assert journal.torn == 0
        assert len(kept) > 500
        moving = make_shipper(spool, sink, journal.stream, batch=50)
        assert moving.drain(20)
        eventually(lambda: journal.accepting)
        kept += fill(journal, 10_000)
    assert moving.drain(20)
    assert_kept(sink, kept, spool)
    assert sink.payloads == kept


def test_a_disk_filled_by_others_rejects_records_before_damage(small_disk: Path) -> None:
    with Journal(small_disk, segment_bytes=SEGMENT_BYTES, tick=0.001) as journal:
        other = small_disk / "other"
        with other.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        kept = fill(journal, 0)
        assert sum(map(len, kept)) > SEGMENT_BYTES  # two segments were reserved
        assert not journal.accepting
        assert journal.torn == 0
        assert other.stat().st_size > SEGMENT_BYTES
        other.unlink()
        eventually(lambda: journal.accepting)
        journal.append(CHAINED, make_payload(0, 10_000))
    assert [frame.payload for frame in read_frames(small_disk)] == [*kept, make_payload(0, 10_000)]


def test_a_full_disk_is_freed_although_a_head_must_be_written_first(small_disk: Path) -> None:
    sink = MemorySink()
    with Journal(small_disk / "journal", segment_bytes=SEGMENT_BYTES, tick=0.001) as journal:
        moving = make_shipper(small_disk, sink, journal.stream, batch=50)
        kept = fill(journal, 0)
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        assert os.statvfs(small_disk).f_bavail == 0
        assert moving.drain(20)
        eventually(lambda: journal.accepting)
        kept += fill(journal, 10_000)
        assert moving.drain(20)
    assert moving.drain(20)
    assert_kept(sink, kept, small_disk)


def test_a_write_that_does_not_fit_damages_nothing_without_a_reservation(small_disk: Path) -> None:
    unreserved = replace(REAL, reserve=lambda _descriptor, _size: None)
    with Journal(small_disk, segment_bytes=8 << 20, tick=0.001, operations=unreserved) as journal:
        kept = fill_roughly(journal)
        assert journal.torn >= 1
    assert [frame.payload for frame in read_frames(small_disk)] == kept


def fill_roughly(journal: Journal) -> list[bytes]:
    kept: list[bytes] = []
    with pytest.raises(JournalError):  # noqa: PT012 - a short write or a full disk
        for number in range(10_000):
            journal.append(CHAINED, make_payload(0, number, 2000))
            kept.append(make_payload(0, number, 2000))
    assert os.statvfs(journal.directory).f_bavail == 0
    return kept
