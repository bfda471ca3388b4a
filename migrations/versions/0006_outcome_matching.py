"""Outcomes that wait for their decision, and counts of outcomes that moved nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Copied, not imported: a migration must not change when the code does.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UTC_TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Create two tables, and one column that is empty in rows of earlier versions."""
    op.create_table(
        "waiting_outcome",
        sa.Column("decision_id", NAME, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("received_at", UTC_TIME, nullable=False),
        sa.Column("source", NAME, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("endpoint_id", NAME, nullable=False),
        sa.Column("provider", NAME, nullable=False),
        sa.Column("outcome", NAME, nullable=False),
        sa.PrimaryKeyConstraint("decision_id", "attempt", "fingerprint", name="pk_waiting_outcome"),
    )
    op.create_index("ix_waiting_outcome_received_at", "waiting_outcome", ["received_at"])
    op.create_table(
        "uncounted_outcome",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("source", NAME, nullable=False),
        sa.Column("endpoint_id", NAME, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "kind", "source", "endpoint_id", name="pk_uncounted_outcome"
        ),
    )
    op.add_column("outcome", sa.Column("fingerprint", sa.BigInteger()))


def downgrade() -> None:
    """Delete waiting outcomes and the counts."""
    if op.get_bind().dialect.name == "postgresql":
        # Shippers lock their row of this table first: they wait here instead of in a deadlock.
        op.execute("LOCK TABLE journal_position IN ACCESS EXCLUSIVE MODE")
    op.drop_column("outcome", "fingerprint")
    op.drop_table("uncounted_outcome")
    op.drop_table("waiting_outcome")
