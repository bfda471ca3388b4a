"""How one of many curators comes to be the one that works: by an advisory lock on PostgreSQL, by a row on SQLite.

On both the row's token grows with every holder and is compared in each transaction of a tick, so that a holder which
lost the lease without noticing commits nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from assay.store.database import translated
from assay.store.lease import Lease, lease_row, read_lease, renew_lease, return_lease, take_lease

LIFETIME: Final = timedelta(seconds=8)
LOCK: Final = 0x41_73_73_61_63  # the advisory lock that the curator's own connection holds
SECONDS: Final = int(LIFETIME.total_seconds())
SETTINGS: Final = (
    f"SET idle_session_timeout = '{SECONDS}s'",  # the server hangs up on a holder that stands still …
    "SET tcp_keepalives_idle = 2",  # … or is cut off
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    f"SET tcp_user_timeout = '{SECONDS}s'",
)


class LeaseClient(Protocol):
    """A way to the lease."""

    def acquire(self) -> Lease | None:
        """Take the lease if it is to be had."""

    def renew(self, lease: Lease) -> bool:
        """Keep it; whether it is still ours."""

    def release(self, lease: Lease) -> None:
        """Give it back, so that another may take it at once."""

    def close(self) -> None:
        """Stop asking for it."""


def lease_client(database: Engine, holder: str, clock: Callable[[], datetime]) -> LeaseClient:
    """The way that this database offers; `holder` is a name for people, of this process alone."""
    return (AdvisoryLeaseClient if database.dialect.name == "postgresql" else RowLeaseClient)(
        database, holder, clock
    )


class RowLeaseClient:
    """The row is the lease: who has it moves its end on; once that has passed, another may take it.

    The end is compared with this machine's clock. Where that was set back, a row that nobody touched for a lifetime
    by the steady clock is free as well.
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
        """Take the lease if it is to be had."""
        found, now = read_lease(self._database), self._clock()
        if found != self._seen:
            self._seen, self._seen_at = found, self._steady()
        untouched = self._steady() - self._seen_at >= SECONDS
        if found is not None and found.expires_at > now and not untouched:
            return None
        return take_lease(self._database, self._holder, now + LIFETIME, seen=found)

    def renew(self, lease: Lease) -> bool:
        """Keep it; whether it is still ours."""
        return renew_lease(self._database, lease, self._clock() + LIFETIME)

    def release(self, lease: Lease) -> None:
        """Give it back, so that another may take it at once."""
        return_lease(self._database, lease)

    def close(self) -> None:
        """Stop asking for it, which takes nothing."""


class AdvisoryLeaseClient:
    """A lock that lives as long as a connection of its own, which the server closes when its holder stands still."""

    def __init__(self, database: Engine, holder: str, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._holder = holder
        self._clock = clock
        self._connection: Connection | None = None

    def acquire(self) -> Lease | None:
        """Take the lease if it is to be had; the row's token is the next one from then on."""
        try:
            with translated(self._database):
                self._connection = self._connection or self._connected()
                locked = self._connection.scalar(
                    text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}
                )
            if not locked:
                return None
            taken = None
            while taken is None:
                taken = take_lease(
                    self._database,
                    self._holder,
                    self._clock() + LIFETIME,
                    seen=read_lease(self._database),
                )
        except BaseException:
            self.close()
            raise
        return taken

    def renew(self, lease: Lease) -> bool:
        """Keep it by a word on its connection; whether it is still ours: nobody else had the row since."""
        if self._connection is None:
            return False
        try:
            held = lease_row(self._connection) == lease
        except DBAPIError:
            held = False
        if not held:
            self.close()
        return held

    def release(self, lease: Lease) -> None:
        """Give it back, so that another may take it at once."""
        try:
            return_lease(self._database, lease)
        finally:
            self.close()

    def close(self) -> None:
        """Stop asking for it. The pool must not have the connection back, set up as it is."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _connected(self) -> Connection:
        """A connection for the lock alone."""
        connection = self._database.connect().execution_options(isolation_level="AUTOCOMMIT")
        for setting in SETTINGS:
            connection.execute(text(setting))
        return connection
