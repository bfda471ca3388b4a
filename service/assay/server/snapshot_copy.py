"""The last snapshot that a decider took, in a file beside its journal, to start from.

How it works
    A decider that starts while the database is away decides from this copy. The file begins with
    one line of JSON: number and id of the publication, and the size of the manifest and of each
    part. Manifest and parts follow, each named by its SHA-256, and none is used if its bytes have
    another digest. The file is written under another name, synced and renamed, so that it is
    always whole.

    Only the follower writes it, on its own thread and with pauses. If the disk is full, the copy
    stays older than the active snapshot, and the next attempt is made later.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import structlog

from assay.engine.canonical import address
from assay.engine.snapshot.snapshot import Snapshot
from assay.store.snapshots import Publication

NAME: Final = "snapshot.copy"
_FORMAT: Final = 1
_RETRY_S: Final = 30.0
_PRIVATE: Final = 0o600
log = structlog.get_logger("assay.server.snapshot_copy")


@dataclass(frozen=True, slots=True)
class CopiedSnapshot:
    """A publication with manifest and parts as read from the copy; all digests are right."""

    publication: Publication
    manifest: bytes
    parts: dict[str, bytes]


class SnapshotCopy:
    """The copy in a directory."""

    def __init__(self, directory: Path, steady: Callable[[], float] = time.monotonic) -> None:
        self._path = directory / NAME
        self._steady = steady
        self._saved: Publication | None = None
        self._not_before = 0.0

    @property
    def exists(self) -> bool:
        """Whether there is a copy."""
        return self._path.exists()

    def save(
        self, publication: Publication, snapshot: Snapshot, pause: Callable[[], object]
    ) -> None:
        """Write the copy unless it is this one already; a failure is logged and retried later."""
        is_saved = publication == self._saved and self.exists
        if is_saved or self._steady() < self._not_before:
            return
        try:
            self._write(publication, snapshot, pause)
        except OSError as error:
            self._not_before = self._steady() + _RETRY_S
            log.warning("copy of the snapshot not written", error=str(error), retry_s=_RETRY_S)
        else:
            self._saved = publication

    def load(self) -> CopiedSnapshot | None:
        """Return the copy; `None`, with a line in the log, if it is missing or damaged."""
        try:
            with self._path.open("rb") as file:
                copied = _read(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("copy of the snapshot cannot be used", error=str(error))
            return None
        self._saved = copied.publication
        return copied

    def _write(
        self, publication: Publication, snapshot: Snapshot, pause: Callable[[], object]
    ) -> None:
        temporary = self._path.with_name(f"{NAME}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, _PRIVATE), "wb") as file:
                for piece in _pieces(publication, snapshot):
                    file.write(piece)
                    pause()
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise


def _pieces(publication: Publication, snapshot: Snapshot) -> Iterator[bytes]:
    names = sorted(snapshot.parts)
    head = {
        "format": _FORMAT,
        "sequence": publication.sequence,
        "snapshot_id": publication.snapshot_id,
        "published_at": publication.published_at.isoformat(),
        "manifest": len(snapshot.manifest),
        "parts": [[name, len(snapshot.parts[name])] for name in names],
    }
    yield json.dumps(head).encode() + b"\n"
    yield snapshot.manifest
    for name in names:
        yield snapshot.parts[name]


def _read(file: BinaryIO) -> CopiedSnapshot:
    head: dict[str, Any] = json.loads(file.readline())
    if head["format"] != _FORMAT:
        raise ValueError(f"expected format {_FORMAT}, got {head['format']}")
    published_at = datetime.fromisoformat(head["published_at"]).astimezone(UTC)
    publication = Publication(head["sequence"], head["snapshot_id"], published_at)
    manifest = _read_piece(file, head["snapshot_id"], head["manifest"])
    parts = {name: _read_piece(file, name, size) for name, size in head["parts"]}
    return CopiedSnapshot(publication, manifest, parts)


def _read_piece(file: BinaryIO, name: str, size: int) -> bytes:
    data = file.read(size)
    if address(data) != name:
        raise ValueError(f"{name} is not the digest of its content")
    return data
