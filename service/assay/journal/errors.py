"""What may go wrong with a journal; all of it is the operator's to put right, none of it the caller's."""

from __future__ import annotations

from pathlib import Path


class JournalError(Exception):
    """Base of everything the journal raises on purpose."""


class JournalFull(JournalError):
    """No space could be reserved for more; what was appended before is unharmed."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"the journal in '{directory}' is full, free some space for it")
        self.directory = directory


class JournalFailed(JournalError):
    """The file system refused a write; the record may or may not be found in the journal later."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(f"the journal in '{directory}' failed: {reason}")
        self.directory = directory
        self.reason = reason


class JournalClosed(JournalFailed):
    """Nothing is appended once the journal was closed."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "it is closed")


class RecordTooLarge(JournalError):
    """A record is larger than the journal takes."""

    def __init__(self, size: int, largest: int) -> None:
        super().__init__(
            f"a record of {size} bytes is too large for the journal, expected at most {largest}"
        )
        self.size = size
        self.largest = largest


class HeadFileDamaged(JournalError):
    """A complete line of the file of heads is not a head."""

    def __init__(self, path: Path, line: int) -> None:
        super().__init__(f"line {line} of '{path}' is damaged, expected a signed head in JSON")
        self.path = path
        self.line = line


class KeyUnusable(JournalError):
    """The file of the signing key holds no Ed25519 key or lets others read it."""

    def __init__(self, path: Path, expected: str) -> None:
        super().__init__(f"the key in '{path}' cannot be used, expected {expected}")
        self.path = path
        self.expected = expected
