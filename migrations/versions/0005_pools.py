"""Pools with memory, and the curator's lease and ticks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Copied, not imported: a migration must not change when the code does.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UTC_TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Create new tables only, without foreign keys: no table in use is locked."""
    create_pools()
    create_curator()


def create_pools() -> None:
    """Create the state of pools and the history of their changes."""
    op.create_table(
        "pool_state",
        sa.Column("binding", NAME, nullable=False),
        sa.Column("endpoint_id", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("since", UTC_TIME, nullable=False),
        sa.Column("cusum", sa.Double(), nullable=False),
        sa.Column("slow_failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", UTC_TIME),
        sa.Column("evictions", sa.Integer(), nullable=False),
        sa.Column("held_until", UTC_TIME),
        sa.Column("forgotten_at", UTC_TIME),
        sa.Column("forgotten_half_life_us", sa.BigInteger()),
        sa.Column("forgotten_requests", sa.Double()),
        sa.Column("forgotten_calls", sa.Double()),
        sa.Column("forgotten_errored", sa.Double()),
        sa.PrimaryKeyConstraint("binding", "endpoint_id", name="pk_pool_state"),
    )
    op.create_table(
        "pool_change",
        sa.Column("change_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", UTC_TIME, nullable=False),
        sa.Column("binding", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("endpoint_id", NAME, nullable=False),
        sa.Column("before", NAME, nullable=False),
        sa.Column("after", NAME, nullable=False),
        sa.Column("cause", NAME, nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("publication", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("change_id", name="pk_pool_change"),
    )
    op.create_index(
        "ix_pool_change_binding_model_change_id", "pool_change", ["binding", "model", "change_id"]
    )


def create_curator() -> None:
    """Create the curator's lease and the hours it has finished."""
    op.create_table(
        "curator_lease",
        sa.Column("lease", NAME, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("holder", NAME, nullable=False),
        sa.Column("expires_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("lease", name="pk_curator_lease"),
    )
    op.create_table(
        "curator_tick",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ticked_at", UTC_TIME, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("publication", sa.Integer(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("hour", name="pk_curator_tick"),
    )


def downgrade() -> None:
    """Delete the state and history of all pools."""
    for table in ("curator_tick", "curator_lease", "pool_change", "pool_state"):
        op.drop_table(table)
