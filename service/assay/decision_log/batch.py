"""One batch of journal records as rows, built before any lock is taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import BigInteger, Dialect

from assay.decision_log.decision_row import ROW_COLUMNS, DerivedDecision, Words, derive_row
from assay.decision_log.tables import decision
from assay.engine.errors import quoted
from assay.engine.world.clock import EPOCH
from assay.journal.sink import JournalRecord, RecordKind
from assay.outcomes.outcome import OutcomeBatch, decode_outcomes
from assay.store.outcome_counters import ToolActivity
from assay.store.types import UtcTime

MAX_TEXT: Final = 500
"""Characters of an indexed text: PostgreSQL's index entries hold at most 2,704 bytes."""

Cells = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class RecordReaders:
    """The functions that decode records; each raises ValueError if the bytes are not valid."""

    decision: Callable[[bytes], DerivedDecision] = derive_row
    outcomes: Callable[[bytes], OutcomeBatch] = decode_outcomes


_OWN: Final = tuple(decision.c[name] for name in ROW_COLUMNS if name != "decided_at")
_TEXTS: Final = tuple(column for column in _OWN if column.type.python_type is str)
_COUNTS: Final = tuple(column for column in _OWN if column.type.python_type is int)
CELLS: Final = tuple(column.name for column in _TEXTS + _COUNTS)
"""The columns stored as they are in the row; stream, number and time precede them."""

_values_of: Final = attrgetter(*CELLS)
_bind_time: Final = UtcTime().process_bind_param
_DAY_0: Final = EPOCH.toordinal()


@dataclass(slots=True)
class LogBatch:
    """The rows of one batch by table, with cells in the order of `sink.COLUMNS`.

    `words` is keyed by finding set. `activity` holds number, tenant and day since 1970 of each
    decision with tools. `unlisted` counts decisions whose record cannot be read.
    """

    records: list[Cells] = field(default_factory=list)
    decisions: list[Cells] = field(default_factory=list)
    words: dict[str, Words] = field(default_factory=dict)
    pseudonyms: list[Cells] = field(default_factory=list)
    activity: list[tuple[int, str, int, ToolActivity]] = field(default_factory=list)
    outcomes: list[OutcomeBatch] = field(default_factory=list)
    unreadable: list[Cells] = field(default_factory=list)
    unlisted: int = 0


def batch_of(
    stream: str, records: Iterable[JournalRecord], readers: RecordReaders, dialect: Dialect
) -> LogBatch:
    """Build the rows of a batch; no record is lost.

    A decision that cannot be read is stored without a row; verification reports it.
    """
    batch = LogBatch()
    for record in records:
        if record.chain is None:
            _add_unchained(batch, stream, record, readers, dialect)
            continue
        batch.records.append((stream, record.seq, record.kind, record.payload, record.chain))
        if record.kind == RecordKind.DECISION:
            try:
                _add_decision(batch, stream, record.seq, readers.decision(record.payload), dialect)
            except Exception:  # noqa: BLE001 - one bad record must not block the records behind it
                batch.unlisted += 1
    return batch


def _add_decision(
    batch: LogBatch, stream: str, seq: int, row: DerivedDecision, dialect: Dialect
) -> None:
    """Add the rows of a decision, all or none; raise ValueError if a column cannot hold a value."""
    if row.finding_set not in batch.words:
        for words in row.words.values():
            _require_storable(words)
        batch.words[row.finding_set] = row.words
    activity = row.activity
    if activity is not None:
        _require_storable((*activity.models, *activity.ignored))
    batch.decisions.append((stream, seq, _bind_time(row.decided_at, dialect), *_cells_of(row)))
    if activity is not None:
        batch.activity.append((seq, row.tenant, row.decided_at.toordinal() - _DAY_0, activity))


def _cells_of(row: DerivedDecision) -> Cells:
    """Return the values of CELLS; raise ValueError if a column cannot hold one."""
    values: Cells = _values_of(row)
    _require_storable(values[: len(_TEXTS)])
    counts = values[len(_TEXTS) :]
    if min(counts) < 0 or max(counts) >= 2**31:
        _require_in_range(counts)
    return values


def _require_in_range(counts: Sequence[int]) -> None:
    for column, count in zip(_COUNTS, counts, strict=True):
        limit = 2**63 if isinstance(column.type, BigInteger) else 2**31
        if not -limit <= count < limit:
            raise ValueError(f"{column.name}: {count} is out of the column's range")


def _require_storable(texts: Sequence[str]) -> None:
    """Raise ValueError for NUL, lone surrogates, and texts too long for an index."""
    together = "".join(texts)
    if not together.isascii():
        together.encode()  # raises at a lone surrogate
    if "\0" in together or (len(together) > MAX_TEXT and max(map(len, texts)) > MAX_TEXT):
        raise ValueError(f"{quoted(together)} cannot be stored as names")


def _add_unchained(
    batch: LogBatch, stream: str, record: JournalRecord, readers: RecordReaders, dialect: Dialect
) -> None:
    """Add a record outside the chain: a pseudonym, outcomes, or bytes for a newer version."""
    try:
        if record.kind == RecordKind.OUTCOMES:
            outcomes = readers.outcomes(record.payload)
            _require_storable_outcomes(outcomes)
            batch.outcomes.append(outcomes)
        else:
            batch.pseudonyms.append(_pseudonym_cells(record, dialect))
    except (KeyError, TypeError, ValueError, OverflowError):
        digest = sha256(record.payload).hexdigest()
        batch.unreadable.append((stream, digest, record.kind, record.payload))


def _pseudonym_cells(record: JournalRecord, dialect: Dialect) -> Cells:
    if record.kind != RecordKind.TENANT:
        raise ValueError(f"unknown kind {record.kind} of a record outside the chain")
    found = json.loads(record.payload)
    created_at = EPOCH + timedelta(microseconds=found["at_us"])
    _require_storable((found["pseudonym"], found["tenant"]))
    return found["pseudonym"], found["tenant"], _bind_time(created_at, dialect)


def _require_storable_outcomes(batch: OutcomeBatch) -> None:
    _require_storable((batch.source, batch.batch_id))
    for group in batch.groups:
        _require_storable((group.tenant, group.endpoint_id, group.provider))
        _require_storable([outcome.decision_id for outcome in group.outcomes])
        _require_storable([outcome.result for outcome in group.outcomes])
