"""Evidence from traffic."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import OperationalError

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Copied, not imported: a migration must not change when the code does.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UTC_TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")

TABLES = (
    "evidence_batch",
    "evidence_counter",
    "evidence_day",
    "service_counter",
    "outcome",
    "tenant_provider",
    "tenant_activity",
    "tenant_ignore",
    "tenant_affiliation",
)

NUMBERS = {"stratum", "hour", "day", "bucket"}

LOCK_TIMEOUT = "500ms"  # below PostgreSQL's deadlock_timeout, so that no transaction is aborted
ATTEMPTS = 60
PAUSE_S = 0.2
LOCK_NOT_AVAILABLE = "55P03"


def upgrade() -> None:
    """Create new tables only, without foreign keys: no table in use is locked."""
    create_counters()
    create_batches()
    create_tenants()


def keyed(
    table: str, names: tuple[str, ...], numbers: tuple[str, ...], *columns: sa.Column[Any]
) -> None:
    """Create a table whose key consists of names and numbers."""
    op.create_table(
        table,
        *(sa.Column(name, NAME, nullable=False) for name in names),
        *(sa.Column(name, sa.Integer(), autoincrement=False, nullable=False) for name in numbers),
        *columns,
        sa.PrimaryKeyConstraint(*names, *numbers, name=f"pk_{table}"),
    )


def count(name: str) -> sa.Column[Any]:
    """Return a column of counts."""
    return sa.Column(name, sa.BigInteger(), nullable=False)


def create_counters() -> None:
    """Create the counters."""
    counts = (
        "requests",
        "tool_call_requests",
        "errored_requests",
        "auto_requests",
        "auto_tool_call_requests",
    )
    cell = ("endpoint_id", "source", "tenant", "stratum")
    counter("evidence_counter", (*cell, "hour"), ("hour", *cell), counts)
    counter("evidence_day", (*cell, "day"), (*cell, "day"), counts)
    service = ("endpoint_id", "metric", "bucket")
    counter(
        "service_counter",
        ("endpoint_id", "hour", "metric", "bucket"),
        ("hour", *service),
        ("count",),
    )


def counter(
    table: str, cell: tuple[str, ...], key: tuple[str, ...], counts: tuple[str, ...]
) -> None:
    """Create a table of counts that is clustered by its key."""
    op.create_table(
        table,
        *(
            sa.Column(name, sa.Integer() if name in NUMBERS else NAME, nullable=False)
            for name in cell
        ),
        *map(count, counts),
        sa.PrimaryKeyConstraint(*key, name=f"pk_{table}"),
        sqlite_with_rowid=False,
    )


def create_batches() -> None:
    """Create the batches already counted and the outcomes of attempts."""
    received = sa.Column("received_at", UTC_TIME, nullable=False)
    keyed(
        "evidence_batch",
        ("source", "batch_id"),
        (),
        sa.Column("stream", NAME, nullable=False),
        received,
    )
    op.create_index("ix_evidence_batch_received_at", "evidence_batch", ["received_at"])
    keyed(
        "outcome",
        ("decision_id",),
        ("attempt",),
        sa.Column("at", UTC_TIME, nullable=False),
        *(sa.Column(name, NAME, nullable=False) for name in ("endpoint_id", "source", "result")),
        *(
            sa.Column(name, sa.BigInteger())
            for name in ("latency_ms", "duration_ms", "completion_tokens", "retry_after_ms")
        ),
        sa.Column("tools", sa.Integer(), nullable=False),
        count("tool_calls"),
        count("errored_calls"),
    )
    op.create_index("ix_outcome_at", "outcome", ["at"])


def create_tenants() -> None:
    """Create the activity, ignores and affiliations of tenants."""
    keyed("tenant_activity", ("tenant", "model"), ("day",), count("tool_decisions"))
    keyed("tenant_ignore", ("tenant", "model", "target"), ("day",))
    keyed("tenant_provider", ("tenant", "provider"), ("day",), count("tool_call_requests"))
    keyed("tenant_affiliation", ("tenant", "provider"), ())


def downgrade() -> None:
    """Delete all counters and the list of counted batches."""
    if op.get_bind().dialect.name == "postgresql":
        lock(op.get_bind())
    for table in reversed(TABLES):
        op.drop_table(table)


def lock(connection: sa.Connection) -> None:
    """Lock all tables and `journal_position`; while one is busy, release the others and retry."""
    everything = sa.text(
        f"LOCK TABLE journal_position, {', '.join(TABLES)} IN ACCESS EXCLUSIVE MODE"
    )
    before = connection.scalar(sa.text("SHOW lock_timeout"))
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with connection.begin_nested():
                connection.execute(everything)
            break
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE or attempt == ATTEMPTS:
                raise
            time.sleep(PAUSE_S)
    connection.execute(
        sa.text("SELECT set_config('lock_timeout', :before, true)"), {"before": before}
    )
