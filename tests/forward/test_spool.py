"""The spool under faults: what passes loses, sets aside and blocks nothing; losses are counted."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from assay.forward import spool as spool_module
from assay.forward.spool import MAX_BATCH, Spool, SpooledBatch, SpoolUnavailable
from assay.journal.operating_system import REAL, FileOperations
from assay.v1 import evidence_pb2 as pb

pytestmark = pytest.mark.usefixtures("logging_of_every_level")
ID = str(UUID(int=7))


def outcome(number: int) -> pb.Outcome:
    return pb.Outcome(endpoint_id=f"a/b@{number}", result=pb.RESULT_ANSWERED)


def record(number: int) -> bytes:
    return pb.ReportOutcomesRequest(outcomes=[outcome(number)]).SerializeToString()


HEADER = pb.ReportOutcomesRequest(source="forward", batch_id=ID).SerializeToString()


def numbers(batch: pb.ReportOutcomesRequest) -> list[int]:
    return [int(each.endpoint_id.rpartition("@")[2]) for each in batch.outcomes]


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Faults:
    """Lets the calls of operations from the n-th on fail, so many times."""

    operations: tuple[str, ...]
    kind: str = "EIO"
    first: int = 0
    times: int = 1

    def __post_init__(self) -> None:
        self.calls: list[str] = []
        self.struck = 0
        wrapped = {each.name: self._wrap(each.name) for each in fields(FileOperations)}
        self.files = FileOperations(**wrapped)

    def _wrap(self, name: str) -> Callable[..., Any]:
        real = getattr(REAL, name)

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            is_due = name in self.operations and self.first < len(self.calls)
            if not is_due or self.struck == self.times:
                return real(*arguments)
            self.struck += 1
            if self.kind in {"short", "torn"} and name == "write":
                written = real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                if self.kind == "short":
                    return written
            if self.kind == "done" and name != "open":
                real(*arguments)
            code = getattr(errno, self.kind, errno.EIO)
            raise OSError(code, os.strerror(code))

        return call


def open_spool(folder: Path, files: FileOperations = REAL, clock: Clock | None = None) -> Spool:
    return Spool(folder, operations=files, steady=clock or Clock())


def send_all(
    spool: Spool, clock: Clock, *, with_trouble: bool = False
) -> list[pb.ReportOutcomesRequest]:
    """Read and acknowledge everything that waits, as the reporter does; time passes meanwhile."""
    sent = []
    for _ in range(200):
        spool.seal()
        spool.repeat_failed()
        while (batch := spool.next_batch()) is not None:
            if (request := spool.read(batch)) is not None:
                sent.append(request)
                spool.remove(batch)
        if spool.delay() is None or (with_trouble and not spool.waiting):
            return sent
        clock.now += 1.0
    raise AssertionError(f"still waiting: {spool.waiting}, {spool.troubles}")


def names(folder: Path, suffix: str = ".outcomes") -> list[str]:
    return sorted(each.name for each in folder.glob(f"*{suffix}"))


def write_batch(folder: Path, data: bytes, name: str = ID) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.outcomes"
    path.write_bytes(data)
    return path


# --- faults of operations ---


def two_lives(folder: Path, faults: Faults) -> list[int]:
    """Store outcomes, restart, store more, send all; only the calls after the lock may fail."""
    clock = Clock()
    first = open_spool(folder, REAL, clock)
    first._files = faults.files
    for number in range(3):
        first.append(outcome(number))
        clock.now += 10.0
    for _ in range(3):
        first.repeat_failed()
        clock.now += 10.0
    first.close()
    second = open_spool(folder, REAL, clock)
    second._files = faults.files
    for number in range(3, 5):
        second.append(outcome(number))
        clock.now += 10.0
    sent = [number for batch in send_all(second, clock) for number in numbers(batch)]
    assert (second.bytes, second.unwritten_bytes, str(second.troubles)) == (0, 0, "")
    assert first.lost + second.lost == 0
    second.close()
    return sent


def test_a_fault_at_any_call_loses_nothing_and_sets_nothing_aside(tmp_path: Path) -> None:
    undisturbed = Faults(())
    assert two_lives(tmp_path / "undisturbed", undisturbed) == list(range(5))
    every = tuple(each.name for each in fields(FileOperations))
    assert {"open", "write", "read", "unlink"} <= set(undisturbed.calls)
    struck = 0
    for first in range(len(undisturbed.calls)):
        for kind in ("EIO", "ENOSPC", "EMFILE", "short", "torn", "done"):
            for times in (1, 2, 3):
                folder = tmp_path / f"{first}-{kind}-{times}"
                faults = Faults(every, kind, first, times)
                assert sorted(two_lives(folder, faults)) == list(range(5)), (first, kind, times)
                assert names(folder) == names(folder, ".refused") == []
                struck += faults.struck
    assert struck > 100


@pytest.mark.parametrize("operation", ["open", "write", "truncate"])
def test_outcomes_wait_in_memory_while_the_disk_takes_none(tmp_path: Path, operation: str) -> None:
    operations = ("write", "truncate") if operation == "truncate" else (operation,)
    faults, clock = Faults(operations, "ENOSPC", times=1000), Clock()
    spool = open_spool(tmp_path, REAL, clock)
    spool._files = faults.files
    with capture_logs() as logs:
        for number in range(20):
            spool.append(outcome(number))
            clock.now += 10.0
        assert "No space left" in str(spool.troubles)
        assert spool.unwritten_bytes > 0
        faults.times = faults.struck
        spool.repeat_failed()
        assert str(spool.troubles) == ""
    assert [each["event"] for each in logs] == ["failing", "works again"]
    assert spool.unwritten_bytes == 0
    spool.close()
    (batch,) = send_all(open_spool(tmp_path / ".", REAL, clock), clock)
    assert numbers(batch) == list(range(20))


def test_outcomes_that_the_disk_never_takes_are_sent_from_memory(tmp_path: Path) -> None:
    faults, clock = Faults(("open",), "EMFILE", times=10**6), Clock()
    spool = open_spool(tmp_path, REAL, clock)
    spool._files = faults.files
    for number in range(MAX_BATCH + 5):
        spool.append(outcome(number))
    sent = send_all(spool, clock, with_trouble=True)
    assert [len(batch.outcomes) for batch in sent] == [MAX_BATCH, 5]
    assert "Too many open files" in str(spool.troubles)
    faults.times = faults.struck
    assert send_all(spool, clock) == []
    assert str(spool.troubles) == ""
    assert all((batch.source, UUID(batch.batch_id).version) == ("forward", 7) for batch in sent)
    assert (spool.lost, spool.bytes, spool.unwritten_bytes) == (0, 0, 0)
    spool.close()


def test_memory_for_unwritten_outcomes_is_bounded_and_losses_are_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_MAX_UNWRITTEN_BYTES", 200)
    faults = Faults(("write",), "EROFS", times=10**6)
    spool = open_spool(tmp_path)
    spool._files = faults.files
    with capture_logs() as logs:
        for number in range(100):
            spool.append(outcome(number))
    assert 80 < spool.lost < 100
    assert spool.unwritten_bytes <= 200
    assert sorted(each["operation"] for each in logs) == ["append", "write"]
    lost = spool.lost
    spool.close()
    assert spool.lost == 100
    assert lost < 100


def test_a_batch_that_cannot_be_read_now_lets_others_go_first(tmp_path: Path) -> None:
    for number in range(3):
        name = str(UUID(int=number))
        write_batch(tmp_path / "spool", record(number), name)
    clock = Clock()
    spool = open_spool(tmp_path / "spool", REAL, clock)
    spool._files = Faults(("open",), "EMFILE", times=1).files
    assert spool.read(next(iter(spool.waiting.values()))) is None
    assert "Too many open files" in str(spool.troubles)
    sent = send_all(spool, clock)
    assert [numbers(batch) for batch in sent] == [[1], [2], [0]]
    assert (spool.lost, names(tmp_path / "spool", ".refused")) == (0, [])
    spool.close()


def test_a_file_that_cannot_be_deleted_or_renamed_is_not_sent_again_and_goes_later(
    tmp_path: Path,
) -> None:
    write_batch(tmp_path, record(1))
    other = str(UUID(int=8))
    write_batch(tmp_path, record(2), other)
    clock = Clock()
    spool = open_spool(tmp_path, REAL, clock)
    faults = Faults(("unlink", "rename"), times=2)
    spool._files = faults.files
    first, second = spool.waiting.values()
    spool.remove(first)
    spool.put_aside(second, "invalid_argument")
    assert spool.next_batch() is None
    assert names(tmp_path) == [f"{ID}.outcomes", f"{other}.outcomes"]
    spool.repeat_failed()
    assert (names(tmp_path), names(tmp_path, ".refused")) == ([], [f"{other}.refused"])
    assert str(spool.troubles) == ""
    spool.close()


# --- directories and files that disappear ---


def test_a_spool_whose_directory_disappears_is_created_again(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path / "spool", REAL, clock)
    spool.append(outcome(0))
    shutil.rmtree(tmp_path / "spool")
    spool.append(outcome(1))
    (sent,) = send_all(spool, clock)
    assert numbers(sent) == [0, 1]  # the open batch is read through its descriptor
    spool.append(outcome(2))
    assert len(names(tmp_path / "spool")) == 1
    with pytest.raises(SpoolUnavailable, match="another process"):
        Spool(tmp_path / "spool")
    assert spool.lost == 0
    spool.close()


def test_batches_wait_while_the_directory_is_away(tmp_path: Path) -> None:
    write_batch(tmp_path / "spool", record(1))
    clock = Clock()
    spool = open_spool(tmp_path / "spool", REAL, clock)
    (tmp_path / "spool").rename(tmp_path / "away")
    for _ in range(5):
        clock.now += 10.0
        batch = spool.next_batch()
        assert batch is not None
        assert spool.read(batch) is None
    (tmp_path / "away").rename(tmp_path / "spool")
    (sent,) = send_all(spool, clock)
    assert (numbers(sent), spool.lost) == ([1], 0)
    spool.close()


def test_a_deleted_file_is_counted_as_lost_and_forgotten(tmp_path: Path) -> None:
    path, clock = write_batch(tmp_path, record(1)), Clock()
    spool = open_spool(tmp_path, REAL, clock)
    path.unlink()
    with capture_logs() as logs:
        assert send_all(spool, clock) == []
    assert (spool.lost, spool.bytes, [each["event"] for each in logs]) == (
        1, 0, ["spool file lost: it was deleted"],
    )  # fmt: skip
    spool.close()


# --- damaged files ---

WHOLE = HEADER + record(0) + record(1)


@pytest.mark.parametrize("length", range(len(WHOLE) + 1))
def test_a_torn_file_is_cut_to_whole_records_which_are_sent(tmp_path: Path, length: int) -> None:
    write_batch(tmp_path, WHOLE[:length])
    clock = Clock()
    spool = open_spool(tmp_path, REAL, clock)
    whole = [end for end in (len(HEADER + record(0)), len(WHOLE)) if end <= length]
    sent = send_all(spool, clock)
    assert [numbers(batch) for batch in sent] == ([list(range(len(whole)))] if whole else [])
    assert all((batch.source, batch.batch_id) == ("forward", ID) for batch in sent)
    ends = (0, len(HEADER[:9]), len(HEADER), len(HEADER + record(0)), len(WHOLE))
    assert spool.lost == (length not in ends)
    assert (names(tmp_path), names(tmp_path, ".refused"), spool.bytes) == ([], [], 0)
    spool.close()


@pytest.mark.parametrize(
    ("data", "sent", "lost", "is_aside"),
    [
        pytest.param(record(1) + record(2), [1, 2], 0, False, id="no header: the file's name"),
        pytest.param(b"", [], 0, False, id="nothing"),
        pytest.param(HEADER, [], 0, False, id="no outcome"),
        pytest.param(WHOLE + bytes(4096), [0, 1], 1, False, id="zeros, as after a power failure"),
        pytest.param(WHOLE + b"\xff\xff", [0, 1], 1, True, id="what is not a field"),
        pytest.param(
            HEADER + record(0) + b"\x1a\x02\xff\xff" + record(1), [0, 1], 1, True,
            id="a bad record in the middle",
        ),
        pytest.param(
            HEADER + record(0) + b"\x1a\xff\xff\x7f" + bytes([1]) * 70_000, [0], 1, True,
            id="a record whose length is damaged",
        ),
        pytest.param(b"\xff\xff\xff", [], 0, True, id="nothing that can be decoded"),
    ],
)  # fmt: skip
def test_what_can_be_decoded_is_sent_and_the_rest_is_counted(
    tmp_path: Path, data: bytes, sent: list[int], lost: int, *, is_aside: bool
) -> None:
    write_batch(tmp_path, data)
    clock = Clock()
    spool = open_spool(tmp_path, REAL, clock)
    found = send_all(spool, clock)
    assert [numbers(batch) for batch in found] == ([sent] if sent else [])
    assert (spool.lost, bool(names(tmp_path, ".refused"))) == (lost, is_aside)
    assert (names(tmp_path), spool.bytes) == ([], 0)
    spool.close()


def test_losses_of_a_batch_are_counted_once_however_often_it_is_sent(tmp_path: Path) -> None:
    write_batch(tmp_path, WHOLE[:-1])
    spool = open_spool(tmp_path)
    (batch,) = spool.waiting.values()
    for _ in range(3):
        assert spool.read(batch) is not None
    assert (spool.lost, spool.mended) == (1, 1)
    spool.close()


# --- bounds ---


@pytest.fixture
def aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """Return a spool that keeps at most three files that were set aside, and 100 bytes of them."""
    monkeypatch.setattr(spool_module, "SET_ASIDE_FILES", 3)
    monkeypatch.setattr(spool_module, "SET_ASIDE_BYTES", 100)
    for number in range(6):
        write_batch(tmp_path, bytes([255]) * 10, str(UUID(int=number)))
    return open_spool(tmp_path)


def test_the_oldest_files_that_were_set_aside_are_deleted(aside: Spool, tmp_path: Path) -> None:
    with capture_logs() as logs:
        send_all(aside, Clock())
    kept = [f"{UUID(int=number)}.refused" for number in (3, 4, 5)]
    assert (names(tmp_path, ".refused"), aside.deleted) == (kept, 3)
    assert sum("deleted" in each["event"] for each in logs) == 3
    assert aside.set_aside == {"undecodable": 6}
    (tmp_path / f"{ID}.outcomes").write_bytes(bytes([255]) * 90)
    aside.close()
    later = open_spool(tmp_path)
    send_all(later, Clock())
    assert sum(map(os.path.getsize, tmp_path.glob("*.refused"))) <= 100
    later.close()


def test_outcomes_without_room_are_counted_and_room_ends_the_trouble(tmp_path: Path) -> None:
    clock = Clock()
    spool = Spool(tmp_path, max_bytes=200, steady=clock)
    for number in range(50):
        spool.append(outcome(number))
    stored = 50 - spool.lost
    assert 0 < stored < 50
    assert spool.bytes <= 200
    assert "no room" in str(spool.troubles)
    (sent,) = send_all(spool, clock)
    assert numbers(sent) == list(range(stored))
    assert str(spool.troubles) == ""
    spool.close()


def test_a_deferred_batch_waits_longer_each_time(tmp_path: Path) -> None:
    write_batch(tmp_path, record(1))
    clock = Clock()
    spool = open_spool(tmp_path, REAL, clock)
    (batch,) = spool.waiting.values()
    assert isinstance(batch, SpooledBatch)
    longest = []
    for _ in range(8):
        spool.defer(batch)
        delay = spool.delay()
        assert delay is not None
        longest.append(delay)
    assert max(longest) <= 5.0
    clock.now += 5.0
    assert spool.next_batch() is batch
    spool.close()
