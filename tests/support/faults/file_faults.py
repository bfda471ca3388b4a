"""Faults at the n-th file operation, whichever operation that is.

Two seams see every call: `FileOperations`, by which the journal changes files, and Python's audit
hook for all others (opening to read, listing a directory, locking). An undisturbed run records the
names of its calls in order, so an enumeration of their numbers is complete by construction.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from tests.support.faults.database_faults import ProcessDied

from assay.journal.operating_system import REAL, FileOperations

Kind = Literal["refused", "short", "torn", "done", "die"]
GOOD = 1 << 30  # calls: for good

AUDITED = {
    "open": "other open",
    "os.listdir": "other list",
    "os.scandir": "other list",
    "os.mkdir": "other mkdir",
    "os.link": "other link",
    "os.remove": "other unlink",
    "os.rename": "other rename",
    "fcntl.flock": "lock",
}
"""Audit events of calls that may fail, by the name under which they are recorded."""


@dataclass(frozen=True)
class FileFault:
    """The n-th call fails, and the next `calls` - 1 calls of the same operation.

    `refused` fails before anything is done, `torn` after half of a write, `done` after all of it;
    `short` returns as if half a write was all. `die` ends the simulated process after the call.
    """

    number: int
    kind: Kind = "refused"
    code: int = errno.EIO
    calls: int = 1

    def __str__(self) -> str:
        name = errno.errorcode[self.code]
        return f"call {self.number} {self.kind} with {name}, {self.calls} times"


class FaultyFiles:
    """Counts the file operations of one process below a directory, and lets some of them fail."""

    def __init__(self, directory: Path) -> None:
        self.calls: list[str] = []
        self.struck = 0
        self.fault: FileFault | None = None
        self._directory = str(directory)
        self._left = 0
        self._failing = ""
        self._inside = threading.local()
        self._thread = threading.get_ident()
        self.operations = FileOperations(
            **{
                each.name: self._wrapped(each.name, getattr(REAL, each.name))
                for each in fields(FileOperations)
            }
        )

    def arm(self, fault: FileFault | None) -> None:
        """Replace the fault; its number counts from the next call."""
        self.calls.clear()
        self.fault, self._left, self._failing = fault, fault.calls if fault else 0, ""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count the calls that pass the audit hook, too."""
        _watching.append(self)
        try:
            yield
        finally:
            _watching.remove(self)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count a call reported by the audit hook, and raise OSError if it is to fail."""
        if getattr(self._inside, "seam", False):
            return
        place = arguments[0]
        if event == "fcntl.flock" or str(place).startswith(self._directory):
            fault = self._next(AUDITED[event])
            if fault is not None:
                raise self._death(fault)

    def _next(self, name: str) -> FileFault | None:
        """Count a call; return the fault if this call is to fail."""
        self.calls.append(name)
        fault = self.fault
        if fault is None or self._left == 0:
            return None
        is_first = not self._failing and len(self.calls) == fault.number + 1
        if not is_first and name != self._failing:
            return None
        self._failing = name
        self._left -= 1
        self.struck += 1
        return fault

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            fault = self._next(name)
            self._inside.seam = True
            try:
                return real(*arguments) if fault is None else self._fail(fault, name, arguments)
            finally:
                self._inside.seam = False

        return call

    def _fail(self, fault: FileFault, name: str, arguments: Any) -> Any:
        if name == "write" and fault.kind in {"short", "torn"}:
            descriptor, data = arguments
            written = os.write(descriptor, data[: len(data) // 2])
            if fault.kind == "short":
                return written
        elif fault.kind in {"done", "die"}:
            done = getattr(REAL, name)(*arguments)
            if name == "open":
                os.close(done)
        raise self._death(fault)

    def _death(self, fault: FileFault) -> BaseException:
        """Return the error to raise; only the thread that is stepped can end the process."""
        is_stepped = threading.get_ident() == self._thread
        return ProcessDied() if fault.kind == "die" and is_stepped else _error(fault)


def _error(fault: FileFault) -> OSError:
    return OSError(fault.code, os.strerror(fault.code))


_watching: list[FaultyFiles] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in AUDITED:
        for each in tuple(_watching):
            each.audit(event, arguments)


sys.addaudithook(_hook)  # cannot be removed: it does nothing while `_watching` is empty
