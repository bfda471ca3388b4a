"""The journal of a process: recovered at start, shipped by a thread, drained at the end.

How it works
------------
Four threads work on a journal: its janitor and syncer, the shipper, and one that watches them. No
exception ends one of them, and each shows when it last finished a round. The watching thread logs
every trouble once when it begins and once when it is over, starts dead threads again, and
restores key and heads that were deleted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import structlog
from sqlalchemy import Engine

from assay.decision_log.sink import LogSink
from assay.decision_log.verify import read_public_keys
from assay.engine.errors import OperatorError
from assay.journal.chain import Head, HeadSigner
from assay.journal.errors import JournalError
from assay.journal.heads import ChainSigner, HeadFile
from assay.journal.layout import streams
from assay.journal.recovery import recover
from assay.journal.shipment import GracePeriod
from assay.journal.shipper import DEFAULT_PACE, Shipper, ShippingPace
from assay.journal.sink import RecordKind
from assay.journal.worker_thread import WorkerThread
from assay.journal.writer import Journal

Mode = Literal["write", "sync"]
DRAIN_SECONDS = 5.0
STOP_SECONDS = 2.0  # for a batch that is being stored
SHIPPER_LATE_SECONDS = 60.0
WATCH_SECONDS = 0.2
_PAUSE = 0.01
HEADS = "heads.jsonl"
KEY = "signing.key"
log = structlog.get_logger("assay.decision_log.writer")


@dataclass(frozen=True, slots=True)
class VerificationInputs:
    """What verification needs from outside the database: public keys and signed heads."""

    public_keys: Mapping[str, bytes] = field(default_factory=dict)
    heads: Callable[[], list[Head]] = list


NO_VERIFICATION_INPUTS = VerificationInputs()


def read_verification_inputs(directory: Path) -> VerificationInputs:
    """Return the key and heads of a journal's directory, without opening the journal."""
    key = directory / KEY
    return VerificationInputs(
        read_public_keys([key]) if key.exists() else {}, HeadFile(directory / HEADS).read
    )


class JournalUnusable(OperatorError):
    """The journal's directory or key cannot be used."""


class DecisionLogWriter:
    """Takes records until `close`; the next process ships the rest of the journal."""

    def __init__(
        self,
        directory: Path,
        database: Engine,
        mode: Mode = "write",
        pace: ShippingPace = DEFAULT_PACE,
    ) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for found in recover(directory):
                log.info(
                    "recovered",
                    stream=found.stream,
                    records=found.frames,
                    cut_bytes=found.cut_bytes,
                    torn=found.torn_frames,
                )
            signer = HeadSigner(directory / KEY)
            self.head_file = HeadFile(directory / HEADS)
            self.public_keys = {signer.key_id: signer.public_key}
            self._signer = ChainSigner(signer, self.head_file, frozenset({RecordKind.DECISION}))
            self.journal = Journal(directory, mode=mode)
        except (JournalError, OSError) as error:
            raise JournalUnusable(f"journal {str(directory)!r}: {error}") from error
        self.sink = LogSink(database)
        self.shipper = Shipper(
            directory,
            self.sink,
            self._signer,
            own=self.journal.stream,
            pace=pace,
            needs_space=lambda: self.journal.is_full,
        )
        self.thread = WorkerThread(
            "assay-shipper", self.shipper.run_round, late_after=SHIPPER_LATE_SECONDS
        )
        self._watch = _Watch(self)
        self._watching = WorkerThread("assay-journal-watch", self._watch.run_round, late_after=60.0)
        self.thread.start()
        self._watching.start()

    @property
    def accepting(self) -> bool:
        """Whether the next decision can be logged."""
        return self.journal.accepting

    @property
    def troubles(self) -> dict[str, Exception]:
        """What is wrong at the moment: with the `journal` on disk, or with `shipping` it."""
        found = {
            "journal": self.journal.trouble,
            "shipping": self.shipper.trouble or self.thread.trouble,
        }
        return {part: error for part, error in found.items() if error is not None}

    @property
    def trouble(self) -> Exception | None:
        """Why records cannot be shipped or safely stored at the moment, or None."""
        return next(iter(self.troubles.values()), None)

    @property
    def verification_inputs(self) -> VerificationInputs:
        """The key and heads to verify the log with."""
        return VerificationInputs(self.public_keys, self.heads)

    def heads(self) -> list[Head]:
        """Return the signed heads stored outside the database."""
        return self.head_file.read()

    def restart_dead_threads(self) -> list[str]:
        """Start the shipper, janitor and syncer again if they have ended; return which had."""
        dead = self.journal.restart_dead_threads()
        if self.thread.is_dead:
            self.thread.start()
            dead.append(self.thread.name)
        return dead

    def restore_key_and_heads(self) -> list[str]:
        """Write key and heads again if they were deleted; return the names of those files."""
        return self._signer.restore()

    def drain(self, seconds: float = DRAIN_SECONDS) -> bool:
        """Wait until everything is shipped; return whether that was possible in time."""
        deadline = time.monotonic() + seconds
        while not self.shipper.is_done:
            if time.monotonic() >= deadline:
                return False
            self.shipper.wake()
            time.sleep(_PAUSE)
        return True

    def close(self) -> None:
        """Reject further records, ship what is possible within seconds, and release the files."""
        self._watch.stop()
        self._watching.join(STOP_SECONDS)
        self.journal.close()
        is_drained = self.drain()
        trouble = self.trouble
        self.shipper.stop()
        is_ended = self.thread.join(STOP_SECONDS)
        if not (is_drained and is_ended):
            log.warning(
                "records stay in the journal for the next process", trouble=str(trouble or "slow")
            )


