"""Values of an indexed column, each once, by jumping from one to the next rather than reading every row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Select, func, select


def distinct_values(column: Column[str]) -> Select[Any]:
    """Select the values in order; `column` comes first in an index."""
    first = select(func.min(column).label("value")).cte("each_value", recursive=True)
    following = select(func.min(column)).where(column > first.c.value).scalar_subquery()
    values = first.union_all(select(following).where(first.c.value.is_not(None)))
    return select(values.c.value).where(values.c.value.is_not(None))
