"""A curator at work in a process: one thread keeps the lease, another one ticks while there is one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog

from assay.curator.curator import Curator
from assay.curator.lease import LIFETIME, LeaseClient
from assay.engine.errors import AssayError
from assay.store.lease import Lease, LeaseLost

FIRST_S: Final = 1.0
LONGEST_S: Final = 30.0


class BackOff:
    """Attempts are due at once until one fails; then after one second, and after twice as long with each failure."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._wait = FIRST_S
        self._due_at = steady()

    def due(self) -> bool:
        """Whether another attempt may be made."""
        return self._steady() >= self._due_at

    def failed(self) -> float:
        """Put the next attempt off; says by how many seconds."""
        wait, self._wait = self._wait, min(2 * self._wait, LONGEST_S)
        self._due_at = self._steady() + wait
        return wait

    def succeeded(self) -> None:
        """Let the next attempts be due at once."""
        self._wait, self._due_at = FIRST_S, self._steady()


KEPT_EVERY_S: Final = LIFETIME.total_seconds() / 4
LAST_WORDS_S: Final = 5.0  # what a tick that is under way at the end gets before it is left behind
log = structlog.get_logger("assay.curator")


class LeaseHolder:
    """Holds the lease whenever it is to be had, from one look to the next; `lease` is what is held now."""

    def __init__(self, leasing: LeaseClient) -> None:
        self.lease: Lease | None = None
        self.trouble: Exception | None = None
        self._leasing = leasing
        self._turn = threading.Lock()
        self._ended = False

    def look(self) -> None:
        """Renew or take the lease; a database that is away costs it only once somebody else has it."""
        with self._turn:
            if not self._ended:
                try:
                    self._look(self.lease)
                    self.trouble = None
                except Exception as error:  # noqa: BLE001 - told, and tried again at the next look
                    self.trouble = error

    def _look(self, lease: Lease | None) -> None:
        if lease is None:
            self.lease = self._leasing.acquire()
            if self.lease is not None:
                log.info("lease taken", token=self.lease.token)
        elif not self._leasing.renew(lease):
            self.drop(lease)

    def drop(self, lease: Lease) -> None:
        """Take note that a lease is lost."""
        if self.lease is lease:
            self.lease = None
            log.warning("lease lost", token=lease.token)

    def end(self) -> None:
        """Give the lease back, and take none any more."""
        with self._turn:
            self._ended = True
            lease, self.lease = self.lease, None
            try:
                if lease is not None:
                    self._leasing.release(lease)
                    log.info("lease given back", token=lease.token)
            except AssayError as error:
                log.warning("lease left to run out", error=str(error))
            finally:
                self._leasing.close()


class CuratorLoop:
    """Curates from `__enter__` to `end`; `trouble` says why not at the moment, if so."""

    def __init__(self, curator: Curator, leasing: LeaseClient, interval: float) -> None:
        self.curator = curator
        self.keeper = LeaseHolder(leasing)
        self.backoff = BackOff()
        self._interval = interval
        self._trouble: Exception | None = None
        self._ended = threading.Event()
        self._threads = (
            threading.Thread(target=self._keep, name="assay-lease", daemon=True),
            threading.Thread(target=self._curate, name="assay-curator", daemon=True),
        )

    @property
    def trouble(self) -> Exception | None:
        """Why nothing can be curated here, if so; that another process curates is no trouble."""
        return self._trouble or self.keeper.trouble

    def __enter__(self) -> Self:
        """Start to curate."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the lease back at once; a tick that is under way then cannot be written any more, and is left."""
        self.end()
        for thread in self._threads:
            thread.join(LAST_WORDS_S)

    def end(self) -> None:
        """Give the lease back, so that another curator may go on."""
        self._ended.set()
        self.keeper.end()

    def work(self) -> None:
        """Do what is due, if it is ours to do; what fails is told, left as it was, and tried again later."""
        lease = self.keeper.lease
        if lease is None:
            self._trouble = None
        elif self.backoff.due():
            try:
                self.curator.work(lease, lambda: self.keeper.lease is lease)
            except LeaseLost:
                self.keeper.drop(lease)
            except Exception as error:  # noqa: BLE001 - whatever a tick fails of, it is tried again, and told
                self._failed(error)
            else:
                self.backoff.succeeded()
                self._trouble = None

    def _failed(self, error: Exception) -> None:
        self._trouble = error
        again = self.backoff.failed()
        if isinstance(error, AssayError):
            log.warning("tick failed", error=str(error), again_s=again)
        else:
            log.error("tick failed", again_s=again, exc_info=error)

    def _keep(self) -> None:
        self.keeper.look()
        while not self._ended.wait(KEPT_EVERY_S):
            self.keeper.look()

    def _curate(self) -> None:
        while not self._ended.is_set():
            self.work()
            self._ended.wait(self._interval)
