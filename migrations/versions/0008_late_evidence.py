"""What has counted in closed hours, so that evidence that arrives later counts in the next one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column that is empty for hours closed by earlier versions."""
    op.add_column("curator_tick", sa.Column("counted", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Delete it; late evidence moves no pool the fast way then."""
    op.drop_column("curator_tick", "counted")
