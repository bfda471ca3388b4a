"""Values in test files: keys of fixtures, times, numbers and percentiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime

from assay.engine.catalog import Percentiles, Prices
from assay.engine.faults import Fault
from assay.engine.request import MaxPrice
from assay.rulefiles.nodes import Table
from assay.rulefiles.schemas import unknown


def key_of(table: Table, name: str, known: Mapping[str, object], faults: list[Fault]) -> str | None:
    """The fixture's key that a table names, if there is such a fixture."""
    found = table.scalar(name)
    if found and found.text not in known:
        faults.append(Fault(found.place, unknown("endpoint", found.text, known)))
    return found.text if found and found.text in known else None


def moment(table: Table, key: str, default: datetime, faults: list[Fault]) -> datetime:
    """A time with its zone, in UTC."""
    text = table.maybe_text(key)
    if text is None:
        return default
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        faults.append(Fault(table.place_of(key), f"there is no such time: `{text[:40]}`"))
        return default


def percentiles(table: Table, key: str) -> Percentiles:
    """Four points of a distribution; a number alone is the median."""
    alone = double(table, key)
    return Percentiles(**doubles(table.table(key), Percentiles)) if alone is None else Percentiles(p50=alone)


def doubles(table: Table, kind: type[Prices | Percentiles | MaxPrice]) -> dict[str, float]:
    """A table's numbers as doubles, for the fields of a kind of value."""
    found = {item.name: double(table, item.name) for item in fields(kind)}
    return {name: value for name, value in found.items() if value is not None}


def double(table: Table, key: str) -> float | None:
    """A number as a double."""
    found = table.number(key)
    return None if found is None else float(found)