class _Watch:
    """Logs troubles when they begin and end, and restarts what can be restarted."""

    def __init__(self, writer: DecisionLogWriter) -> None:
        self._writer = writer
        self._known: dict[str, Exception] = {}
        self._rewinds = self._lost = self._restored = 0
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run_round(self) -> bool:
        """Look once, after a wait; return whether there are more rounds."""
        is_last = self._stop.wait(WATCH_SECONDS)
        writer = self._writer
        self._log_troubles(writer.troubles)
        for thread in [] if is_last else writer.restart_dead_threads():
            log.error("thread restarted", thread=thread, cause="it had ended")
        self._log_counts()
        restored, files = writer.journal.restored, writer.restore_key_and_heads()
        if files or restored > self._restored:
            log.error("journal restored", cause="files were deleted or moved", key_and_heads=files)
        self._restored = restored
        return not is_last

    def _log_troubles(self, troubles: Mapping[str, Exception]) -> None:
        """Log a trouble that is new or of another kind, and one that is over."""
        for part, error in troubles.items():
            if type(self._known.get(part)) is not type(error):
                is_foreseen = isinstance(error, (JournalError, OperatorError, OSError))
                why = None if is_foreseen else error
                log.error("trouble", part=part, cause=str(error), exc_info=why)
        for part in self._known.keys() - troubles.keys():
            log.info("trouble is over", part=part)
        self._known = dict(troubles)

    def _log_counts(self) -> None:
        counts = self._writer.shipper.counts
        if counts.rewinds > self._rewinds:
            log.warning("database lost commits", effect="the journal ships these records again")
        if counts.lost > self._lost:
            lost = counts.lost - self._lost
            log.error("database lost commits that the journal had deleted", decisions=lost)
        self._rewinds, self._lost = counts.rewinds, counts.lost


def delete_shipped(directory: Path, database: Engine) -> None:
    """Ship what ended processes left in a journal, and delete at once what is shipped.

    Raises JournalUnusable if anything stays: records that cannot be shipped, or streams of running
    processes, which are not touched.
    """
    pace = replace(DEFAULT_PACE, grace=GracePeriod(seconds=0.0))
    writer = DecisionLogWriter(directory, database, pace=pace)
    writer.drain()
    trouble = writer.trouble
    writer.close()
    if left := streams(directory):
        why = str(trouble or "a running process uses it, stop it first")
        raise JournalUnusable(f"journal {str(directory)!r}: {len(left)} streams stay: {why}")
