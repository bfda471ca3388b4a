"""Outcomes on disk until the service has them: one file for each batch.

How it works
------------
The spool is a directory with one file `BATCH_ID.outcomes` per batch. The file is the serialized
`ReportOutcomesRequest` itself: protobuf merges concatenated messages, so an outcome is appended as
a request that holds nothing else. The first write holds `source` and `batch_id` as well. A crash of
the process loses nothing, since written bytes are the kernel's. File names are UUIDv7, so their
order is the order of time.

A record that the disk does not take stays in memory, in `SpooledBatch.unwritten`, and is written
later. The batch is sent even if it never is. `size` is the length of the whole records in a file of
this process, so what a failed write left behind it is never read, and is cut off before the next
write. Every other failing operation is repeated with backoff, too. Outcomes are lost, and counted,
only if the spool is full, memory for unwritten ones is full, or files are damaged or deleted.

A file of an earlier process is mended when it is read. A torn last record is cut off; a batch
without its id gets the name of its file. If records in the middle cannot be decoded, the others are
sent, and then the file is set aside for the operator (`*.refused`) instead of being deleted. The
oldest files that were set aside are deleted if they become too many or too large.

INVARIANT: one process uses a spool at a time (`lock`). No method raises OSError after construction.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from assay.engine.errors import OperatorError, quoted
from assay.forward.spool_records import decode_records
from assay.forward.supervision import Troubles
from assay.journal.backoff import Backoff
from assay.journal.operating_system import REAL, FileOperations
from assay.journal.uuid7 import uuid7
from assay.v1 import evidence_pb2 as pb

MAX_BATCH: Final = 1000
SET_ASIDE_FILES: Final = 1000
SET_ASIDE_BYTES: Final = 64 << 20
_SOURCE: Final = "forward"
_BACKOFF: Final = Backoff(first=0.1, longest=5.0)
_MAX_BYTES: Final = 1 << 30
_MAX_UNWRITTEN_BYTES: Final = 16 << 20
_CHUNK: Final = 1 << 20
_SUFFIX: Final = ".outcomes"
_ASIDE: Final = ".refused"
_CLOSED: Final = -1
_PROBE: Final = bytes(512)
_NO_SPACE: Final = os.strerror(errno.ENOSPC)
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND
log = structlog.get_logger("assay.forward")


class SpoolUnavailable(OperatorError):
    """The spool's directory cannot be used."""

    def __init__(self, directory: Path, why: str) -> None:
        super().__init__(f"spool: {quoted(str(directory))}: {why}")


@dataclass(slots=True, eq=False)
class SpooledBatch:
    """A batch that waits: whole records in its file, then those that the disk has not taken yet.

    `count` is the number of its outcomes, 0 if an earlier process wrote it. It is not sent before
    `due`, in seconds of the monotonic clock.
    """

    path: Path
    size: int = 0
    count: int = 0
    is_own: bool = True
    unwritten: list[bytes] = field(default_factory=list)
    descriptor: int = _CLOSED
    may_have_tail: bool = False
    is_damaged: bool = False
    is_checked: bool = False
    failures: int = 0
    due: float = 0.0


