"""The journal of this process: records are appended before an answer leaves, and refused before anything is harmed."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread, local
from types import TracebackType
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
from assay.journal.syncer import Syncer

SEGMENT_BYTES = 64 << 20
TICK = 0.05  # seconds: the most a loss of power takes in mode `write`, as long as the disk keeps up
PREPARING = 0.01  # seconds between looks whether the next segment is to be prepared: writers may be waiting for it
PATIENCE = 1.0  # seconds a thread waits for a segment that is still being prepared, the machine may be busy
NAP = 0.0005
MANY = 64


class Journal:
    """A stream of records in segments: in mode `write` they survive the process, in mode `sync` a loss of power."""

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
        self._syncer = Syncer(self._rotation, tick)
        self._janitor = Thread(target=self._keep_tidy, name="journal-janitor", daemon=True)
        self._counting, self._stop = Lock(), Event()
        self._retired = WriterSlot()  # what threads did that are no more
        self.closed = False
        self._tidy()
        self._syncer.start()
        self._janitor.start()

    def append(self, kind: int, payload: bytes) -> None:
        """Keep a record, or raise and let the caller refuse the answer."""
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
        """Find a segment with room, waiting a little for one that is being prepared."""
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
        """The journal goes on in a fresh segment; this record was refused."""
        segment.limit = 0
        slot.refused += 1
        if isinstance(reason, str):
            return JournalFailed(self.directory, reason)
        return _translated(self.directory, reason)

    @property
    def accepting(self) -> bool:
        """Whether the next record has a place to go; turns true again by itself."""
        segment = self._rotation.current
        ready = segment.has_room or segment.next is not None or self._rotation.trouble is None
        return ready and not self.closed

    @property
    def appended(self) -> int:
        """How many records were kept."""
        return self._counted().appended

    @property
    def refused(self) -> int:
        """How many records were refused with an error."""
        return self._counted().refused

    @property
    def torn(self) -> int:
        """How many of the refused have left a part of them behind."""
        return self._counted().torn

    def _counted(self) -> WriterSlot:
        """Add up the slots; those of threads that are gone are emptied into one."""
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
            if len(self._rotation.slots) > MANY:
                self._counted()  # forgets threads that are gone

    def _tidy(self) -> None:
        with suppress(
            OSError
        ):  # tried again at the next tick; nothing is lost while a segment stays unsealed
            self._rotation.tidy()

    def close(self) -> None:
        """Refuse what comes from now on, bring everything to the disk, and let others have the stream."""
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _translated(directory: Path, error: OSError) -> JournalError:
    if error.errno in NO_SPACE:
        return JournalFull(directory)
    return JournalFailed(directory, error.strerror or str(error))


def _add(total: WriterSlot, slot: WriterSlot) -> None:
    total.appended += slot.appended
    total.refused += slot.refused
    total.torn += slot.torn
