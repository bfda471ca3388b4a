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

If the journal's directory is deleted or moved, syncer and janitor notice it within TICK: the open
segments are closed to new frames. The janitor creates the directory again and writes these segments
again from their open files, so that nothing acknowledged is lost while the process lives.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Event, Lock, local
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
from assay.journal.worker_thread import WorkerThread

SEGMENT_BYTES = 64 << 20
TICK = 0.05  # seconds: what a power loss may cost in mode `write`, if the disk keeps up
PREPARING = 0.01  # seconds between checks for a segment to prepare: writers may be waiting
PATIENCE = 1.0  # seconds a thread waits for a segment that is being prepared
NAP = 0.0005  # seconds
MANY_SLOTS = 64
SYNC_SECONDS = 10.0  # how long a thread waits for the disk before it gives up
LATE_SECONDS = 10.0  # after which a thread counts as late
FAULT_SECONDS = 30.0  # how long a failed sync stays a trouble


class Journal:
    """A stream of records; they survive the process, and in mode `sync` a power loss."""

    def __init__(  # noqa: PLR0913 - the last five have defaults
        self,
        directory: Path,
        *,
        mode: Literal["write", "sync"] = "write",
        segment_bytes: int = SEGMENT_BYTES,
        tick: float = TICK,
        operations: FileOperations = REAL,
        steady: Callable[[], float] = time.monotonic,
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
        self._operations = operations
        self._steady = steady
        self._rotation = Rotation(self.path, segment_bytes, operations, steady)
        self._syncer = _Syncer(self._rotation, tick, steady)
        self._janitor = WorkerThread(
            "journal-janitor", self._tidy_again, late_after=LATE_SECONDS, steady=steady
        )
        self._counting, self._stop = Lock(), Event()
        self._retired = WriterSlot()  # the counts of dead threads
        self._disorder: OSError | None = None  # what the janitor could not do in its last round
        self.restored = 0  # how often the directory was deleted and created again
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
        if self._durable and (fault := self._syncer.commit(segment)) is not None:
            raise self._given_up(slot, segment, fault)
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
        has_room = segment.has_room or (segment.next is not None and segment.next.has_room)
        return (has_room or self._rotation.trouble is None) and not self.closed

    @property
    def is_full(self) -> bool:
        """Whether the disk has no space for the next segment."""
        trouble = self._rotation.trouble
        return trouble is not None and trouble.errno in NO_SPACE

    @property
    def trouble(self) -> Exception | None:
        """What is wrong: with the next segment, the directory, a recent sync, or a thread."""
        rotation = self._rotation
        if (error := rotation.trouble or self._disorder) is not None:
            return _translated(self.directory, error)
        if rotation.fault and self._steady() - rotation.fault_at < FAULT_SECONDS:
            reason = rotation.fault.strerror or str(rotation.fault)
            return JournalFailed(self.directory, f"records could not be synced: {reason}")
        return self._syncer.thread.trouble or self._janitor.trouble

    def restart_dead_threads(self) -> list[str]:
        """Start the janitor and the syncer again if they have ended; return which had."""
        dead = []
        if self._janitor.is_dead:
            self._janitor.start()
            dead.append(self._janitor.name)
        if self._syncer.thread.is_dead:
            self._syncer.start()
            dead.append(self._syncer.thread.name)
        return dead

    @property
    def sync_failures(self) -> int:
        """How often records could not be synced: they may not survive a power failure."""
        return self._rotation.faults

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

    def _tidy_again(self) -> bool:
        """Run one round of the janitor; return whether there are more."""
        if self._stop.wait(min(self._tick, PREPARING)):
            return False
        self._tidy()
        if len(self._rotation.slots) > MANY_SLOTS:
            self._counted()  # merges the slots of dead threads
        return True

    def _tidy(self) -> None:
        self._disorder = None
        try:
            self._restore_if_deleted()
        except OSError as error:
            self._rotation.trouble = error  # until then, no segment can be reserved
            return
        try:
            self._rotation.tidy()
        except OSError as error:  # retried in the next round; an unsealed segment loses nothing
            self._disorder = error

    def _restore_if_deleted(self) -> None:
        """Create a missing directory again, and its lock before another process can claim it."""
        if self._claim.is_lost:
            self._rotation.close_deleted()
            claim = create_stream(self.directory, self._operations, lost=self.stream)
            self._claim.release()
            self._claim = claim
            self.restored += 1

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
            self._restore_if_deleted()
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
    """The threads that wait for the same sync; `error` is why it failed as a whole."""

    __slots__ = ("error", "is_done", "is_wanted")

    def __init__(self) -> None:
        self.is_wanted = False
        self.is_done = False
        self.error: OSError | None = None


class _Syncer:
    """The thread that syncs segments: at every tick, and at once if a thread waits for it."""

    def __init__(
        self, rotation: Rotation, tick: float, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._rotation = rotation
        self._tick = tick
        self._open = _SyncRound()
        self._stopping = self._stopped = self._died = False
        lock = Lock()
        self._work, self._done = Condition(lock), Condition(lock)
        late_after = tick + LATE_SECONDS
        self.thread = WorkerThread(
            "journal-syncer", self._run_round, late_after=late_after, steady=steady
        )

    def start(self) -> None:
        self._died = False
        self.thread.start()

    def stop(self) -> None:
        """Sync a last time, wake every waiting thread and end."""
        with self._work:
            self._stopping = True
            self._work.notify()
        self.thread.join()

    def commit(self, segment: Segment) -> OSError | None:
        """Wait until the caller's frame is on the disk; return why that is not certain, if so."""
        with self._work:
            if not (self._stopped or self._died):
                joined = self._open
                if not joined.is_wanted:
                    joined.is_wanted = True
                    self._work.notify()
                if not self._done.wait_for(lambda: joined.is_done, SYNC_SECONDS):
                    reason = f"the disk did not answer within {SYNC_SECONDS:.0f} s"
                    return TimeoutError(errno.ETIMEDOUT, reason)
                return joined.error or segment.fault
        segment.sync()
        return segment.fault

    def _run_round(self) -> bool:
        """Sync once, when it is wanted or after a tick; return whether there are more rounds."""
        with self._work:
            if not (self._open.is_wanted or self._stopping):
                self._work.wait(self._tick)
            now, self._open = self._open, _SyncRound()
        now.error = OSError(errno.EIO, "the sync was broken off")
        try:
            # INVARIANT: unsealed segments are read after the round was closed to other threads.
            self._rotation.sync()
            now.error = None
        except Exception:
            raise  # the next round tries again
        except BaseException:
            self._died = True  # until it is started again, threads sync for themselves
            raise
        finally:
            with self._work:
                now.is_done = True
                self._done.notify_all()
                self._stopped = self._stopping and not self._open.is_wanted
        return not self._stopped


def _translated(directory: Path, error: OSError) -> JournalError:
    if error.errno in NO_SPACE:
        return JournalFull(directory)
    return JournalFailed(directory, error.strerror or str(error))


def _add(total: WriterSlot, slot: WriterSlot) -> None:
    total.appended += slot.appended
    total.refused += slot.refused
    total.torn += slot.torn
