"""A journal whose files are deleted loses nothing acknowledged while its process lives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import pytest
from tests.support.directories import delete_at_once, exchange
from tests.support.journals import CHAINED, MemorySink, assert_kept, make_payload, make_shipper
from tests.support.waiting import eventually

from assay.journal.errors import JournalError
from assay.journal.layout import LOCK, claim_stream, segment_path, segments
from assay.journal.writer import Journal

Mode = Literal["write", "sync"]


def append(journal: Journal, numbers: range) -> list[bytes]:
    """Append records; return those that were acknowledged."""
    kept: list[bytes] = []
    for number in numbers:
        try:
            journal.append(CHAINED, make_payload(0, number))
        except JournalError:
            continue
        kept.append(make_payload(0, number))
    return kept


def fill(journal: Journal, numbers: range) -> list[bytes]:
    kept = append(journal, numbers)
    assert len(kept) == len(numbers)
    return kept


@pytest.mark.parametrize("mode", ["write", "sync"])
@pytest.mark.parametrize(
    "what", ["the directory", "the stream", "a segment", "the lock", "the directory, by a move"]
)
def test_a_deleted_file_loses_no_record(spool: Path, mode: Mode, what: str) -> None:
    sink = MemorySink()
    with Journal(spool / "journal", mode=mode, segment_bytes=1 << 12, tick=0.001) as journal:
        moving = make_shipper(spool, sink, journal.stream)
        kept = fill(journal, range(30))
        assert moving.drain(20)
        kept += fill(journal, range(30, 35))
        if what == "the directory, by a move":
            (spool / "journal").rename(spool / "elsewhere")
        elif what == "the directory":
            delete_at_once(spool / "journal")
        elif what == "the stream":
            delete_at_once(journal.path)
        elif what == "the lock":
            (journal.path / LOCK).unlink()
        else:
            segment_path(journal.path, segments(journal.path)[-1]).unlink()
        kept += append(journal, range(35, 40))
        eventually(lambda: journal.restored or what == "a segment")
        eventually(lambda: journal.accepting)
        kept += fill(journal, range(40, 80))
        eventually(lambda: moving.drain(20) and set(kept) <= set(sink.payloads))
        assert claim_stream(journal.path) is None  # still locked by this process
    assert moving.drain(20)
    assert_kept(sink, kept, spool)


def test_records_are_rejected_while_the_directory_cannot_be_created(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal", segment_bytes=1 << 12, tick=0.001) as journal:
        moving = make_shipper(spool, sink, journal.stream)
        kept = fill(journal, range(5))
        (spool / "file").touch()
        exchange(spool / "file", spool / "journal")  # at once: a missing directory is restored
        shutil.rmtree(spool / "file")
        kept += append(journal, range(5, 10))
        eventually(lambda: not journal.accepting)
        assert journal.trouble is not None
        assert append(journal, range(10, 11)) == []
        assert not moving.drain(0.05)
        (spool / "journal").unlink()
        eventually(lambda: journal.accepting)
        kept += fill(journal, range(20, 30))
        eventually(lambda: moving.drain(20) and set(kept) <= set(sink.payloads))
    assert moving.drain(20)
    assert_kept(sink, kept, spool)


def test_a_directory_deleted_just_before_the_end_loses_no_record(spool: Path) -> None:
    sink = MemorySink()
    with Journal(spool / "journal", tick=60) as journal:
        kept = fill(journal, range(5))
        delete_at_once(spool / "journal")
    assert make_shipper(spool, sink).drain(20)
    assert_kept(sink, kept, spool)
