"""Leader election among curators: one row that its holder renews.

The row's token grows with every holder and is compared in each transaction of a tick, so that a
holder that lost the lease without noticing commits nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

from sqlalchemy import Engine

from assay.store.lease import Lease, read_lease, renew_lease, return_lease, take_lease

LIFETIME: Final = timedelta(seconds=8)
LIFETIME_S: Final = LIFETIME.total_seconds()


class LeaseClient(Protocol):
    """Access to the lease."""

    def acquire(self) -> Lease | None:
        """Take the lease if it is free; raises StoreUnavailable."""

    def renew(self, lease: Lease) -> bool:
        """Renew the lease; return whether it is still ours."""

    def release(self, lease: Lease) -> None:
        """Release the lease, so that another may take it at once."""


class RowLeaseClient:
    """A lease that is one row: its holder renews it, and another may take it once it has expired.

    `holder` names this process for people. `clock` is one that all curators share, such as the
    database's. A row that has not changed for a lifetime of the monotonic clock is free as well, in
    case that clock was set back.
    """

    def __init__(
        self,
        database: Engine,
        holder: str,
        clock: Callable[[], datetime],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._holder = holder
        self._clock = clock
        self._steady = steady
        self._seen: Lease | None = None
        self._seen_at = steady()

    def acquire(self) -> Lease | None:
        """Take the lease if it is free."""
        found, now = read_lease(self._database), self._clock()
        if found != self._seen:
            self._seen, self._seen_at = found, self._steady()
        is_abandoned = self._steady() - self._seen_at >= LIFETIME_S
        if found is not None and found.expires_at > now and not is_abandoned:
            return None
        return take_lease(self._database, self._holder, now + LIFETIME, seen=found)

    def renew(self, lease: Lease) -> bool:
        """Move the expiry on; return whether the lease is still ours."""
        return renew_lease(self._database, lease, self._clock() + LIFETIME)

    def release(self, lease: Lease) -> None:
        """Release the lease, so that another may take it at once."""
        return_lease(self._database, lease)
