"""The decision log."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import OperationalError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Copied, not imported: a migration must not change when the code does.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UTC_TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")

# In the order in which a shipper locks them: the holder of the first lock waits for no shipper.
TABLES = (
    "journal_position",
    "journal_record",
    "decision",
    "finding_set_word",
    "tenant_pseudonym",
    "unreadable_record",
    "chain_head",
    "pruned",
)
# Statistics for SQLite's query planner: rows per value of each index's columns, in a synthetic log
# of a million decisions. Without them it treats all indexes alike. ANALYZE replaces them.
ROWS = 1_000_000
ROWS_PER_VALUE = {
    "ix_decision_decided_at_decision_id": (1, 1),
    "ix_decision_tenant_decided_at_finding_set": (2_500, 1, 1),
    "ix_decision_model_decided_at_variant": (10_000, 1, 1),
    "ix_decision_first_provider_decided_at": (20_000, 1),
    "ix_decision_policy_revision_decided_at": (40_000, 1),
    "ix_decision_snapshot_id": (400,),
    "ix_decision_finding_set_decided_at": (300, 1),
    "sqlite_autoindex_decision_1": (1,),
    "sqlite_autoindex_decision_2": (50_000, 1),
}
ROWS_DEMOTED = 5_000

LOCK_TIMEOUT = "500ms"  # below PostgreSQL's deadlock_timeout, so that no transaction is aborted
ATTEMPTS = 60
PAUSE_S = 0.2
LOCK_NOT_AVAILABLE = "55P03"


def upgrade() -> None:
    """Create new tables only, without foreign keys: no table in use is locked."""
    create_journal()
    create_decision()
    create_words()
    if op.get_bind().dialect.name == "sqlite":
        tell_planner(op.get_bind())


def tell_planner(connection: sa.Connection) -> None:
    """Store statistics for SQLite's query planner before there is any data."""
    connection.execute(sa.text("ANALYZE decision"))
    stats = {name: (ROWS, *per_value) for name, per_value in ROWS_PER_VALUE.items()}
    stats["ix_decision_demoted"] = (ROWS_DEMOTED, 1)
    connection.execute(
        sa.text("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('decision', :name, :stat)"),
        [{"name": name, "stat": " ".join(map(str, numbers))} for name, numbers in stats.items()],
    )


def create_journal() -> None:
    """Create the journal records, positions and signed heads of each stream."""
    op.create_table(
        "journal_record",
        sa.Column("stream", NAME, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "seq", name="pk_journal_record"),
    )
    op.create_table(
        "unreadable_record",
        sa.Column("stream", NAME, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "digest", name="pk_unreadable_record"),
    )
    op.create_table(
        "chain_head",
        sa.Column("stream", NAME, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", NAME, nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_chain_head"),
    )
    op.create_table(
        "journal_position",
        sa.Column("stream", NAME, nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("byte_offset", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_journal_position"),
    )
    op.create_table(
        "pruned",
        sa.Column("stream", NAME, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.Column("pruned_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_pruned"),
    )


def create_decision() -> None:
    """Create the index of decisions."""
    op.create_table(
        "decision",
        sa.Column("decision_id", NAME, nullable=False),
        sa.Column("stream", NAME, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", UTC_TIME, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("request_id", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("variant", NAME, nullable=False),
        sa.Column("tools", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("excluded", sa.Integer(), nullable=False),
        sa.Column("first_provider", NAME, nullable=False),
        sa.Column("first_endpoint", NAME, nullable=False),
        sa.Column("availability", NAME, nullable=False),
        sa.Column("policy_revision", sa.BigInteger(), nullable=False),
        sa.Column("snapshot_id", NAME, nullable=False),
        sa.Column("engine_version", NAME, nullable=False),
        sa.Column("demoted", sa.Integer(), nullable=False),
        sa.Column("plan_ns", sa.BigInteger(), nullable=False),
        sa.Column("finding_set", NAME, nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name="pk_decision"),
        sa.UniqueConstraint("stream", "seq", name="uq_decision_stream_seq"),
    )
    for columns in (
        ["decided_at", "decision_id"],
        ["tenant", "decided_at", "finding_set"],
        ["model", "decided_at", "variant"],
        ["first_provider", "decided_at"],
        ["policy_revision", "decided_at"],
        ["snapshot_id"],
        ["finding_set", "decided_at"],
    ):
        op.create_index(f"ix_decision_{'_'.join(columns)}", "decision", columns)
    op.create_index(
        "ix_decision_demoted",
        "decision",
        ["decided_at"],
        sqlite_where=sa.text("demoted > 0"),
        postgresql_where=sa.text("demoted > 0"),
    )


def create_words() -> None:
    """Create the words of finding sets and the pseudonyms of tenants."""
    op.create_table(
        "finding_set_word",
        sa.Column("finding_set", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("word", NAME, nullable=False),
        sa.PrimaryKeyConstraint("finding_set", "kind", "word", name="pk_finding_set_word"),
    )
    op.create_index(
        "ix_finding_set_word_kind_word_finding_set",
        "finding_set_word",
        ["kind", "word", "finding_set"],
    )
    op.create_table(
        "tenant_pseudonym",
        sa.Column("pseudonym", NAME, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("pseudonym", name="pk_tenant_pseudonym"),
    )
    op.create_index("ix_tenant_pseudonym_tenant", "tenant_pseudonym", ["tenant"])


def downgrade() -> None:
    """Delete the decision log."""
    if op.get_bind().dialect.name == "postgresql":
        lock(op.get_bind())
    for table in reversed(TABLES):
        op.drop_table(table)


def lock(connection: sa.Connection) -> None:
    """Lock all tables; while one is busy, release the others and retry."""
    everything = sa.text(f"LOCK TABLE {', '.join(TABLES)} IN ACCESS EXCLUSIVE MODE")
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
