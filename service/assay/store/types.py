"""Column types that hold the same value on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Text, TypeDecorator
from sqlalchemy.dialects import postgresql

from assay.engine.world.clock import EPOCH

if TYPE_CHECKING:
    from sqlalchemy import Dialect
    from sqlalchemy.types import TypeEngine

MICROSECOND = timedelta(microseconds=1)

# Names sort and compare by code point on both databases, whatever the server's locale is.
NAME = Text().with_variant(Text(collation="C"), "postgresql")


class UtcTime(TypeDecorator[datetime]):
    """An instant: microseconds since 1970 on SQLite, `timestamptz` on PostgreSQL; naive times are refused."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 - as SQLAlchemy has it
        """Store an aware instant."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = f"time without a zone: {value.isoformat()}"
            raise ValueError(message)
        return value if dialect.name == "postgresql" else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401 - as SQLAlchemy has it
        """Read the instant back, in UTC."""
        if value is None:
            return None
        stored: datetime = value if dialect.name == "postgresql" else EPOCH + value * MICROSECOND
        return stored.astimezone(UTC)
