"""The tables of the decision log: what was journalled, byte for byte, and beside it what is derived from that.

`journal_record` is the log. `decision` and `finding_set_word` are indexes of it: they can be made again from the
records, and are narrow, so that a filter without an index of its own reads a fraction of the log.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, UniqueConstraint

from assay.store.tables import metadata
from assay.store.types import NAME, UtcTime

journal_record = Table(
    "journal_record",
    metadata,
    Column("stream", NAME, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column(
        "chain", LargeBinary, nullable=False
    ),  # the link of this record, over all before it in its stream
)

decision = Table(
    "decision",
    metadata,
    Column("decision_id", NAME, primary_key=True),
    Column("stream", NAME, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("decided_at", UtcTime, nullable=False),
    Column("tenant", NAME, nullable=False),  # a pseudonym; empty where no tenant was named
    Column("request_id", NAME, nullable=False),
    Column("model", NAME, nullable=False),
    Column("variant", NAME, nullable=False),
    Column("tools", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("excluded", Integer, nullable=False),
    Column("first_provider", NAME, nullable=False),  # empty where nobody could serve
    Column("first_endpoint", NAME, nullable=False),
    Column("availability", NAME, nullable=False),
    Column("policy_revision", BigInteger, nullable=False),
    Column("snapshot_id", NAME, nullable=False),
    Column("engine_version", NAME, nullable=False),
    Column("demoted", Integer, nullable=False),
    Column("plan_ns", BigInteger, nullable=False),
    Column("finding_set", NAME, nullable=False),
    UniqueConstraint("stream", "seq", name="uq_decision_stream_seq"),
    Index(None, "decided_at", "decision_id"),
    Index(None, "tenant", "decided_at", "finding_set"),
    Index(None, "model", "decided_at", "variant"),
    Index(None, "first_provider", "decided_at"),
    Index(None, "policy_revision", "decided_at"),
    Index(None, "snapshot_id"),
    Index(None, "finding_set", "decided_at"),
)
some_demoted = decision.c.demoted > 0
Index(
    "ix_decision_demoted",
    decision.c.decided_at,
    sqlite_where=some_demoted,
    postgresql_where=some_demoted,
)

# Who was left out why repeats from decision to decision: each set of findings is kept once, and found by its words.
finding_set_word = Table(
    "finding_set_word",
    metadata,
    Column("finding_set", NAME, primary_key=True),
    Column("kind", NAME, primary_key=True),
    Column("word", NAME, primary_key=True),
    Index(None, "kind", "word", "finding_set"),
)

# The one table that names tenants beside their pseudonyms: erasing a tenant is deleting here.
tenant_pseudonym = Table(
    "tenant_pseudonym",
    metadata,
    Column("pseudonym", NAME, primary_key=True),
    Column("tenant", NAME, nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
)

# Records outside the chain that this Assay cannot read, so that what a newer one wrote is not lost.
unreadable_record = Table(
    "unreadable_record",
    metadata,
    Column("stream", NAME, primary_key=True),
    Column("digest", NAME, primary_key=True),  # SHA-256 of the payload
    Column("kind", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

# The newest signed head of each stream. Older ones would let whoever cuts the tail choose where to.
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

pruned = Table(
    "pruned",
    metadata,
    Column("stream", NAME, primary_key=True),
    Column("seq", BigInteger, nullable=False),  # records up to this one were removed by age
    Column(
        "chain", LargeBinary, nullable=False
    ),  # the link of this one, from which the rest goes on
    Column("pruned_at", UtcTime, nullable=False),
)
