"""Display names of providers, and what endpoints support, stated or learned from refusals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Copied, not imported: a migration must not change when the code does.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add columns that are empty in listings of earlier versions, and one table."""
    op.add_column("endpoint_listing", sa.Column("provider_name", sa.Text()))
    op.add_column("endpoint_listing", sa.Column("tool_choices", sa.JSON(none_as_null=True)))
    op.add_column("endpoint_listing", sa.Column("input_modalities", sa.JSON(none_as_null=True)))
    op.create_table(
        "capability_counter",
        sa.Column("endpoint_id", NAME, nullable=False),
        sa.Column("capability", NAME, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("answered", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "endpoint_id", "capability", "tenant", "day", name="pk_capability_counter"
        ),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Delete what was learned, and what catalogs state in the new columns."""
    op.drop_table("capability_counter")
    for column in ("input_modalities", "tool_choices", "provider_name"):
        op.drop_column("endpoint_listing", column)
