"""What fails at the moment, and long-lived tasks that are started again when they fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import structlog

from assay.journal.backoff import Backoff

_BACKOFF: Final = Backoff(first=0.5, longest=10.0)
_TASK: Final = "task"
log = structlog.get_logger("assay.forward")


class Troubles:
    """The operations of one part that fail at the moment, logged when that begins and ends.

    `failures` counts every failure, by operation.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.failures: Counter[str] = Counter()
        self._messages: dict[str, str] = {}

    def __str__(self) -> str:
        """Return what fails, empty if nothing does."""
        return "; ".join(self._messages.values())

    def fail(self, operation: str, message: str) -> None:
        """Note that an operation has failed."""
        self.failures[operation] += 1
        if operation not in self._messages:
            log.error("failing", part=self.part, operation=operation, why=message)
        self._messages[operation] = message

    def recover(self, operation: str) -> None:
        """Note that an operation has succeeded."""
        if self._messages and self._messages.pop(operation, None) is not None:
            log.info("works again", part=self.part, operation=operation)

    def recover_all(self) -> None:
        """Note that a whole round of work has succeeded."""
        for operation in tuple(self._messages):
            self.recover(operation)


class LongLivedTask(Protocol):
    """Work that never ends by itself, and clears its troubles after each round that succeeds."""

    troubles: Troubles

    async def run(self) -> None:
        """Work until cancelled."""


class Supervisor:
    """Runs tasks, and starts one that fails again; `restarts` counts by part."""

    def __init__(self, backoff: Backoff = _BACKOFF) -> None:
        self.restarts: Counter[str] = Counter()
        self._backoff = backoff

    @asynccontextmanager
    async def running(self, task: LongLivedTask) -> AsyncIterator[None]:
        """Run a task within the context."""
        runner = asyncio.create_task(self._run(task))
        try:
            yield
        finally:
            runner.cancel()
            with suppress(asyncio.CancelledError):
                await runner

    async def _run(self, task: LongLivedTask) -> None:
        failures, troubles, own = 0, task.troubles, asyncio.current_task()
        while True:
            try:
                await task.run()
                why = "it returned"
            except asyncio.CancelledError:
                if own is None or own.cancelling():
                    raise
                why = "it was cancelled"  # a call that it awaited was, not the task
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                log.exception("task failed", part=troubles.part)
            failures = failures + 1 if str(troubles) else 1
            troubles.fail(_TASK, f"the task failed and is started again: {why}")
            self.restarts[troubles.part] += 1
            await asyncio.sleep(self._backoff.wait(failures))