class Spool:
    """A directory of batches in the order of time; the last one may be open.

    `lost` counts outcomes; `mended`, `set_aside` (by reason) and `deleted` count files. `aside` has
    the sizes of those that are set aside.
    """

    def __init__(
        self,
        directory: Path,
        max_bytes: int = _MAX_BYTES,
        operations: FileOperations = REAL,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self.lost = self.mended = self.deleted = 0
        self.set_aside: Counter[str] = Counter()
        self.troubles = Troubles("spool")
        self._max_bytes = max_bytes
        self._files = operations
        self._steady = steady
        self._lock = _CLOSED
        self._lock_directory()
        self.waiting = {
            path: SpooledBatch(path, _size_of(path), is_own=False) for path in self._list(_SUFFIX)
        }
        self.bytes = sum(batch.size for batch in self.waiting.values())
        self.unwritten_bytes = 0
        self.aside = {path: _size_of(path) for path in self._list(_ASIDE)}
        self._open: SpooledBatch | None = None
        self._last: SpooledBatch | None = None
        self._write_failures, self._write_again = 0, 0.0
        self._unreadable: set[Path] = set()
        self._unfinished: dict[Path, Path | None] = {}

    def _lock_directory(self) -> None:
        """Create the directory if necessary, and take its lock; raises SpoolUnavailable."""
        try:
            self._files.make_directories(self.directory)
            descriptor = self._files.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                os.close(descriptor)
                raise
        except BlockingIOError:
            raise SpoolUnavailable(self.directory, "another process uses this spool") from None
        except OSError as error:
            why = error.strerror or "cannot be written"
            raise SpoolUnavailable(self.directory, why) from error
        if self._lock != _CLOSED:
            os.close(self._lock)
        self._lock = descriptor

    def _list(self, suffix: str) -> list[Path]:
        """Return the files with this suffix, oldest first; raises SpoolUnavailable."""
        try:
            return sorted(each for each in self.directory.iterdir() if each.suffix == suffix)
        except OSError as error:
            os.close(self._lock)  # construction has failed
            raise SpoolUnavailable(self.directory, error.strerror or "cannot be read") from error

    def append(self, outcome: pb.Outcome) -> bool:
        """Store an outcome, or count it in `lost`; return whether its batch is full."""
        record = pb.ReportOutcomesRequest(outcomes=(outcome,)).SerializeToString()
        batch = self._open
        if batch is None or batch.count >= MAX_BATCH:
            batch = self._begin_batch()
        size = len(record)
        needed = size if batch.count else size + len(_header(batch))
        is_full = self.bytes + needed > self._max_bytes
        if is_full or self.unwritten_bytes + size > _MAX_UNWRITTEN_BYTES:
            self.troubles.fail("append", f"no room for outcomes: {self.bytes} bytes wait")
            self.lost += 1
            return False
        batch.unwritten.append(record)
        batch.count += 1
        if batch.count == 1:
            self.waiting[batch.path] = batch
            self.troubles.recover("append")
        self.bytes += size
        self.unwritten_bytes += size
        self._write(batch)
        return batch.count >= MAX_BATCH

    def _begin_batch(self) -> SpooledBatch:
        self._close(self._last)
        path = self.directory / f"{uuid7(time.time_ns() // 1_000_000)}{_SUFFIX}"
        self._open = self._last = SpooledBatch(path)
        return self._open

    def _write(self, batch: SpooledBatch, *, at_once: bool = False) -> None:
        """Write what the file lacks, as a whole or not at all; after a failure wait before that."""
        if self._write_failures and not at_once and self._steady() < self._write_again:
            return
        outcomes = records = b"".join(batch.unwritten)
        if not batch.size:
            records = _header(batch) + outcomes
        try:
            if batch.descriptor == _CLOSED:
                batch.descriptor = self._create(batch.path)
            if batch.may_have_tail:
                self._files.truncate(batch.descriptor, batch.size)
            batch.may_have_tail = True
            written = self._files.write(batch.descriptor, records)
            why = "" if written == len(records) else _NO_SPACE
        except (OSError, SpoolUnavailable) as error:
            why = str(error)
        if why or self._write_failures:
            self._note_write(why)
        if not why:
            batch.may_have_tail = False
            batch.size += len(records)
            batch.unwritten.clear()
            self.bytes += len(records) - len(outcomes)
            self.unwritten_bytes -= len(outcomes)

    def _note_write(self, why: str) -> None:
        """Note why a write has failed, or that it has not."""
        if why:
            self._write_failures += 1
            self._write_again = self._steady() + _BACKOFF.wait(self._write_failures)
            self.troubles.fail("write", f"outcomes cannot be written: {why}")
        else:
            self._write_failures = 0
            self.troubles.recover("write")
            self.troubles.recover("append")

    def _try_to_write(self) -> None:
        """Find out whether the disk takes bytes again: what it did not take is sent already."""
        path, why = self.directory / "probe", _NO_SPACE
        try:
            descriptor = self._create(path)
            try:
                if self._files.write(descriptor, _PROBE) == len(_PROBE):
                    why = ""
            finally:
                os.close(descriptor)
                self._files.unlink(path)
        except (OSError, SpoolUnavailable) as error:
            why = str(error)
        self._note_write(why)

    def _create(self, path: Path) -> int:
        try:
            return self._files.open(path, _FLAGS, 0o600)
        except FileNotFoundError:  # the directory is gone, and with it the lock
            self._lock_directory()
            return self._files.open(path, _FLAGS, 0o600)

    def seal(self) -> None:
        """End the open batch; the next outcome begins another."""
        self._open = None

    def repeat_failed(self) -> None:
        """Repeat, where it is time, the operations that failed."""
        if self.unwritten_bytes:
            for batch in [each for each in self.waiting.values() if each.unwritten]:
                self._write(batch)
                if batch is not self._last:
                    self._close(batch)
        elif self._write_failures and self._steady() >= self._write_again:
            self._try_to_write()
        for path, aside in list(self._unfinished.items()):
            self._put_away(path, aside)
        self._delete_oldest_aside()

    def next_batch(self) -> SpooledBatch | None:
        """Return the oldest sealed batch that is due, or `None`."""
        now = self._steady()
        return next((each for each in self._sealed() if each.due <= now), None)

    def delay(self) -> float | None:
        """Return the seconds until something is due or repeated, `None` if nothing waits."""
        now = self._steady()
        times = [each.due for each in self._sealed()]
        if self._unfinished or self._write_failures:
            times.append(max(self._write_again, now + _BACKOFF.longest))
        return max(0.0, min(times) - now) if times else None

    def _sealed(self) -> Iterator[SpooledBatch]:
        return (each for each in self.waiting.values() if each is not self._open)

    def read(self, batch: SpooledBatch) -> pb.ReportOutcomesRequest | None:
        """Return what a batch holds; one without outcomes, or that cannot be decoded, is put away.

        Returns `None` then, and also for a batch that cannot be read now: it is due later.
        """
        try:
            data = self._read_file(batch)
        except OSError as error:
            self._unreadable.add(batch.path)
            self.troubles.fail("read", f"{batch.path.name} cannot be read: {error}")
            self.defer(batch)
            return None
        self._note_readable(batch)
        try:
            found = decode_records(data + b"".join(batch.unwritten))
        except DecodeError:
            self.put_aside(batch, "undecodable")
            return None
        request, batch.is_damaged = found.request, found.is_damaged
        is_mended = bool(found.lost) or (bool(data) and not request.batch_id)
        if is_mended and not batch.is_checked:
            self.mended += 1
            self.lost += found.lost
            log.error("spool file mended", batch=batch.path.name, lost_outcomes=found.lost)
        batch.is_checked = True
        request.source = request.source or _SOURCE
        request.batch_id = request.batch_id or batch.path.stem
        if not request.outcomes:
            self.remove(batch)
            return None
        return request

    def _note_readable(self, batch: SpooledBatch) -> None:
        self._unreadable.discard(batch.path)
        if not self._unreadable:
            self.troubles.recover("read")

    def _read_file(self, batch: SpooledBatch) -> bytes:
        """Return the whole records in the file; raises OSError.

        The last batch is read through its descriptor, so that it survives its directory.
        """
        if batch.is_own and not batch.size:
            return b""
        descriptor = batch.descriptor
        if descriptor == _CLOSED:
            try:
                descriptor = self._files.open(batch.path, os.O_RDONLY, 0)
            except FileNotFoundError:
                if not self.directory.is_dir():
                    raise
                self._lose_file(batch)
                return b""
        try:
            data = self._read_all(descriptor)
        finally:
            if descriptor != batch.descriptor:
                os.close(descriptor)
        if batch.is_own:
            return data[: batch.size]
        self.bytes += len(data) - batch.size
        batch.size = len(data)
        return data

    def _read_all(self, descriptor: int) -> bytes:
        parts, offset = [], 0
        while part := self._files.read(descriptor, _CHUNK, offset):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _lose_file(self, batch: SpooledBatch) -> None:
        """Count a file that was deleted; at least one outcome if their number is not known."""
        written = max(1, batch.count - len(batch.unwritten))
        self.lost += written
        self.bytes -= batch.size
        batch.size = 0
        log.error("spool file lost: it was deleted", batch=batch.path.name, outcomes=written)

    def defer(self, batch: SpooledBatch, wait: Backoff = _BACKOFF) -> None:
        """Let other batches go first, for longer with each failure."""
        batch.failures += 1
        batch.due = self._steady() + wait.wait(batch.failures)

    def remove(self, batch: SpooledBatch) -> None:
        """Delete a batch that was acknowledged; a damaged file is set aside instead."""
        if batch.is_damaged:
            self.put_aside(batch, "damaged")
            return
        self._forget(batch)
        self._put_away(batch.path, None)

    def put_aside(self, batch: SpooledBatch, reason: str, why: str = "") -> None:
        """Keep the file of a batch under another name, for the operator to inspect."""
        log.error("batch of outcomes set aside", batch=batch.path.name, reason=reason, why=why)
        if batch.unwritten:
            self._write(batch, at_once=True)
            self.lost += len(batch.unwritten)
        self.set_aside[reason] += 1
        size = batch.size
        self._forget(batch)
        if size:
            self.aside[batch.path.with_suffix(_ASIDE)] = size
            self._put_away(batch.path, batch.path.with_suffix(_ASIDE))
            self._delete_oldest_aside()

    def _forget(self, batch: SpooledBatch) -> None:
        self._close(batch)
        del self.waiting[batch.path]
        self._note_readable(batch)
        unwritten = sum(map(len, batch.unwritten))
        self.unwritten_bytes -= unwritten
        self.bytes -= batch.size + unwritten
        self.troubles.recover("append")

    def _put_away(self, path: Path, aside: Path | None) -> None:
        """Delete or rename a file, now or later; one that is gone already is fine."""
        try:
            with suppress(FileNotFoundError):
                if aside is None:
                    self._files.unlink(path)
                else:
                    self._files.rename(path, aside)
        except OSError as error:
            self._unfinished[path] = aside
            self.troubles.fail("put_away", f"{path.name} cannot be put away: {error}")
            return
        self._unfinished.pop(path, None)
        if not self._unfinished:
            self.troubles.recover("put_away")

    def _delete_oldest_aside(self) -> None:
        while len(self.aside) > SET_ASIDE_FILES or sum(self.aside.values()) > SET_ASIDE_BYTES:
            path = next(iter(self.aside))
            del self.aside[path]
            self.deleted += 1
            log.error("batch that was set aside deleted: there are too many", batch=path.name)
            original = path.with_suffix(_SUFFIX)
            self._put_away(original if original in self._unfinished else path, None)

    def _close(self, batch: SpooledBatch | None) -> None:
        if batch is not None and batch.descriptor != _CLOSED:
            with suppress(OSError):
                os.close(batch.descriptor)
            batch.descriptor = _CLOSED
        if self._last is batch:
            self._last = None

    def close(self) -> None:
        """Write what is possible, and release the directory."""
        self.seal()
        for batch in self.waiting.values():
            if batch.unwritten:
                self._write(batch, at_once=True)
            self._close(batch)
        if self.unwritten_bytes:
            unwritten = sum(len(each.unwritten) for each in self.waiting.values())
            self.lost += unwritten
            log.error("outcomes lost: they could not be written", outcomes=unwritten)
        os.close(self._lock)


def _header(batch: SpooledBatch) -> bytes:
    header = pb.ReportOutcomesRequest(source=_SOURCE, batch_id=batch.path.stem)
    return header.SerializeToString()


def _size_of(path: Path) -> int:
    """Return the size of a file, 0 if it cannot be read; reading the file will correct it."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
