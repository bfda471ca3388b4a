"""The tables of catalog, policies and snapshots.

Column names state the unit, instants are UTC, and no source overwrites the rows of another.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from assay.engine.world.catalog import Endpoint, Model
from assay.store.rows import declared_columns
from assay.store.types import NAME, UtcTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _provenance() -> list[Column[object]]:
    """Return the columns that state which source lists an item, and since when.

    Times are the source's own, if it states them.
    """
    return [
        Column("kind", NAME, primary_key=True),  # catalog (from a file), observed (from counts)
        Column("source", NAME, primary_key=True),
        Column("first_seen_at", UtcTime, nullable=False),
        Column("last_seen_at", UtcTime, nullable=False),
        Column("gone_at", UtcTime),
    ]


provider = Table(
    "provider",
    metadata,
    Column("provider", NAME, primary_key=True),
    Column("created_at", UtcTime, nullable=False),
)

provider_listing = Table(
    "provider_listing",
    metadata,
    Column("provider", NAME, ForeignKey("provider.provider"), primary_key=True),
    *_provenance(),
    Column("name", Text),
)

model = Table(
    "model",
    metadata,
    Column("model", NAME, primary_key=True),
    Column("created_at", UtcTime, nullable=False),
)

model_listing = Table(
    "model_listing",
    metadata,
    Column("model", NAME, ForeignKey("model.model"), primary_key=True),
    *_provenance(),
    *declared_columns(Model),
)

endpoint = Table(
    "endpoint",
    metadata,
    Column("endpoint_id", NAME, primary_key=True),
    Column("model", NAME, ForeignKey("model.model"), nullable=False),
    Column("tag", NAME, nullable=False),  # an id keeps its tag; a tag may have several ids
    Column("created_at", UtcTime, nullable=False),
    Index(None, "model", "tag"),
)

endpoint_listing = Table(
    "endpoint_listing",
    metadata,
    Column("endpoint_id", NAME, ForeignKey("endpoint.endpoint_id"), primary_key=True),
    *_provenance(),
    Column("provider", NAME, ForeignKey("provider.provider"), nullable=False, index=True),
    *declared_columns(Endpoint, "provider"),
    Column("price_overrides", JSON, nullable=False),
)

observation = Table(
    "observation",
    metadata,
    Column("endpoint_id", NAME, ForeignKey("endpoint.endpoint_id"), primary_key=True),
    Column("source", NAME, primary_key=True),
    Column("observed_from", UtcTime, primary_key=True),
    Column("observed_to", UtcTime, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Column("tool_call_requests", BigInteger, nullable=False),
    Column("errored_requests", BigInteger, nullable=False),
    Column("reference", Boolean, nullable=False),
    Column("imported_at", UtcTime, nullable=False),
    Column("superseded_at", UtcTime),
    CheckConstraint("observed_from < observed_to", name="window"),
    CheckConstraint("0 <= errored_requests", name="errored"),
    CheckConstraint("errored_requests <= tool_call_requests", name="tool_calls"),
    CheckConstraint("tool_call_requests <= requests", name="requests"),
)
current = observation.c.superseded_at.is_(None)
Index(
    "uq_observation_current",
    observation.c.endpoint_id,
    observation.c.source,
    observation.c.observed_from,
    observation.c.observed_to,
    unique=True,
    sqlite_where=current,
    postgresql_where=current,
)

preference = Table(
    "preference",
    metadata,
    Column("preference_id", Integer, primary_key=True),
    Column("tenant", NAME, nullable=False, index=True),
    Column("kind", NAME, nullable=False),
    Column("target", NAME, nullable=False),
    Column("model", NAME),
    Column("created_at", UtcTime, nullable=False),
    CheckConstraint("kind IN ('pin', 'ignore')", name="kind"),
)
for_all_models = preference.c.model.is_(None)
Index(
    "uq_preference_for_all_models",
    preference.c.tenant,
    preference.c.kind,
    preference.c.target,
    unique=True,
    sqlite_where=for_all_models,
    postgresql_where=for_all_models,
)
Index(  # NULLs are distinct, so this covers the rows that name a model
    "uq_preference_for_model",
    preference.c.tenant,
    preference.c.kind,
    preference.c.target,
    preference.c.model,
    unique=True,
)

tenant_settings = Table(
    "tenant_settings",
    metadata,
    Column("tenant", NAME, primary_key=True),
    Column("only", JSON, nullable=False),
    Column("ignore", JSON, nullable=False),
    Column("zdr", Boolean, nullable=False),
    Column("deny_data_collection", Boolean, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

import_log = Table(
    "import_log",
    metadata,
    Column("import_id", Integer, primary_key=True),
    Column("kind", NAME, nullable=False),
    Column("source", NAME, nullable=False),
    Column("digest", NAME, nullable=False),
    Column("generated_at", UtcTime),
    Column("imported_at", UtcTime, nullable=False),
    Column("counts", JSON, nullable=False),
    Index(None, "kind", "source"),
)

world_revision = Table(
    "world_revision",
    metadata,
    Column("kind", NAME, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

policy_source = Table(
    "policy_source",
    metadata,
    Column("digest", NAME, primary_key=True),
    Column("files", JSON, nullable=False),
)

policy_revision = Table(
    "policy_revision",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", NAME, ForeignKey("policy_source.digest"), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("note", Text),
)

snapshot = Table(
    "snapshot",
    metadata,
    Column("snapshot_id", NAME, primary_key=True),
    Column("manifest", LargeBinary, nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column(
        "policy_revision", Integer, ForeignKey("policy_revision.number"), nullable=False, index=True
    ),
    Column("created_at", UtcTime, nullable=False),
)

part = Table(
    "part",
    metadata,
    Column("digest", NAME, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

snapshot_part = Table(
    "snapshot_part",
    metadata,
    Column("snapshot_id", NAME, ForeignKey("snapshot.snapshot_id"), primary_key=True),
    Column("digest", NAME, ForeignKey("part.digest"), primary_key=True, index=True),
)

publication = Table(
    "publication",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("snapshot_id", NAME, ForeignKey("snapshot.snapshot_id"), nullable=False, index=True),
    Column("published_at", UtcTime, nullable=False),
)

# The only table that maps pseudonyms to tenants: erasing a tenant deletes its rows here.
tenant_pseudonym = Table(
    "tenant_pseudonym",
    metadata,
    Column("pseudonym", NAME, primary_key=True),
    Column("tenant", NAME, nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
)
