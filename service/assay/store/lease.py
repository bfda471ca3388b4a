"""The row that says who curates; its token fences off whoever went on after losing the lease."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, insert, select, update

from assay.engine.errors import OperatorError
from assay.engine.world.clock import EPOCH
from assay.store.database import reading, writing
from assay.store.pool_tables import curator_lease

LEASE = "curator"
NOBODY = ""


class LeaseLost(OperatorError):
    """Somebody else curates now; nothing of what was under way was kept."""

    def __init__(self, token: int) -> None:
        super().__init__(f"the curator's lease {token} is not ours any more")
        self.token = token


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease as it stands: whose it is, under which token, and until when unless it is renewed."""

    token: int
    holder: str
    expires_at: datetime


def read_lease(database: Engine) -> Lease | None:
    """The lease as it stands; `None` where nobody ever took it."""
    with reading(database) as connection:
        return lease_row(connection)


def lease_row(connection: Connection) -> Lease | None:
    """Read the one row."""
    row = connection.execute(
        select(curator_lease).where(curator_lease.c.lease == LEASE)
    ).one_or_none()
    return None if row is None else Lease(row.token, row.holder, row.expires_at)


def take_lease(
    database: Engine, holder: str, expires_at: datetime, *, seen: Lease | None
) -> Lease | None:
    """Take the lease under the next token, unless it is not any more as it was `seen`."""
    with writing(database) as connection:
        if lease_row(connection) != seen:
            return None
        taken = Lease(1 if seen is None else seen.token + 1, holder, expires_at)
        values = {"token": taken.token, "holder": holder, "expires_at": expires_at}
        if seen is None:
            connection.execute(insert(curator_lease).values(lease=LEASE, **values))
        else:
            connection.execute(
                update(curator_lease).where(curator_lease.c.lease == LEASE).values(**values)
            )
        return taken


def renew_lease(database: Engine, lease: Lease, expires_at: datetime) -> bool:
    """Keep the lease until later; whether it is still ours."""
    return changed(database, lease, {"expires_at": expires_at})


def return_lease(database: Engine, lease: Lease) -> bool:
    """Give the lease back, so that nobody has to wait and nothing under way is kept; whether it was still ours."""
    return changed(database, lease, {"holder": NOBODY, "expires_at": EPOCH})


def changed(database: Engine, lease: Lease, values: dict[str, object]) -> bool:
    """Change the row if it is ours."""
    row = curator_lease.c
    own = (row.lease == LEASE, row.token == lease.token, row.holder == lease.holder)
    with writing(database) as connection:
        return connection.execute(update(curator_lease).where(*own).values(**values)).rowcount == 1


def require_lease(connection: Connection, lease: Lease) -> None:
    """Fence: raises LeaseLost in a transaction of `writing` whose author does not have the lease any more."""
    found = lease_row(connection)
    if found is None or (found.token, found.holder) != (lease.token, lease.holder):
        raise LeaseLost(lease.token)
