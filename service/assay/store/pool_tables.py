"""The tables of the curator: pool memory and its changes, the lease, and the closed hours."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Double, Index, Integer, Table, Text

from assay.store.tables import metadata
from assay.store.types import NAME, UtcTime

# The memory that a binding's pool has of an endpoint; without a row it has none.
pool_state = Table(
    "pool_state",
    metadata,
    Column("binding", NAME, primary_key=True),
    Column("endpoint_id", NAME, primary_key=True),
    Column("model", NAME, nullable=False),
    Column("state", NAME, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("cusum", Double, nullable=False),
    Column("slow_failures", Integer, nullable=False),
    Column("failed_at", UtcTime),
    Column("evictions", Integer, nullable=False),
    Column("held_until", UtcTime),
    Column("forgotten_at", UtcTime),  # evidence that an eviction discarded: all five or none
    Column("forgotten_half_life_us", BigInteger),
    Column("forgotten_requests", Double),
    Column("forgotten_calls", Double),
    Column("forgotten_errored", Double),
    Column("run", JSON(none_as_null=True)),  # tool-call requests and errored ones by tenant
)

# Append-only, numbered in order; late evidence changes nothing here.
pool_change = Table(
    "pool_change",
    metadata,
    Column("change_id", BigInteger, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),  # the end of the judged hour
    Column("binding", NAME, nullable=False),
    Column("model", NAME, nullable=False),
    Column("endpoint_id", NAME, nullable=False),
    Column("before", NAME, nullable=False),
    Column("after", NAME, nullable=False),
    Column("cause", NAME, nullable=False),
    Column("message", Text, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("publication", Integer, nullable=False),  # the sequence that activated it
    Index(None, "binding", "model", "change_id"),
)

# One row. The token grows each time the lease is taken; every transaction of a tick compares it.
curator_lease = Table(
    "curator_lease",
    metadata,
    Column("lease", NAME, primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("holder", NAME, nullable=False),  # empty once released
    Column("expires_at", UtcTime, nullable=False),
)

# Closed hours, by their end in whole UTC hours since 1970. `counted` has, by endpoint id, the four
# counts of a `CountedHour`; it is NULL once evidence of the hour comes too late to count, and in
# rows written before migration 0008.
curator_tick = Table(
    "curator_tick",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("ticked_at", UtcTime, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("publication", Integer, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("counted", JSON(none_as_null=True)),
)
