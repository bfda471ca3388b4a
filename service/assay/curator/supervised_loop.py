"""A thread that does the same work again and again, survives every error, and knows if it is late.

How it works
    An exception that the work lets through is logged, is the loop's `trouble` until a round
    succeeds, and delays the next round with backoff. Nothing ends the thread except `end`.

    A round that hangs raises nothing. So the loop also notes when it last showed progress: at the
    end of each round, and whenever the work calls `show_progress`. Other threads read `trouble`,
    which never waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from assay.engine.errors import AssayError, OperatorError
from assay.journal.backoff import Backoff

BACKOFF: Final = Backoff(first=1.0, longest=30.0)
log = structlog.get_logger("assay.loop")


class LoopLate(OperatorError):
    """A loop has shown no progress for longer than it may take."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"{name}: no progress for {seconds:.0f} s")


class SupervisedLoop:
    """Calls `work` every `interval` seconds on a thread of its own.

    `late` is the longest time in seconds that may pass without progress, beyond the interval.
    """

    def __init__(  # noqa: PLR0913 - the last two have defaults
        self,
        name: str,
        work: Callable[[], object],
        interval: float,
        *,
        late: float,
        backoff: Backoff = BACKOFF,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._work = work
        self._interval = interval
        self._late = late + interval
        self._backoff = backoff
        self._steady = steady
        self._failures = 0
        self._pause = 0.0
        self._failure: BaseException | None = None
        self._progress_at: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"assay-{name}", daemon=True)

    @property
    def trouble(self) -> BaseException | None:
        """The error of the last round, or LoopLate; `None` before the start and after the end."""
        if self._progress_at is None or self._ended.is_set():
            return None
        silent = self._steady() - self._progress_at
        if silent > self._late + self._pause:
            return LoopLate(self.name, silent)
        return self._failure

    def start(self) -> None:
        """Start the thread."""
        self._progress_at = self._steady()
        self._thread.start()

    def end(self) -> None:
        """End the thread after the round that is running."""
        self._ended.set()

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, for so many seconds at most; then abandon it."""
        if self._thread.ident is not None:
            self._thread.join(max(seconds, 0.0))

    def show_progress(self) -> None:
        """Note that a long round is making progress."""
        self._progress_at = self._steady()

    def run_round(self) -> float:
        """Do one round; return the pause after it in seconds."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - no error may end the thread
            self._failure = error
            self._failures += 1
            self._pause = self._backoff.wait(self._failures)
            self._log_failure(error)
        else:
            self._failures, self._failure, self._pause = 0, None, 0.0
        self.show_progress()
        return self._pause or self._interval

    def _log_failure(self, error: BaseException) -> None:
        if isinstance(error, AssayError):
            log.warning("round failed", loop=self.name, error=str(error), retry_s=self._pause)
        else:
            log.error("round failed", loop=self.name, retry_s=self._pause, exc_info=error)

    def _run(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            pause = self.run_round()
