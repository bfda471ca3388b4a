"""The decision log of one database as auditors use it, over gRPC and in commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial

from sqlalchemy import ColumnElement, Engine

from assay.decision_log.candidate import PolicyComparison, compare
from assay.decision_log.decision_row import ROW_COLUMNS, ListKey, StoredDecision, derive_row
from assay.decision_log.filter import read_filter
from assay.decision_log.queries import get_decision, list_decisions, tenants_by_pseudonym
from assay.decision_log.replay import Compile, Replayer, ReplayResult, stored_snapshots
from assay.decision_log.streams import (
    LoggedRecord,
    heads,
    records,
    records_between,
    records_of,
    strays,
    streams,
    words_of,
)
from assay.decision_log.verify import StreamContents, StreamReport, StreamRow, verify_stream
from assay.engine.errors import CallerError, InvalidField, quoted
from assay.engine.policy.policy import Policy
from assay.journal.chain import Head
from assay.store.policies import PolicyRevision, list_policies

DEFAULT_SPAN = timedelta(days=31)
_CACHED_WORDS = 4096


class UnknownDecision(CallerError):
    """The log has no decision with this id."""

    def __init__(self, decision_id: str) -> None:
        super().__init__(f"decision_id: {quoted(decision_id)} is not in the log")
        self.decision_id = decision_id


@dataclass(frozen=True, slots=True)
class DecisionQuery:
    """A CEL filter, empty for all, and a time range, by default the 31 days before `until`."""

    until: datetime
    filter: str = ""
    since: datetime | None = None

    @property
    def begin(self) -> datetime:
        """Start of the time range; raises InvalidField if it is not before the end."""
        try:
            begin = self.since or self.until - DEFAULT_SPAN
        except OverflowError as error:
            raise InvalidField(
                "until", self.until.isoformat(), "a time that has 31 days before it"
            ) from error
        if begin >= self.until:
            raise InvalidField(
                "since", begin.isoformat(), f"before until, {self.until.isoformat()}"
            )
        return begin

    @property
    def condition(self) -> ColumnElement[bool] | None:
        """The filter in SQL; raises InvalidFilter."""
        return read_filter(self.filter).condition if self.filter else None


@dataclass(frozen=True, slots=True)
class DecisionDetail:
    """One decision with its record, and its replay, which has the messages that records omit."""

    row: StoredDecision
    tenant: str
    record: bytes
    replayed: ReplayResult


class Auditor:
    """Reads one database; `compile_source` compiles stored rule files."""

    def __init__(self, database: Engine, engine_version: str, compile_source: Compile) -> None:
        self.database = database
        self.engine_version = engine_version
        self.snapshots = stored_snapshots(database, compile_source)
        self.words = lru_cache(_CACHED_WORDS)(lambda name: words_of(database, [name])[name])

    def tenants(self) -> Mapping[str, str]:
        """Return the tenants by pseudonym."""
        return tenants_by_pseudonym(self.database)

    def find(
        self, question: DecisionQuery, *, after: ListKey | None = None, limit: int = 100
    ) -> tuple[StoredDecision, ...]:
        """Return the newest matching decisions; raise InvalidFilter and QueryTooSlow."""
        return list_decisions(
            self.database,
            question.condition,
            since=question.begin,
            until=question.until,
            after=after,
            limit=limit,
        )

    def records(self, question: DecisionQuery) -> Iterator[LoggedRecord]:
        """Yield every matching record, oldest first."""
        return records_between(
            self.database, question.condition, since=question.begin, until=question.until
        )

    def records_of(self, decision_ids: Sequence[str]) -> Iterator[LoggedRecord]:
        """Yield the records of these decisions; raise UnknownDecision if one is missing."""
        expected = iter(decision_ids)
        for found in records_of(self.database, decision_ids):
            if (wanted := next(expected)) != (found.decision and found.decision.decision_id):
                raise UnknownDecision(wanted)
            yield found
        for wanted in expected:
            raise UnknownDecision(wanted)

    def row(self, decision_id: str) -> StoredDecision:
        """Return the row of one decision; raise UnknownDecision."""
        found = get_decision(self.database, decision_id)
        if found is None:
            raise UnknownDecision(decision_id)
        return found

    def show(self, decision_id: str) -> DecisionDetail:
        """Return one decision with its replay; raise UnknownDecision."""
        row = self.row(decision_id)
        found = next(self.records_of([decision_id]))
        tenants = self.tenants()
        replayed = self.replayer(tenants)(decision_id, found.payload)
        return DecisionDetail(row, tenants.get(row.tenant, ""), found.payload, replayed)

    def replayer(self, tenants: Mapping[str, str] | None = None) -> Replayer:
        """Return a replayer with the tenants known now."""
        return Replayer(
            self.snapshots, self.tenants() if tenants is None else tenants, self.engine_version
        )

    def replay(self, found: Iterable[LoggedRecord]) -> Iterator[ReplayResult]:
        """Recompute decisions one by one."""
        replay = self.replayer()
        for record in found:
            yield replay(
                record.decision.decision_id if record.decision else str(record.seq), record.payload
            )

    def replay_ids(self, decision_ids: Sequence[str]) -> Iterator[ReplayResult]:
        """Recompute these decisions; the outcome of a missing one is `not_found`."""
        found = {
            r.decision.decision_id: r for r in records_of(self.database, decision_ids) if r.decision
        }
        replay = self.replayer()
        for decision_id in decision_ids:
            if record := found.get(decision_id):
                yield replay(decision_id, record.payload)
            else:
                yield ReplayResult(decision_id, "not_found", "the log has no such decision")

    def revisions(
        self, *, below: int | None = None, limit: int = 100
    ) -> tuple[PolicyRevision, ...]:
        """Return the newest policy revisions numbered below `below`."""
        return list_policies(self.database, below=below, limit=limit)

    def compare(self, found: Iterable[LoggedRecord], candidate: Policy) -> PolicyComparison:
        """Compare logged decisions with those of a candidate policy."""
        named = ((r.decision.decision_id, r.payload) for r in found if r.decision)
        return compare(named, candidate, self.replayer())

    def verify(
        self,
        public_keys: Mapping[str, bytes],
        outside: Iterable[Head] = (),
        only: str = "",
        *,
        watch: Callable[[Iterable[StreamRow]], Iterable[StreamRow]] = iter,
    ) -> Iterator[StreamReport]:
        """Check every stream, or one, against its records, its chain and all known heads.

        Records pass through `watch`. A log that grows meanwhile is checked as far as it was read.
        """
        known = {state.stream: state for state in streams(self.database)}
        outside_heads: dict[str, list[Head]] = {}
        for head in outside:
            outside_heads.setdefault(head.stream, []).append(head)
        forged = {row.stream: row for row in strays(self.database)}
        names = sorted(known.keys() | outside_heads.keys() | forged.keys())
        for name in names if not only else [name for name in names if name == only]:
            start = known[name].pruned if name in known else None
            first = start.seq if start else 0
            contents = StreamContents(
                name,
                watch(map(self._row_of, records(self.database, name, after=first))),
                start,
                heads(self.database, name),
                # without those of records that were removed by age
                [head for head in outside_heads.get(name, ()) if head.seq >= first],
                partial(heads, self.database, name),
            )
            report = verify_stream(contents, public_keys, columns_of)
            if not report.fault and name in forged:
                row = forged[name]
                detail = f"decision {row.decision_id} is listed at {row.seq}, but has no record"
                report = replace(report, fault="inserted", fault_seq=row.seq, detail=detail)
            yield report

    def _row_of(self, record: LoggedRecord) -> StreamRow:
        row = record.decision
        columns = None if row is None else {**asdict(row), "words": self.words(row.finding_set)}
        return StreamRow(record.seq, record.kind, record.payload, record.chain, columns)


def columns_of(record: bytes) -> Mapping[str, object]:
    """Return the row and the words that a record must have; raise ValueError."""
    row = derive_row(record)
    columns = {name: getattr(row, name) for name in ROW_COLUMNS}
    return {**columns, "words": {kind: words for kind, words in row.words.items() if words}}
