"""Records acknowledged in mode `sync` survive a power loss at any sync."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock

import pytest
from tests.support.journals import assert_order, make_payload, read_frames

from assay.journal.errors import JournalError
from assay.journal.operating_system import REAL, FileOperations
from assay.journal.recovery import recover
from assay.journal.writer import Journal

THREADS = 4


class Disk:
    """The durable content of each file after a power loss at the k-th sync."""

    def __init__(self, k: int) -> None:
        self._left = k
        self._lock = Lock()
        self._sizes: dict[int, int] = {}
        self._names: set[int] = set()

    def operations(self) -> FileOperations:
        return replace(REAL, sync_data=self._sync_data, sync_directory=self._sync_directory)

    def _powered(self, what: Callable[[], None]) -> None:
        with self._lock:
            self._left -= 1
            if self._left < 0:
                raise OSError(errno.EIO, "no power")
            what()

    def _sync_data(self, descriptor: int) -> None:
        state = os.fstat(descriptor)  # before the sync: bytes written during it may be lost
        self._powered(lambda: self._sizes.update({state.st_ino: state.st_size}))

    def _sync_directory(self, path: str | os.PathLike[str]) -> None:
        files = {each.stat().st_ino for each in Path(path).iterdir()}
        self._powered(lambda: self._names.update(files))

    def lose_power(self, directory: Path) -> None:
        for path in directory.glob("*/0*"):
            number = path.stat().st_ino
            if number in self._names:
                os.truncate(path, self._sizes.get(number, 0))
            else:
                path.unlink()


@pytest.mark.parametrize("k", [3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 80])
def test_acknowledged_records_survive_a_power_loss(spool: Path, k: int) -> None:
    disk = Disk(k)
    journal = Journal(
        spool, mode="sync", segment_bytes=1 << 11, tick=0.001, operations=disk.operations()
    )

    def work(thread: int) -> list[bytes]:
        acknowledged: list[bytes] = []
        for number in range(40):
            try:
                journal.append(1, make_payload(thread, number))
            except JournalError:
                break
            acknowledged.append(make_payload(thread, number))
        return acknowledged

    with ThreadPoolExecutor(THREADS) as threads:
        acknowledged = [record for mine in threads.map(work, range(THREADS)) for record in mine]
    with suppress(JournalError):
        journal.close()
    disk.lose_power(spool)
    recover(spool)
    found = [frame.payload for frame in read_frames(spool)]
    assert set(acknowledged) <= set(found)
    assert len(set(found)) == len(found)
    assert_order(found)
