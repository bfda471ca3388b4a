"""A thread that works in rounds, survives every failure, and shows when it stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from assay.journal.backoff import Backoff

_BACKOFF = Backoff(first=0.01, longest=1.0)


class ThreadStalled(Exception):
    """A thread has ended, or its round takes too long."""


class WorkerThread:
    """Calls `work` until it returns False; after an exception it goes on, after a wait.

    A thread is late if a round takes longer than `late_after` seconds.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], bool],
        *,
        late_after: float,
        steady: Callable[[], float] = time.monotonic,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self.name = name
        self.round_ended_at = steady()
        self._work = work
        self._late_after = late_after
        self._steady = steady
        self._backoff = backoff
        self._error: Exception | None = None
        self._failures = 0
        self._is_expected = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start, or start again if the thread has ended."""
        if self._is_expected:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._is_expected = True
        self.round_ended_at = self._steady()
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end, which is no trouble; return whether the thread has ended."""
        self._is_expected = False
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_dead(self) -> bool:
        """Whether the thread has ended without having been asked to."""
        return self._is_expected and not self._thread.is_alive()

    @property
    def trouble(self) -> Exception | None:
        """Why the thread does not do its work at the moment."""
        if not self._is_expected:
            return None
        if not self._thread.is_alive():
            return ThreadStalled(f"thread {self.name} has ended")
        late = self._steady() - self.round_ended_at
        if late > self._late_after:
            return ThreadStalled(f"thread {self.name} has stood still for {late:.0f} s")
        return self._error

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            try:
                goes_on = self._work()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next round may succeed
                self._error = error
                self._failures += 1
                time.sleep(self._backoff.wait(self._failures))
            else:
                self._error, self._failures = None, 0
            self.round_ended_at = self._steady()
