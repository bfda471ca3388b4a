"""Leader election among curators: by an advisory lock on PostgreSQL, by a row on SQLite.

In both cases the row's token grows with every holder and is compared in each transaction of a tick,
so that a holder that lost the lease without noticing commits nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from assay.store.database import translate_errors
from assay.store.lease import Lease, lease_row, read_lease, renew_lease, return_lease, take_lease

LIFETIME: Final = timedelta(seconds=8)
LIFETIME_S: Final = int(LIFETIME.total_seconds())
LOCK_KEY: Final = 0x41_73_73_61_63  # the advisory lock that the curator's own connection holds
SESSION_SETTINGS: Final = (
    f"SET idle_session_timeout = '{LIFETIME_S}s'",  # closes a holder that hangs …
    "SET tcp_keepalives_idle = 2",  # … or that is cut off
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    f"SET tcp_user_timeout = '{LIFETIME_S}s'",
)


class LeaseClient(Protocol):
    """Access to the lease."""

    def acquire(self) -> Lease | None:
        """Take the lease if it is free; raises StoreUnavailable."""

    def renew(self, lease: Lease) -> bool:
        """Renew the lease; return whether it is still ours."""

    def release(self, lease: Lease) -> None:
        """Release the lease, so that another may take it at once."""

    def close(self) -> None:
        """Release what the client itself holds."""


def lease_client(database: Engine, holder: str, clock: Callable[[], datetime]) -> LeaseClient:
    """Return the client for this database; `holder` names this process for people."""
    if database.dialect.name == "postgresql":
        return AdvisoryLeaseClient(database, holder, clock)
    return RowLeaseClient(database, holder, clock)


class RowLeaseClient:
    """A lease that is one row: its holder renews it, and another may take it once it has expired.

    The expiry is compared with the wall clock. A row that has not changed for a lifetime of the
    monotonic clock is free as well, in case the wall clock was set back.
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

    def close(self) -> None:
        """Do nothing: the client holds nothing."""


class AdvisoryLeaseClient:
    """A lock that lives as long as its connection, which the server closes if the holder hangs."""

    def __init__(self, database: Engine, holder: str, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._holder = holder
        self._clock = clock
        self._connection: Connection | None = None

    def acquire(self) -> Lease | None:
        """Take the lease if it is free, with the row's next token."""
        try:
            with translate_errors(self._database):
                self._connection = self._connection or self._connect()
                lock = text("SELECT pg_try_advisory_lock(:key)")
                if not self._connection.scalar(lock, {"key": LOCK_KEY}):
                    return None
            taken = None
            while taken is None:
                seen, expires_at = read_lease(self._database), self._clock() + LIFETIME
                taken = take_lease(self._database, self._holder, expires_at, seen=seen)
        except BaseException:
            self.close()
            raise
        else:
            return taken

    def renew(self, lease: Lease) -> bool:
        """Keep the connection busy; return whether the row, and so the lease, is still ours."""
        if self._connection is None:
            return False
        try:
            is_ours = lease_row(self._connection) == lease
        except DBAPIError:
            is_ours = False
        if not is_ours:
            self.close()
        return is_ours

    def release(self, lease: Lease) -> None:
        """Release the lease, so that another may take it at once."""
        try:
            return_lease(self._database, lease)
            # Unlock now; the server frees the locks of a dropped connection a moment later.
            if self._connection is not None and not self._connection.invalidated:
                with suppress(DBAPIError):
                    unlock = text("SELECT pg_advisory_unlock(:key)")
                    self._connection.execute(unlock, {"key": LOCK_KEY})
        finally:
            self.close()

    def close(self) -> None:
        """Drop the connection, which the pool must not reuse with these settings."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _connect(self) -> Connection:
        connection = self._database.connect().execution_options(isolation_level="AUTOCOMMIT")
        for setting in SESSION_SETTINGS:
            connection.execute(text(setting))
        return connection
