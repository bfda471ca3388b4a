"""Attempts: requests that offered tools, answered or not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# In the order in which curators read them; shippers wait at `journal_position`.
TABLES = ("evidence_day", "evidence_counter")


def upgrade() -> None:
    """Add a column; of what was counted before, only answered requests are known."""
    stop_shippers()
    for table in TABLES:
        attempts = sa.Column("attempts", sa.BigInteger(), nullable=False, server_default="0")
        op.add_column(table, attempts)
        op.execute(sa.text(f"UPDATE {table} SET attempts = requests"))  # noqa: S608 - our own names


def downgrade() -> None:
    """Delete the column, and the rows that have nothing else."""
    stop_shippers()
    for table in TABLES:
        op.execute(sa.text(f"DELETE FROM {table} WHERE requests = 0"))  # noqa: S608 - our own names
        op.drop_column(table, "attempts")


def stop_shippers() -> None:
    """Make shippers wait here instead of in a deadlock: they lock their row of this table first."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("LOCK TABLE journal_position IN ACCESS EXCLUSIVE MODE")
