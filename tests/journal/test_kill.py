"""A process that is killed at a random time loses and duplicates no acknowledged record."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.journals import MemorySink, assert_kept, assert_order, make_shipper, read_frames

from assay.journal.recovery import recover

ROOT = Path(__file__).resolve().parents[2]
APPENDER = ROOT / "tests" / "support" / "journal_appender.py"
ROUNDS = 5


def killed_after(acknowledgements: int, directory: Path, mode: str) -> list[bytes]:
    """Run a process and kill it; return the ids that it acknowledged."""
    command = [sys.executable, str(APPENDER), str(directory), mode]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "service")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(acknowledgements)]
        assert all(lines), "it ended by itself"
        child.kill()
        lines += child.stdout.read().splitlines(keepends=True)
    return [line.rstrip() for line in lines if line.endswith(b"\n")]


def identity(record: bytes) -> bytes:
    return record[: record.rindex(b":") + 1]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["write", "sync"])
def test_a_kill_loses_or_duplicates_no_acknowledged_record(spool: Path, mode: str) -> None:
    draw = random.Random(20)
    directory = spool / "journal"
    sink = MemorySink()
    for _ in range(ROUNDS):
        ids = killed_after(draw.randrange(1, 3000), directory, mode)
        streams = [each.stream for each in recover(directory)]
        assert len(streams) == 1
        found = [frame.payload for frame in read_frames(directory, streams)]
        assert set(ids) <= {identity(record) for record in found}
        assert len(set(found)) == len(found)
        assert_order(found)
        assert make_shipper(spool, sink, batch=500).drain(20)
        assert [row.payload for row in sink.rows[streams[0]]] == found
        assert not (directory / streams[0]).exists()
        alone = MemorySink({streams[0]: sink.rows[streams[0]]}, heads=sink.heads)
        assert_kept(alone, [], spool)
