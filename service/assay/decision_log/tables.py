"""The tables of the decision log: the records as journaled, and what is derived from them.

`journal_record` is the log. `decision` and `finding_set_word` are its indexes: they can be rebuilt
from the records, and they are narrow, so that an unindexed filter reads a fraction of the log.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, UniqueConstraint

from assay.decision_log.decision_row import sql_columns
from assay.store.tables import metadata
from assay.store.types import NAME, UtcTime

# `chain` is the link of a record: a hash over all records up to it in its stream.
journal_record = Table(
    "journal_record",
    metadata,
    Column("stream", NAME, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("chain", LargeBinary, nullable=False),
)

# `tenant` is a pseudonym; it is empty if the request named no tenant.
decision = Table(
    "decision",
    metadata,
    *sql_columns(),
    Column("stream", NAME, nullable=False),
    Column("seq", BigInteger, nullable=False),
    UniqueConstraint("stream", "seq", name="uq_decision_stream_seq"),
    Index(None, "decided_at", "decision_id"),
    Index(None, "tenant", "decided_at", "finding_set"),
    Index(None, "model", "decided_at", "variant"),
    Index(None, "first_provider", "decided_at"),
    Index(None, "policy_revision", "decided_at"),
    Index(None, "snapshot_id"),
    Index(None, "finding_set", "decided_at"),
)
_has_demoted = decision.c.demoted > 0
Index(
    "ix_decision_demoted",
    decision.c.decided_at,
    sqlite_where=_has_demoted,
    postgresql_where=_has_demoted,
)

# Many decisions have the same findings: each set of words is stored once.
finding_set_word = Table(
    "finding_set_word",
    metadata,
    Column("finding_set", NAME, primary_key=True),
    Column("kind", NAME, primary_key=True),
    Column("word", NAME, primary_key=True),
    Index(None, "kind", "word", "finding_set"),
)

# Records outside the chain that this version cannot read, kept for a newer one.
# `digest` is the SHA-256 of the payload.
unreadable_record = Table(
    "unreadable_record",
    metadata,
    Column("stream", NAME, primary_key=True),
    Column("digest", NAME, primary_key=True),
    Column("kind", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

# Only the newest signed head of each stream: with older ones, an attacker could truncate to them.
chain_head = Table(
    "chain_head",
    metadata,
    Column("stream", NAME, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("key_id", NAME, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

journal_position = Table(
    "journal_position",
    metadata,
    Column("stream", NAME, primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("byte_offset", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("chain", LargeBinary, nullable=False),
)

# Records up to `seq` were removed by age; verification starts from the link `chain` of that one.
pruned = Table(
    "pruned",
    metadata,
    Column("stream", NAME, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("pruned_at", UtcTime, nullable=False),
)
