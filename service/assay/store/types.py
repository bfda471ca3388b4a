"""Column types that hold the same value on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, Text, TypeDecorator
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from assay.engine.world.clock import EPOCH

MICROSECOND = timedelta(microseconds=1)

# Names are compared by code point on both databases, whatever the server's locale.
NAME = Text().with_variant(Text(collation="C"), "postgresql")


class UtcTime(TypeDecorator[datetime]):
    """An instant: microseconds since 1970 on SQLite, `timestamptz` on PostgreSQL; never naive."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type."""
        is_postgresql = dialect.name == "postgresql"
        own = postgresql.TIMESTAMP(timezone=True) if is_postgresql else BigInteger()
        return dialect.type_descriptor(own)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | int | None:
        """Store an aware instant."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = f"time without a zone: {value.isoformat()}"
            raise ValueError(message)
        return value if dialect.name == "postgresql" else (value - EPOCH) // MICROSECOND

    def process_result_value(
        self,
        value: Any,  # noqa: ANN401 - SQLAlchemy's signature
        dialect: Dialect,
    ) -> datetime | None:
        """Read an instant, in UTC."""
        if value is None:
            return None
        stored: datetime = value if dialect.name == "postgresql" else EPOCH + value * MICROSECOND
        return stored.astimezone(UTC)
