"""The journal of a process: recovered at start, shipped by a thread, drained at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from assay.journal.recovery import recover
from assay.journal.shipper import Shipper
from assay.journal.sink import RecordKind
from assay.journal.writer import Journal

Mode = Literal["write", "sync"]
DRAIN_SECONDS = 5.0
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

    def __init__(self, directory: Path, database: Engine, mode: Mode = "write") -> None:
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
            chain_signer = ChainSigner(signer, self.head_file, frozenset({RecordKind.DECISION}))
            self.journal = Journal(directory, mode=mode)
        except (JournalError, OSError) as error:
            raise JournalUnusable(f"journal {str(directory)!r}: {error}") from error
        self.sink = LogSink(database)
        self.shipper = Shipper(directory, self.sink, chain_signer, own=self.journal.stream)
        self.thread = threading.Thread(target=self.shipper.run, name="assay-shipper", daemon=True)
        self.thread.start()

    @property
    def accepting(self) -> bool:
        """Whether the next decision can be logged."""
        return self.journal.accepting

    @property
    def trouble(self) -> Exception | None:
        """Why records cannot be shipped at the moment; they stay in the journal meanwhile."""
        return self.shipper.trouble

    @property
    def verification_inputs(self) -> VerificationInputs:
        """The key and heads to verify the log with."""
        return VerificationInputs(self.public_keys, self.heads)

    def heads(self) -> list[Head]:
        """Return the signed heads stored outside the database."""
        return self.head_file.read()

    def drain(self, seconds: float = DRAIN_SECONDS) -> bool:
        """Ship everything; return whether that was possible in time."""
        return self.shipper.drain(seconds)

    def close(self) -> None:
        """Reject further records, ship what is possible within seconds, and release the files."""
        self.journal.close()
        if not self.drain():
            log.warning(
                "records stay in the journal for the next process",
                trouble=str(self.trouble or "slow"),
            )
        self.shipper.stop()
        self.thread.join()
