"""Who called an endpoint since its CUSUM rose, or before its eviction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column that is empty for states written by earlier versions."""
    op.add_column("pool_state", sa.Column("run", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Delete it; alarms rest on the tenants that called since then."""
    op.drop_column("pool_state", "run")
