"""Catalog, evidence, policy revisions and snapshots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Copied, not imported: a migration must not change when the code does.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UTC_TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Apply this revision."""
    create_catalog()
    create_evidence()
    create_imports()
    create_snapshots()


def create_catalog() -> None:
    """Create providers, models, endpoints, and what each source lists of them."""
    op.create_table(
        "provider",
        sa.Column("provider", NAME, nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("provider", name="pk_provider"),
    )
    op.create_table(
        "provider_listing",
        sa.Column("provider", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("source", NAME, nullable=False),
        sa.Column("first_seen_at", UTC_TIME, nullable=False),
        sa.Column("last_seen_at", UTC_TIME, nullable=False),
        sa.Column("gone_at", UTC_TIME),
        sa.Column("name", sa.Text()),
        sa.ForeignKeyConstraint(
            ["provider"], ["provider.provider"], name="fk_provider_listing_provider"
        ),
        sa.PrimaryKeyConstraint("provider", "kind", "source", name="pk_provider_listing"),
    )
    op.create_table(
        "model",
        sa.Column("model", NAME, nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("model", name="pk_model"),
    )
    op.create_table(
        "model_listing",
        sa.Column("model", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("source", NAME, nullable=False),
        sa.Column("first_seen_at", UTC_TIME, nullable=False),
        sa.Column("last_seen_at", UTC_TIME, nullable=False),
        sa.Column("gone_at", UTC_TIME),
        sa.Column("name", sa.Text()),
        sa.Column("context_length_tokens", sa.BigInteger()),
        sa.Column("input_modalities", sa.JSON(none_as_null=True)),
        sa.Column("output_modalities", sa.JSON(none_as_null=True)),
        sa.Column("distillable", sa.Boolean()),
        sa.ForeignKeyConstraint(["model"], ["model.model"], name="fk_model_listing_model"),
        sa.PrimaryKeyConstraint("model", "kind", "source", name="pk_model_listing"),
    )
    op.create_table(
        "endpoint",
        sa.Column("endpoint_id", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("tag", NAME, nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.model"], name="fk_endpoint_model"),
        sa.PrimaryKeyConstraint("endpoint_id", name="pk_endpoint"),
    )
    op.create_index("ix_endpoint_model_tag", "endpoint", ["model", "tag"])
    op.create_table(
        "endpoint_listing",
        sa.Column("endpoint_id", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("source", NAME, nullable=False),
        sa.Column("first_seen_at", UTC_TIME, nullable=False),
        sa.Column("last_seen_at", UTC_TIME, nullable=False),
        sa.Column("gone_at", UTC_TIME),
        sa.Column("provider", NAME, nullable=False),
        sa.Column("quantization", sa.Text(), nullable=False),
        sa.Column("context_length_tokens", sa.BigInteger()),
        sa.Column("max_completion_tokens", sa.BigInteger()),
        sa.Column("max_prompt_tokens", sa.BigInteger()),
        sa.Column("supported_parameters", sa.JSON(), nullable=False),
        sa.Column("prompt_usd_per_mtok", sa.Double()),
        sa.Column("completion_usd_per_mtok", sa.Double()),
        sa.Column("cache_read_usd_per_mtok", sa.Double()),
        sa.Column("cache_write_usd_per_mtok", sa.Double()),
        sa.Column("audio_usd_per_mtok", sa.Double()),
        sa.Column("request_usd", sa.Double()),
        sa.Column("image_usd", sa.Double()),
        sa.Column("price_overrides", sa.JSON(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("uptime_30m_percent", sa.Double()),
        sa.Column("uptime_1d_percent", sa.Double()),
        sa.Column("latency_p50_s", sa.Double()),
        sa.Column("latency_p75_s", sa.Double()),
        sa.Column("latency_p90_s", sa.Double()),
        sa.Column("latency_p99_s", sa.Double()),
        sa.Column("throughput_p50_tps", sa.Double()),
        sa.Column("throughput_p75_tps", sa.Double()),
        sa.Column("throughput_p90_tps", sa.Double()),
        sa.Column("throughput_p99_tps", sa.Double()),
        sa.Column("zdr", sa.Boolean()),
        sa.Column("collects_data", sa.Boolean()),
        sa.Column("implicit_caching", sa.Boolean()),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoint.endpoint_id"], name="fk_endpoint_listing_endpoint_id"
        ),
        sa.ForeignKeyConstraint(
            ["provider"], ["provider.provider"], name="fk_endpoint_listing_provider"
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "kind", "source", name="pk_endpoint_listing"),
    )
    op.create_index("ix_endpoint_listing_provider", "endpoint_listing", ["provider"])


def create_evidence() -> None:
    """Create observations, preferences and tenant settings."""
    op.create_table(
        "observation",
        sa.Column("endpoint_id", NAME, nullable=False),
        sa.Column("source", NAME, nullable=False),
        sa.Column("observed_from", UTC_TIME, nullable=False),
        sa.Column("observed_to", UTC_TIME, nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tool_call_requests", sa.BigInteger(), nullable=False),
        sa.Column("errored_requests", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.Boolean(), nullable=False),
        sa.Column("imported_at", UTC_TIME, nullable=False),
        sa.Column("superseded_at", UTC_TIME),
        sa.CheckConstraint("0 <= errored_requests", name=op.f("ck_observation_errored")),
        sa.CheckConstraint(
            "errored_requests <= tool_call_requests", name=op.f("ck_observation_tool_calls")
        ),
        sa.CheckConstraint("observed_from < observed_to", name=op.f("ck_observation_window")),
        sa.CheckConstraint("tool_call_requests <= requests", name=op.f("ck_observation_requests")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoint.endpoint_id"], name="fk_observation_endpoint_id"
        ),
        sa.PrimaryKeyConstraint(
            "endpoint_id",
            "source",
            "observed_from",
            "observed_to",
            "revision",
            name="pk_observation",
        ),
    )
    op.create_index(
        "uq_observation_current",
        "observation",
        ["endpoint_id", "source", "observed_from", "observed_to"],
        unique=True,
        sqlite_where=sa.text("superseded_at IS NULL"),
        postgresql_where=sa.text("superseded_at IS NULL"),
    )
    op.create_table(
        "preference",
        sa.Column("preference_id", sa.Integer(), nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("target", NAME, nullable=False),
        sa.Column("model", NAME),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.CheckConstraint("kind IN ('pin', 'ignore')", name=op.f("ck_preference_kind")),
        sa.PrimaryKeyConstraint("preference_id", name="pk_preference"),
    )
    op.create_index("ix_preference_tenant", "preference", ["tenant"])
    op.create_index(
        "uq_preference_for_all_models",
        "preference",
        ["tenant", "kind", "target"],
        unique=True,
        sqlite_where=sa.text("model IS NULL"),
        postgresql_where=sa.text("model IS NULL"),
    )
    op.create_index(
        "uq_preference_for_model", "preference", ["tenant", "kind", "target", "model"], unique=True
    )
    op.create_table(
        "tenant_settings",
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("only", sa.JSON(), nullable=False),
        sa.Column("ignore", sa.JSON(), nullable=False),
        sa.Column("zdr", sa.Boolean(), nullable=False),
        sa.Column("deny_data_collection", sa.Boolean(), nullable=False),
        sa.Column("updated_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_tenant_settings"),
    )


def create_imports() -> None:
    """Create the import log and the counters of changes to the world."""
    op.create_table(
        "import_log",
        sa.Column("import_id", sa.Integer(), nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("source", NAME, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("generated_at", UTC_TIME),
        sa.Column("imported_at", UTC_TIME, nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("import_id", name="pk_import_log"),
    )
    op.create_index("ix_import_log_kind_source", "import_log", ["kind", "source"])
    op.create_table(
        "world_revision",
        sa.Column("kind", NAME, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_world_revision"),
    )
    for kind in ("catalog", "evidence", "preferences"):
        op.execute(f"INSERT INTO world_revision (kind, number) VALUES ('{kind}', 0)")  # noqa: S608 - three constants


def create_snapshots() -> None:
    """Create policy revisions, snapshots and their parts."""
    op.create_table(
        "policy_source",
        sa.Column("digest", NAME, nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_policy_source"),
    )
    op.create_table(
        "policy_revision",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.Column("note", sa.Text()),
        sa.ForeignKeyConstraint(
            ["digest"], ["policy_source.digest"], name="fk_policy_revision_digest"
        ),
        sa.PrimaryKeyConstraint("number", name="pk_policy_revision"),
    )
    op.create_index("ix_policy_revision_digest", "policy_revision", ["digest"])
    op.create_table(
        "snapshot",
        sa.Column("snapshot_id", NAME, nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("as_of", UTC_TIME, nullable=False),
        sa.Column("policy_revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_revision"], ["policy_revision.number"], name="fk_snapshot_policy_revision"
        ),
        sa.PrimaryKeyConstraint("snapshot_id", name="pk_snapshot"),
    )
    op.create_index("ix_snapshot_policy_revision", "snapshot", ["policy_revision"])
    op.create_table(
        "part",
        sa.Column("digest", NAME, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_part"),
    )
    op.create_table(
        "snapshot_part",
        sa.Column("snapshot_id", NAME, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["part.digest"], name="fk_snapshot_part_digest"),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshot.snapshot_id"], name="fk_snapshot_part_snapshot_id"
        ),
        sa.PrimaryKeyConstraint("snapshot_id", "digest", name="pk_snapshot_part"),
    )
    op.create_index("ix_snapshot_part_digest", "snapshot_part", ["digest"])
    op.create_table(
        "publication",
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("snapshot_id", NAME, nullable=False),
        sa.Column("published_at", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshot.snapshot_id"], name="fk_publication_snapshot_id"
        ),
        sa.PrimaryKeyConstraint("sequence", name="pk_publication"),
    )
    op.create_index("ix_publication_snapshot_id", "publication", ["snapshot_id"])


TABLES = (
    "provider",
    "provider_listing",
    "model",
    "model_listing",
    "endpoint",
    "endpoint_listing",
    "observation",
    "preference",
    "tenant_settings",
    "import_log",
    "world_revision",
    "policy_source",
    "policy_revision",
    "snapshot",
    "part",
    "snapshot_part",
    "publication",
)


def downgrade() -> None:
    """Revert this revision."""
    for table in reversed(TABLES):
        op.drop_table(table)
