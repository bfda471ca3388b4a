"""The file of heads stays small, whatever fails and however many processes append."""

from __future__ import annotations

import errno
import subprocess
import sys
import tracemalloc
from dataclasses import fields
from itertools import count
from pathlib import Path

import pytest
from tests.support.journals import Fault, Faults
from tests.support.processes import environment

from assay.journal.chain import Head, HeadSigner, genesis_link
from assay.journal.heads import HeadFile
from assay.journal.operating_system import FileOperations

STREAMS = tuple(f"{number:032x}" for number in range(5))
LARGE = 4 << 10
APPENDERS = 3
APPENDED = 150
APPENDER = """
import sys
from pathlib import Path
from assay.journal.chain import HeadSigner, genesis_link
from assay.journal.heads import HeadFile

folder, stream, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
signer, file = HeadSigner(folder / "key"), HeadFile(folder / "heads", large=2048)
for seq in range(1, number + 1):
    file.append(signer.sign(stream, seq, genesis_link(stream)))
"""


def sign_heads(signer: HeadSigner, number: int, first: int = 1) -> list[Head]:
    """Heads of several streams in turn."""
    return [
        signer.sign(STREAMS[seq % len(STREAMS)], seq, genesis_link(STREAMS[seq % len(STREAMS)]))
        for seq in range(first, first + number)
    ]


def newest_of(heads: list[Head]) -> dict[str, Head]:
    return {head.stream: head for head in heads}


def test_a_large_file_is_replaced_by_the_newest_head_of_each_stream(spool: Path) -> None:
    file = HeadFile(spool / "heads", large=LARGE)
    signed = sign_heads(HeadSigner(spool / "key"), 200)
    for number, head in enumerate(signed, start=1):
        file.append(head)
        assert file.newest() == newest_of(signed[:number])
        assert file.size <= LARGE + 500
    assert sorted(path.name for path in spool.iterdir()) == ["heads", "key"]
    assert file.path.stat().st_mode & 0o777 == 0o644


def test_a_file_of_many_streams_is_not_replaced_over_and_over(spool: Path) -> None:
    signer = HeadSigner(spool / "key")
    inodes = set()
    file = HeadFile(spool / "heads", large=1 << 10)
    for number in range(200):
        stream = f"{number:032x}"
        file.append(signer.sign(stream, 1, genesis_link(stream)))
        inodes.add(file.path.stat().st_ino)
    assert len(file.newest()) == 200
    assert len(inodes) < 10


def test_processes_append_while_others_replace_the_file(spool: Path) -> None:
    HeadSigner(spool / "key")
    names = STREAMS[:APPENDERS]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(spool), name, str(APPENDED)], env=environment()
        )
        for name in names
    ]
    assert [process.wait(60) for process in running] == [0] * APPENDERS
    found = HeadFile(spool / "heads").newest()
    assert {name: head.seq for name, head in found.items()} == dict.fromkeys(names, APPENDED)
    assert (spool / "heads").stat().st_size < APPENDERS * APPENDED * 100


@pytest.mark.parametrize("kind", ["refused", "half done"])
@pytest.mark.parametrize("name", [each.name for each in fields(FileOperations)])
def test_no_failure_loses_an_appended_head(spool: Path, kind: Fault, name: str) -> None:
    signer = HeadSigner(spool / "key")
    signed = sign_heads(signer, 20)
    for k in count(1):
        place = spool / str(k)
        place.mkdir()
        faults = Faults(name, k, kind, errno.ENOSPC if k % 2 else errno.EIO)
        file = HeadFile(place / "heads", faults.operations(), large=1 << 10)
        file.prepare()
        appended: list[Head] = []
        for head in signed:
            try:
                file.append(head)
            except OSError:
                assert faults.struck
                file.append(head)
            appended.append(head)
            assert file.newest() == newest_of(appended)
        if not faults.struck:
            break


def test_a_large_file_is_read_line_by_line(spool: Path) -> None:
    (line,) = sign_heads(HeadSigner(spool / "key"), 1)
    file = HeadFile(spool / "heads")
    file.append(line)
    content = file.path.read_bytes()
    file.path.write_bytes(content * 20_000)
    size = file.size
    tracemalloc.start()
    file.prepare()
    newest = file.newest()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert newest == {line.stream: line}
    assert peak < size / 10
    assert file.size == len(content)


def test_a_damaged_file_is_not_replaced(spool: Path) -> None:
    file = HeadFile(spool / "heads", large=1 << 10)
    signed = sign_heads(HeadSigner(spool / "key"), 40)
    file.path.write_text("damaged\n" * 200)
    for head in signed:
        file.append(head)
    assert file.path.read_text().startswith("damaged\n")
    assert file.size > 8 * 200 + 40 * 200
