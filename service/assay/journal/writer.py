"""The journal of a process: a record is appended before the answer is sent.

How it works
------------
`append` writes one frame with one system call to the current segment, see `rotation`. In mode
`write` a record survives the death of the process as soon as `append` returns; the syncer thread
brings it to the disk within TICK. In mode `sync`, `append` waits for the next sync, which it shares
with all threads that wait.

Space is reserved ahead, so that a full disk is noticed before a frame is written: `append` raises,
and the caller rejects its request. After a failed or short write the segment is closed to new
frames, and the journal continues in a fresh one.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Condition, Event, Lock, Thread, local
from typing import Literal, Self

from assay.journal.errors import (
    JournalClosed,
    JournalError,
    JournalFailed,
    JournalFull,
    RecordTooLarge,
)
from assay.journal.frame import LARGEST, encode
from assay.journal.layout import create_stream
from assay.journal.operating_system import NO_SPACE, REAL, FileOperations
from assay.journal.rotation import Rotation, WriterSlot
from assay.journal.segment import Segment

SEGMENT_BYTES = 64 << 20
TICK = 0.05  # seconds: what a power loss may cost in mode `write`, if the disk keeps up
PREPARING = 0.01  # seconds between checks for a segment to prepare: writers may be waiting
PATIENCE = 1.0  # seconds a thread waits for a segment that is being prepared
NAP = 0.0005  # seconds
MANY_SLOTS = 64


class Journal:
    """A stream of records; they survive the process, and in mode `sync` a power loss."""

    def __init__(
        self,
        directory: Path,
        *,
        mode: Literal["write", "sync"] = "write",
        segment_bytes: int = SEGMENT_BYTES,
        tick: float = TICK,
        operations: FileOperations = REAL,
    ) -> None:
        self.directory = directory
        try:
            self._claim = create_stream(directory, operations)
        except OSError as error:
            raise _translated(directory, error) from error
        self.path = self._claim.path
        self.stream = self.path.name
        self._durable = mode == "sync"
        self._largest = min(LARGEST, segment_bytes // 4)
        self._write = operations.write
        self._seek = os.lseek
        self._tick = tick
        self._slots = local()
        self._rotation = Rotation(self.path, segment_bytes, operations)
        self._syncer = _Syncer(self._rotation, tick)
        self._janitor = Thread(target=self._keep_tidy, name="journal-janitor", daemon=True)
        self._counting, self._stop = Lock(), Event()
        self._retired = WriterSlot()  # the counts of dead threads
        self.closed = False
        self._tidy()
        self._syncer.start()
        self._janitor.start()

    def append(self, kind: int, payload: bytes) -> None:
        """Append a record, or raise JournalError: then the caller must reject its request."""
        if len(payload) > self._largest:
            raise RecordTooLarge(len(payload), self._largest)
        frame = encode(kind, payload)
        try:
            slot: WriterSlot = self._slots.slot
        except AttributeError:
            slot = self._slots.slot = self._rotation.join()
        rotation = self._rotation
        segment = slot.inside = rotation.current
        try:
            if rotation.current is not segment or segment.end >= segment.limit:
                segment = self._enter(slot)
            if self._write(segment.descriptor, frame) != len(frame):
                slot.torn += 1
                raise self._given_up(slot, segment, "a record was cut short")
            slot.ahead += len(frame)
            if slot.ahead > segment.stride:
                slot.ahead = 0
                segment.end = self._seek(segment.descriptor, 0, os.SEEK_CUR)
        except OSError as error:
            raise self._given_up(slot, segment, error) from error
        finally:
            slot.inside = None
        if self._durable:
            self._syncer.commit(segment)
            if segment.fault is not None:
                raise self._given_up(slot, segment, segment.fault)
        slot.appended += 1

    def _enter(self, slot: WriterSlot) -> Segment:
        """Return a segment with room, waiting a little for one that is being prepared."""
        rotation = self._rotation
        deadline = time.monotonic() + PATIENCE
        while not (segment := rotation.enter(slot)).has_room:
            slot.inside = None
            if rotation.move_on(segment):
                continue
            if self.closed:
                slot.refused += 1
                raise JournalClosed(self.directory)
            if rotation.trouble is None and time.monotonic() > deadline:
                rotation.trouble = TimeoutError("no segment could be prepared in time")
            if rotation.trouble is not None:
                raise self._given_up(slot, segment, rotation.trouble)
            time.sleep(NAP)
        return segment

    def _given_up(self, slot: WriterSlot, segment: Segment, reason: OSError | str) -> JournalError:
        """Close the segment to new frames; return the error of the rejected record."""
        segment.limit = 0
        slot.refused += 1
        if isinstance(reason, str):
            return JournalFailed(self.directory, reason)
        return _translated(self.directory, reason)

    @property
    def accepting(self) -> bool:
        """Whether the next record can be appended; recovers by itself."""
        segment = self._rotation.current
        ready = segment.has_room or segment.next is not None or self._rotation.trouble is None
        return ready and not self.closed

    @property
    def appended(self) -> int:
        """Records appended."""
        return self._counted().appended

    @property
    def refused(self) -> int:
        """Records rejected with an error."""
        return self._counted().refused

    @property
    def torn(self) -> int:
        """Rejected records of which a part was written."""
        return self._counted().torn

    def _counted(self) -> WriterSlot:
        """Add up all slots, and merge those of dead threads into one."""
        with self._counting:
            for slot in tuple(self._rotation.slots):
                if slot.thread is not None and not slot.thread.is_alive():
                    self._rotation.slots.remove(slot)
                    _add(self._retired, slot)
            total = WriterSlot()
            for slot in (self._retired, *self._rotation.slots):
                _add(total, slot)
            return total

    def _keep_tidy(self) -> None:
        while not self._stop.wait(min(self._tick, PREPARING)):
            self._tidy()
            if len(self._rotation.slots) > MANY_SLOTS:
                self._counted()  # merges the slots of dead threads

    def _tidy(self) -> None:
        with suppress(OSError):  # retried at the next tick; an unsealed segment loses nothing
            self._rotation.tidy()

    def close(self) -> None:
        """Reject further records, sync everything and release the stream."""
        if self.closed:
            return
        self.closed = True
        self._stop.set()
        self._janitor.join()
        last = self._rotation.end()
        while any(slot.inside is not None for slot in tuple(self._rotation.slots)):
            time.sleep(NAP)
        self._syncer.stop()
        try:
            self._rotation.wind_up(last)
        except OSError as error:
            raise _translated(self.directory, error) from error
        finally:
            self._claim.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _SyncRound:
    """The threads that wait for the same sync."""

    __slots__ = ("is_done", "is_wanted")

    def __init__(self) -> None:
        self.is_wanted = False
        self.is_done = False


class _Syncer:
    """The thread that syncs segments: at every tick, and at once if a thread waits for it."""

    def __init__(self, rotation: Rotation, tick: float) -> None:
        self._rotation = rotation
        self._tick = tick
        self._open = _SyncRound()
        self._stopping = self._stopped = False
        lock = Lock()
        self._work, self._done = Condition(lock), Condition(lock)
        self._thread = Thread(target=self._run, name="journal-syncer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sync a last time, wake every waiting thread and end."""
        with self._work:
            self._stopping = True
            self._work.notify()
        self._thread.join()

    def commit(self, segment: Segment) -> None:
        """Wait until the caller's frame is on the disk, or the segment has a `fault`."""
        with self._work:
            if not self._stopped:
                joined = self._open
                if not joined.is_wanted:
                    joined.is_wanted = True
                    self._work.notify()
                self._done.wait_for(lambda: joined.is_done)
                return
        segment.sync()

    def _run(self) -> None:
        while not self._stopped:
            with self._work:
                if not (self._open.is_wanted or self._stopping):
                    self._work.wait(self._tick)
                now, self._open = self._open, _SyncRound()
            # INVARIANT: read after the round was closed to other threads.
            for segment in self._rotation.unsealed:
                segment.sync()
            with self._work:
                now.is_done = True
                self._done.notify_all()
                self._stopped = self._stopping and not self._open.is_wanted


def _translated(directory: Path, error: OSError) -> JournalError:
    if error.errno in NO_SPACE:
        return JournalFull(directory)
    return JournalFailed(directory, error.strerror or str(error))


def _add(total: WriterSlot, slot: WriterSlot) -> None:
    total.appended += slot.appended
    total.refused += slot.refused
    total.torn += slot.torn
