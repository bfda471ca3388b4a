"""Errors of the journal; the operator has to fix all of them."""

from __future__ import annotations

from pathlib import Path


class JournalError(Exception):
    """Base class of the journal's errors."""


class JournalFull(JournalError):
    """The disk is full; earlier records are unharmed."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"the journal in '{directory}' is full: free some disk space")


class JournalFailed(JournalError):
    """A write failed; the record may or may not be in the journal."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(f"the journal in '{directory}' failed: {reason}")


class JournalClosed(JournalFailed):
    """The journal is closed."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "it is closed")


class RecordTooLarge(JournalError):
    """A record exceeds the journal's limit."""

    def __init__(self, size: int, largest: int) -> None:
        super().__init__(
            f"a record of {size} bytes is too large for the journal, expected at most {largest}"
        )


class HeadFileDamaged(JournalError):
    """A complete line of the file of heads is not a valid head."""

    def __init__(self, path: Path, line: int) -> None:
        super().__init__(f"line {line} of '{path}' is damaged, expected a signed head in JSON")


class KeyUnusable(JournalError):
    """The signing key's file holds no Ed25519 key, or others can read it."""

    def __init__(self, path: Path, expected: str) -> None:
        super().__init__(f"the key in '{path}' cannot be used, expected {expected}")
