"""A curator at work in a process: one thread holds the lease, another one curates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Self

import structlog

from assay.curator.curator import Curator
from assay.curator.lease import LIFETIME, LeaseClient
from assay.curator.supervised_loop import BACKOFF, SupervisedLoop
from assay.engine.errors import AssayError
from assay.journal.backoff import Backoff
from assay.store.lease import Lease, LeaseLost

RENEWAL_S: Final = LIFETIME.total_seconds() / 4
LEASE_LATE_S: Final = 10.0  # a renewal takes milliseconds
CURATE_LATE_S: Final = 180.0  # reading and judging a large world takes minutes
JOIN_S: Final = 5.0  # how long the end waits for a tick that is under way
log = structlog.get_logger("assay.curator")


class LeaseHolder:
    """Takes the lease whenever it is free, and keeps it; `lease` is the one held now."""

    def __init__(self, client: LeaseClient) -> None:
        self.lease: Lease | None = None
        self.trouble: Exception | None = None
        self._client = client
        self._lock = threading.Lock()
        self._ended = False

    def refresh(self) -> None:
        """Renew or take the lease; an unavailable database alone does not lose it."""
        with self._lock:
            if self._ended:
                return
            try:
                lease = self.lease  # another thread may drop it meanwhile
                if lease is None:
                    self.lease = lease = self._client.acquire()
                    if lease is not None:
                        log.info("lease taken", token=lease.token)
                elif not self._client.renew(lease):
                    self.drop(lease)
                self.trouble = None
            except Exception as error:  # noqa: BLE001 - reported, then retried
                if str(error) != str(self.trouble):
                    log.warning("lease not refreshed", error=str(error))
                self.trouble = error

    def drop(self, lease: Lease) -> None:
        """Record that a lease is lost."""
        if self.lease is lease:
            self.lease = None
            log.warning("lease lost", token=lease.token)

    def end(self) -> None:
        """Release the lease, and acquire none from now on."""
        with self._lock:
            self._ended = True
            lease, self.lease = self.lease, None
            try:
                if lease is not None:
                    self._client.release(lease)
                    log.info("lease released", token=lease.token)
            except AssayError as error:
                log.warning("lease left to expire", error=str(error))


class CuratorLoop:
    """Curates from `__enter__` to `end`."""

    def __init__(
        self,
        curator: Curator,
        client: LeaseClient,
        interval: float,
        backoff: Backoff = BACKOFF,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.curator = curator
        self.holder = LeaseHolder(client)
        self._backoff = backoff
        self._steady = steady
        self._failures = 0
        self._due_at = steady()
        self._trouble: Exception | None = None
        self._curating = SupervisedLoop("curator", self.work, interval, late=CURATE_LATE_S)
        self._leasing = SupervisedLoop("lease", self.holder.refresh, RENEWAL_S, late=LEASE_LATE_S)
        curator.progress = self._curating.show_progress

    @property
    def trouble(self) -> BaseException | None:
        """The present failure of curating; `None` also while another process curates."""
        curating, holding = self._trouble or self.curator.trouble, self.holder.trouble
        return curating or holding or self._leasing.trouble or self._curating.trouble

    def __enter__(self) -> Self:
        self._leasing.start()
        self._curating.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lease; a tick under way can write nothing more, and is abandoned."""
        self.end()
        self.join(JOIN_S)

    def end(self) -> None:
        """Release the lease, so that another curator may continue at once."""
        self._leasing.end()
        self._curating.end()
        self.holder.end()

    def join(self, seconds: float) -> None:
        """Wait for both threads, for so many seconds at most."""
        deadline = time.monotonic() + seconds
        for loop in (self._leasing, self._curating):
            loop.join(deadline - time.monotonic())

    def work(self) -> None:
        """Curate if this process holds the lease; a failure becomes trouble and is retried."""
        lease = self.holder.lease
        if lease is None:
            self._trouble = self.curator.trouble = None
        elif self._steady() >= self._due_at:
            try:
                self.curator.curate(lease, lambda: self.holder.lease is lease)
            except LeaseLost:
                self.holder.drop(lease)
            except Exception as error:  # noqa: BLE001 - reported, then retried
                self._fail(error)
            else:
                self._failures, self._trouble = 0, None

    def _fail(self, error: Exception) -> None:
        self._trouble = error
        self._failures += 1
        retry_s = self._backoff.wait(self._failures)
        self._due_at = self._steady() + retry_s
        if isinstance(error, AssayError):
            log.warning("curating failed", error=str(error), retry_s=retry_s)
        else:
            log.error("curating failed", retry_s=retry_s, exc_info=error)
