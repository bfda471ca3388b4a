"""The curator's lease: one row whose token fences off a curator that has lost it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, insert, select, update

from assay.engine.errors import OperatorError
from assay.engine.world.clock import EPOCH
from assay.store.database import (
    reading,
    translate_errors,
    writing,
    writing_concurrently,
)
from assay.store.pool_tables import curator_lease

_LEASE = "curator"
_NO_HOLDER = ""


class LeaseLost(OperatorError):
    """Another curator holds the lease; nothing of the transaction was stored."""

    def __init__(self, token: int) -> None:
        super().__init__(f"the curator's lease {token} is lost")
        self.token = token


@dataclass(frozen=True, slots=True)
class Lease:
    """The stored lease: its token, its holder, and when it expires unless renewed."""

    token: int
    holder: str
    expires_at: datetime


def read_lease(database: Engine) -> Lease | None:
    """Return the stored lease; `None` if it was never taken."""
    with reading(database) as connection:
        return lease_row(connection)


def lease_row(connection: Connection) -> Lease | None:
    """Read the one row."""
    query = select(curator_lease).where(curator_lease.c.lease == _LEASE)
    row = connection.execute(query).one_or_none()
    return None if row is None else Lease(row.token, row.holder, row.expires_at)


def take_lease(
    database: Engine, holder: str, expires_at: datetime, *, seen: Lease | None
) -> Lease | None:
    """Take the lease under the next token, unless it has changed since it was `seen`."""
    with writing(database) as connection:
        if lease_row(connection) != seen:
            return None
        taken = Lease(1 if seen is None else seen.token + 1, holder, expires_at)
        values = {"token": taken.token, "holder": holder, "expires_at": expires_at}
        if seen is None:
            connection.execute(insert(curator_lease).values(lease=_LEASE, **values))
        else:
            own = curator_lease.c.lease == _LEASE
            connection.execute(update(curator_lease).where(own).values(**values))
        return taken


def renew_lease(database: Engine, lease: Lease, expires_at: datetime) -> bool:
    """Extend the lease; return whether it is still held."""
    return _change(database, lease, {"expires_at": expires_at})


def return_lease(database: Engine, lease: Lease) -> bool:
    """Release the lease, so that another can take it at once; return whether it was still held."""
    return _change(database, lease, {"holder": _NO_HOLDER, "expires_at": EPOCH})


def _change(database: Engine, lease: Lease, values: dict[str, object]) -> bool:
    # Not in `writing`: the token stays the same, and a long write must not cost the lease.
    row = curator_lease.c
    own = (row.lease == _LEASE, row.token == lease.token, row.holder == lease.holder)
    change = update(curator_lease).where(*own).values(**values)
    with translate_errors(database), writing_concurrently(database) as connection:
        return connection.execute(change).rowcount == 1


def require_lease(connection: Connection, lease: Lease) -> None:
    """Raise LeaseLost, in a transaction of `writing`, unless the lease is still held."""
    found = lease_row(connection)
    if found is None or (found.token, found.holder) != (lease.token, lease.holder):
        raise LeaseLost(lease.token)
