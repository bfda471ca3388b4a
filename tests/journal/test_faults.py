"""The journal's guarantees hold when any of its operations or any call of the sink fails."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, fields
from itertools import count
from pathlib import Path
from typing import Literal

import pytest
from tests.support.journals import (
    CHAINED,
    LOOSE,
    PATIENCE,
    Fault,
    Faults,
    FaultySink,
    MemorySink,
    assert_kept,
    make_payload,
    make_shipper,
)
from tests.support.waiting import eventually

from assay.journal.errors import JournalError
from assay.journal.operating_system import FileOperations
from assay.journal.writer import Journal

RECORDS = 16
SEGMENT_BYTES = 1 << 10
MORE_THAN_ENOUGH = 2000


@dataclass
class Run:
    """A journal and its shipper from start to end, in which one operation may fail."""

    spool: Path
    faults: Faults
    sink: MemorySink
    acknowledged: list[bytes] = field(default_factory=list)
    refused: int = 0

    def live(self, mode: Literal["write", "sync"], *, once: bool) -> None:
        operations = self.faults.operations()
        try:
            journal = Journal(
                self.spool / "journal",
                mode=mode,
                segment_bytes=SEGMENT_BYTES,
                tick=0.001,
                operations=operations,
            )
        except JournalError:
            return
        moving = make_shipper(
            self.spool, FaultySink(self.sink, self.faults), journal.stream, operations
        )
        for number in range(RECORDS):
            if once:
                eventually(lambda: journal.accepting)
            self.append(journal, number)
            if number % 6 == 5:
                assert moving.drain(PATIENCE if once else 0) or not once
        if once:
            assert moving.drain(PATIENCE)
            assert self.refused <= 1
        try:
            journal.close()
        except JournalError:
            assert self.faults.struck
        if once:
            assert moving.drain(PATIENCE)
        while not (once or self.faults.struck or moving.drain(0)):
            pass
        moving.stop()
        moving.drain(0)  # releases what it claimed

    def append(self, journal: Journal, number: int) -> None:
        record = make_payload(0, number, 60)
        try:
            journal.append(LOOSE if number % 5 == 4 else CHAINED, record)
        except JournalError:
            assert self.faults.struck
            self.refused += 1
        else:
            self.acknowledged.append(record)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["write", "sync"])
@pytest.mark.parametrize("kind", ["refused", "half done", "for good"])
@pytest.mark.parametrize(
    "name", [*(each.name for each in fields(FileOperations)), "store", "position"]
)
def test_no_failure_loses_or_duplicates_an_acknowledged_record(
    spool: Path, mode: Literal["write", "sync"], kind: Fault, name: str
) -> None:
    for k in count(1):
        place = spool / str(k)
        place.mkdir()
        run = Run(place, Faults(name, k, kind, errno.ENOSPC if k % 2 else errno.EIO), MemorySink())
        run.live(mode, once=kind != "for good")
        after = make_shipper(place, run.sink)
        assert after.drain(PATIENCE)
        assert_kept(run.sink, run.acknowledged, place)
        assert not [path for path in (place / "journal").glob("*") if path.is_dir()]
        if not run.faults.struck:
            assert len(run.acknowledged) == RECORDS
            break
        assert k < MORE_THAN_ENOUGH
    assert k > 1, "it was never called"
