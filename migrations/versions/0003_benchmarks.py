"""Benchmark runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Copied, not imported: a migration must not change when the code does.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UTC_TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
IDENTITY = ("endpoint_id", "source", "suite", "suite_version", "judge", "metric", "run")
SCORE = (
    "unit = 'fraction' AND score BETWEEN 0 AND 1 OR unit = 'percent' AND score BETWEEN 0 AND 100 "
    "OR unit = 'number' AND score BETWEEN -1e12 AND 1e12"
)


def upgrade() -> None:
    """Create one new table without foreign keys: no table in use is locked."""
    op.create_table(
        "benchmark_run",
        *(sa.Column(name, NAME, nullable=False) for name in IDENTITY),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("unit", NAME, nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("run_at", UTC_TIME, nullable=False),
        sa.Column("tasks_total", sa.BigInteger()),
        sa.Column("tasks_completed", sa.BigInteger()),
        sa.Column("trials", sa.Integer()),
        sa.Column("source_revision", sa.Text()),
        sa.Column("imported_at", UTC_TIME, nullable=False),
        sa.Column("superseded_at", UTC_TIME),
        sa.CheckConstraint(SCORE, name=op.f("ck_benchmark_run_score")),
        sa.CheckConstraint(
            "0 <= tasks_completed AND tasks_completed <= tasks_total",
            name=op.f("ck_benchmark_run_tasks"),
        ),
        sa.PrimaryKeyConstraint(*IDENTITY, "revision", name="pk_benchmark_run"),
    )
    op.create_index(
        "uq_benchmark_run_current",
        "benchmark_run",
        list(IDENTITY),
        unique=True,
        sqlite_where=sa.text("superseded_at IS NULL"),
        postgresql_where=sa.text("superseded_at IS NULL"),
    )


def downgrade() -> None:
    """Delete all benchmark runs."""
    op.drop_table("benchmark_run")
