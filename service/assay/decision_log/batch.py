"""One batch of journalled records as the rows that keep it; made before any lock is taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final, Protocol

from sqlalchemy import BigInteger, Dialect

from assay.decision_log.tables import decision
from assay.engine.errors import quoted
from assay.engine.world.clock import EPOCH
from assay.journal.sink import RecordKind
from assay.outcomes.outcome import OutcomeBatch as Outcomes
from assay.store.types import UtcTime

LONGEST: Final = 500
"""Characters of a text: an entry of a PostgreSQL index holds at most 2,704 bytes."""

Cells = tuple[Any, ...]
Words = Mapping[str, tuple[str, ...]]


class Activity(Protocol):
    """What a tenant asked for with tools."""

    @property
    def models(self) -> tuple[str, ...]:
        """Each once, without routing variants."""

    @property
    def ignored(self) -> tuple[str, ...]:
        """Providers and tags that it ruled out, each once."""


class DecisionRow(Protocol):
    """What is derived from the record of one decision: these, and an attribute for each of CELLS."""

    @property
    def tenant(self) -> str:
        """A pseudonym."""

    @property
    def decided_at(self) -> datetime:
        """When it was answered."""

    @property
    def finding_set(self) -> str:
        """The name of its words: equal words, equal name."""

    @property
    def words(self) -> Words:
        """What it is found by, by kind."""

    @property
    def activity(self) -> Activity | None:
        """Of a tenant that offered tools."""


class Journalled(Protocol):
    """One record on its way; one outside the chain has no link, and its number says nothing."""

    @property
    def seq(self) -> int:
        """Its number in the stream."""

    @property
    def kind(self) -> int:
        """What it is."""

    @property
    def payload(self) -> bytes:
        """Its bytes."""

    @property
    def chain(self) -> bytes | None:
        """The link over it and all before it."""


Derive = Callable[[bytes], DecisionRow]


@dataclass(frozen=True, slots=True)
class Readers:
    """What reads records; each raises ValueError where the bytes are none."""

    decision: Derive
    outcomes: Callable[[bytes], Outcomes]


OWN: Final = tuple(
    column for column in decision.columns if column.name not in {"stream", "seq", "decided_at"}
)
TEXTS: Final = tuple(column for column in OWN if column.type.python_type is str)
COUNTS: Final = tuple(column for column in OWN if column.type.python_type is int)
CELLS: Final = TEXTS + COUNTS
"""The columns whose values are a row's own as they are; stream, number and instant go before them."""

VALUES: Final = attrgetter(*(column.name for column in CELLS))


@dataclass(slots=True)
class Batch:
    """The rows of one batch by table, cells in the order of `audit_loading.COLUMNS`; words by finding set.

    `activity` has number in the stream, tenant and day since 1970 beside it; `outcomes` are not rows yet.
    """

    records: list[Cells] = field(default_factory=list)
    decisions: list[Cells] = field(default_factory=list)
    words: dict[str, Words] = field(default_factory=dict)
    pseudonyms: list[Cells] = field(default_factory=list)
    activity: list[tuple[int, str, int, Activity]] = field(default_factory=list)
    outcomes: list[Outcomes] = field(default_factory=list)
    unreadable: list[Cells] = field(default_factory=list)
    unlisted: int = 0


def batch_of(stream: str, records: Iterable[Journalled], read: Readers, dialect: Dialect) -> Batch:
    """Every record goes somewhere: a decision that cannot be read is kept without a row that it could be found by.

    Verifying names those.
    """
    batch = Batch()
    for record in records:
        if record.chain is None:
            announced(batch, stream, record, read, dialect)
            continue
        batch.records.append((stream, record.seq, record.kind, record.payload, record.chain))
        if record.kind == RecordKind.DECISION:
            try:
                list_decision(batch, stream, record, read.decision(record.payload), dialect)
            except Exception:  # noqa: BLE001 - whatever it holds, it must not keep the records behind it from the log
                batch.unlisted += 1
    return batch


def list_decision(
    batch: Batch, stream: str, record: Journalled, row: DecisionRow, dialect: Dialect
) -> None:
    """Add what a decision is found by, all of it or nothing; raises ValueError where no column could hold it."""
    if row.finding_set not in batch.words:
        batch.words[row.finding_set] = listable_words(row.words)
    asked = row.activity
    if asked is not None:
        require_names((*asked.models, *asked.ignored))
    batch.decisions.append((stream, record.seq, UTC_TIME(row.decided_at, dialect), *listable(row)))
    if asked is not None:
        batch.activity.append((record.seq, row.tenant, row.decided_at.toordinal() - DAY_0, asked))


UTC_TIME: Final = UtcTime().process_bind_param
DAY_0: Final = EPOCH.toordinal()


def listable(row: DecisionRow) -> Cells:
    """The values of CELLS; raises ValueError where the columns of either database could not hold them."""
    values: Cells = VALUES(row)
    require_names(values[: len(TEXTS)])
    counts = values[len(TEXTS) :]
    if min(counts) < 0 or max(counts) >= 2**31:
        require_room(counts)
    return values


def require_room(counts: Sequence[int]) -> None:
    """Raise ValueError for what is beyond 32 bits, or 64 where the column has them."""
    for column, count in zip(COUNTS, counts, strict=True):
        limit = 2**63 if isinstance(column.type, BigInteger) else 2**31
        if not -limit <= count < limit:
            message = f"{column.name}: {count} is more than a column holds"
            raise ValueError(message)


def listable_words(words: Words) -> Words:
    """The words; raises ValueError where one could not be kept."""
    for each in words.values():
        require_names(each)
    return words


def require_names(texts: Sequence[str]) -> None:
    """Raise ValueError for NUL, half a surrogate pair, and what is too long for an index."""
    together = "".join(texts)
    if not together.isascii():
        together.encode()  # half a surrogate pair cannot be
    if "\0" in together or (len(together) > LONGEST and max(map(len, texts)) > LONGEST):
        message = f"{quoted(together)} cannot be kept as names"
        raise ValueError(message)


def announced(
    batch: Batch, stream: str, record: Journalled, read: Readers, dialect: Dialect
) -> None:
    """Keep a record outside the chain: a tenant's pseudonym, outcomes, or what only a newer Assay can read."""
    try:
        if record.kind == RecordKind.OUTCOMES:
            batch.outcomes.append(countable(read.outcomes(record.payload)))
        else:
            batch.pseudonyms.append(pseudonym(record, dialect))
    except (KeyError, TypeError, ValueError, OverflowError):
        digest = sha256(record.payload).hexdigest()
        batch.unreadable.append((stream, digest, record.kind, record.payload))


def pseudonym(record: Journalled, dialect: Dialect) -> Cells:
    """A tenant, by the name that the log knows it by."""
    if record.kind != RecordKind.TENANT:
        message = f"a record of kind {record.kind} outside the chain is not known"
        raise ValueError(message)
    read = json.loads(record.payload)
    made_at = EPOCH + timedelta(microseconds=read["at_us"])
    require_names((read["pseudonym"], read["tenant"]))
    return read["pseudonym"], read["tenant"], UTC_TIME(made_at, dialect)


def countable(batch: Outcomes) -> Outcomes:
    """The outcomes; raises ValueError where a text of theirs could not be kept."""
    require_names((batch.source, batch.batch_id))
    for group in batch.groups:
        require_names((group.tenant, group.endpoint_id, group.provider))
        require_names(
            [text for outcome in group.outcomes for text in (outcome.decision_id, outcome.result)]
        )
    return batch
