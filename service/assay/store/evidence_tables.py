"""The tables of evidence from traffic: counters that only grow, and the batches already counted.

Hours and days are whole UTC ones since 1970. `tenant` is the pseudonym in the decision log; it is
empty if no tenant was named. A tenant may have several, one for each process that met it first, so
queries that count tenants join `tenant_pseudonym` and group by its `tenant`. The least `created_at`
is when Assay first saw the tenant.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, Table, text

from assay.outcomes.counting import ToolCounts
from assay.store.tables import metadata
from assay.store.types import NAME, UtcTime


def _tool_counts() -> list[Column[int]]:
    """Return the columns of `ToolCounts`; the last is newer than its table (migration 0009)."""
    *counts, attempts = ToolCounts._fields
    columns = [Column(name, BigInteger, nullable=False) for name in counts]
    return [*columns, Column(attempts, BigInteger, nullable=False, server_default=text("0"))]


# Requests with tools. A stratum is 3 * turn + bucket: turn 1 follows a tool result; bucket
# 0 has 1 to 3 tools, 1 has 4 to 15, 2 has 16 and more.
evidence_counter = Table(
    "evidence_counter",
    metadata,
    Column("endpoint_id", NAME, nullable=False),
    Column("source", NAME, nullable=False),
    Column("tenant", NAME, nullable=False),
    Column("stratum", Integer, nullable=False),
    Column("hour", Integer, nullable=False),
    *_tool_counts(),
    # the hour first: its rows are read and grow together
    PrimaryKeyConstraint("hour", "endpoint_id", "source", "tenant", "stratum"),
    sqlite_with_rowid=False,
)

# The same by UTC day; days before yesterday are read from here, one row instead of 24.
evidence_day = Table(
    "evidence_day",
    metadata,
    Column("endpoint_id", NAME, primary_key=True),
    Column("source", NAME, primary_key=True),
    Column("tenant", NAME, primary_key=True),
    Column("stratum", Integer, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),
    *_tool_counts(),
    sqlite_with_rowid=False,
)

# All requests, with or without tools. Metrics: `answered` and `failed` (bucket 0) for uptime;
# `latency_ms` to the first token and `throughput_mtps` (thousandths of a token per second) in the
# buckets of `assay.outcomes.counting`.
service_counter = Table(
    "service_counter",
    metadata,
    Column("endpoint_id", NAME, nullable=False),
    Column("hour", Integer, nullable=False),
    Column("metric", NAME, nullable=False),
    Column("bucket", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("hour", "endpoint_id", "metric", "bucket"),
    sqlite_with_rowid=False,
)

# Requests that needed a capability: how many the endpoint refused as not supported, and for
# tool_choice.VALUE, how many it answered.
capability_counter = Table(
    "capability_counter",
    metadata,
    Column("endpoint_id", NAME, primary_key=True),
    Column("capability", NAME, primary_key=True),
    Column("tenant", NAME, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("refused", BigInteger, nullable=False),
    Column("answered", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Counted batches: the row is written in the transaction that counts the batch.
evidence_batch = Table(
    "evidence_batch",
    metadata,
    Column("source", NAME, primary_key=True),
    Column("batch_id", NAME, primary_key=True),
    Column("stream", NAME, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Index(None, "received_at"),
)

# Counted outcomes of the attempts of decisions, if the report named the decision: the first report
# of an attempt counts. `fingerprint` shows whether a second report repeats or contradicts it; rows
# written before migration 0006 have none.
outcome = Table(
    "outcome",
    metadata,
    Column("decision_id", NAME, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("endpoint_id", NAME, nullable=False),
    Column("source", NAME, nullable=False),
    Column("result", NAME, nullable=False),
    Column("latency_ms", BigInteger),  # to the first token
    Column("duration_ms", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("retry_after_ms", BigInteger),
    Column("tools", Integer, nullable=False),  # offered
    Column("tool_calls", BigInteger, nullable=False),
    Column("errored_calls", BigInteger, nullable=False),
    Column("fingerprint", BigInteger),
    Index(None, "at"),
)

# Outcomes that were reported before their decision was stored; `outcome` is their JSON.
waiting_outcome = Table(
    "waiting_outcome",
    metadata,
    Column("decision_id", NAME, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("fingerprint", BigInteger, primary_key=True, autoincrement=False),
    Column("received_at", UtcTime, nullable=False),
    Column("source", NAME, nullable=False),
    Column("tenant", NAME, nullable=False),
    Column("endpoint_id", NAME, nullable=False),
    Column("provider", NAME, nullable=False),
    Column("outcome", NAME, nullable=False),
    Index(None, "received_at"),
)

# Outcomes that moved nothing, by the UTC day of their report and by kind, see
# `assay.outcomes.outcome.Uncounted`.
uncounted_outcome = Table(
    "uncounted_outcome",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("kind", NAME, primary_key=True),
    Column("source", NAME, primary_key=True),
    Column("endpoint_id", NAME, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

# Decisions for requests with tools, by every requested model, without routing variants.
tenant_activity = Table(
    "tenant_activity",
    metadata,
    Column("tenant", NAME, primary_key=True),
    Column("model", NAME, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("tool_decisions", BigInteger, nullable=False),
)

# `provider.ignore` in such requests: provider slugs or tags, as written.
tenant_ignore = Table(
    "tenant_ignore",
    metadata,
    Column("tenant", NAME, primary_key=True),
    Column("model", NAME, primary_key=True),
    Column("target", NAME, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
)

# Requests that ended in tool calls, over all endpoints of a provider, by the outcome's day.
tenant_provider = Table(
    "tenant_provider",
    metadata,
    Column("tenant", NAME, primary_key=True),
    Column("provider", NAME, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("tool_call_requests", BigInteger, nullable=False),
)

# Set by the operator: the provider that a tenant, by its own name, belongs to and cannot vote on.
tenant_affiliation = Table(
    "tenant_affiliation",
    metadata,
    Column("tenant", NAME, primary_key=True),
    Column("provider", NAME, primary_key=True),
)
