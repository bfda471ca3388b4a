"""What auditors ask of one database: found, shown, replayed, compared and verified; servers and commands ask alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from sqlalchemy import Engine

from assay.decision_log.candidate import PolicyComparison, compare
from assay.decision_log.decision_row import ROW_COLUMNS, ListKey, StoredDecision, derive_row
from assay.decision_log.filter import read_filter
from assay.decision_log.queries import get_decision, list_decisions, tenants_by_pseudonym
from assay.decision_log.replay import Compile, Replayer, ReplayResult, stored_snapshots
from assay.decision_log.streams import (
    LoggedRecord,
    StreamState,
    heads,
    records,
    records_between,
    records_of,
    strays,
    streams,
    words_of,
)
from assay.decision_log.verify import Start, StreamContents, StreamReport, StreamRow, verify_stream
from assay.engine.errors import CallerError, InvalidField, quoted
from assay.engine.policy.policy import Policy
from assay.journal.chain import Head
from assay.store.policies import PolicyRevision, policies

DEFAULT_SPAN = timedelta(days=31)
WORDS_KEPT = 4096


class UnknownDecision(CallerError):
    """No decision of that id is in the log."""

    def __init__(self, decision_id: str) -> None:
        super().__init__(f"decision_id: {quoted(decision_id)} is not in the log")
        self.decision_id = decision_id


@dataclass(frozen=True, slots=True)
class DecisionQuery:
    """Which decisions: a CEL filter (empty for all) and a time, by default the 31 days before `until`."""

    until: datetime
    filter: str = ""
    since: datetime | None = None

    @property
    def begin(self) -> datetime:
        """From when on; raises InvalidField where that is not before the end."""
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


@dataclass(frozen=True, slots=True)
class DecisionDetail:
    """One decision with its record, and what replaying it renders: the sentences that a record leaves out."""

    row: StoredDecision
    tenant: str
    record: bytes
    replayed: ReplayResult


class Auditor:
    """Reads one database; `compile_source` turns stored rule files into a policy."""

    def __init__(self, database: Engine, engine_version: str, compile_source: Compile) -> None:
        self.database = database
        self.engine_version = engine_version
        self.snapshots = stored_snapshots(database, compile_source)
        self.words = lru_cache(WORDS_KEPT)(lambda name: words_of(database, [name])[name])

    def tenants(self) -> Mapping[str, str]:
        """The tenants behind pseudonyms."""
        return tenants_by_pseudonym(self.database)

    def find(
        self, question: DecisionQuery, *, after: ListKey | None = None, limit: int = 100
    ) -> tuple[StoredDecision, ...]:
        """The newest decisions that are asked for; raises InvalidFilter and QueryTooSlow."""
        condition = read_filter(question.filter).condition if question.filter else None
        return list_decisions(
            self.database,
            condition,
            since=question.begin,
            until=question.until,
            after=after,
            limit=limit,
        )

    def records(self, question: DecisionQuery) -> Iterator[LoggedRecord]:
        """Every record that is asked for, oldest first."""
        condition = read_filter(question.filter).condition if question.filter else None
        return records_between(self.database, condition, since=question.begin, until=question.until)

    def records_of(self, decision_ids: Sequence[str]) -> Iterator[LoggedRecord]:
        """The records of these decisions, in their order; raises UnknownDecision at one that is not in the log."""
        expected = iter(decision_ids)
        for found in records_of(self.database, decision_ids):
            if (wanted := next(expected)) != (found.decision and found.decision.decision_id):
                raise UnknownDecision(wanted)
            yield found
        for wanted in expected:
            raise UnknownDecision(wanted)

    def row(self, decision_id: str) -> StoredDecision:
        """The row of one decision; raises UnknownDecision."""
        found = get_decision(self.database, decision_id)
        if found is None:
            raise UnknownDecision(decision_id)
        return found

    def show(self, decision_id: str) -> DecisionDetail:
        """One decision; raises UnknownDecision."""
        row = self.row(decision_id)
        found = next(self.records_of([decision_id]))
        tenants = self.tenants()
        replayed = self.replayer(tenants)(decision_id, found.payload)
        return DecisionDetail(row, tenants.get(row.tenant, ""), found.payload, replayed)

    def replayer(self, tenants: Mapping[str, str] | None = None) -> Replayer:
        """What recomputes records."""
        return Replayer(
            self.snapshots, self.tenants() if tenants is None else tenants, self.engine_version
        )

    def replay(self, found: Iterable[LoggedRecord]) -> Iterator[ReplayResult]:
        """Recompute decisions one by one."""
        again = self.replayer()
        for record in found:
            yield again(
                record.decision.decision_id if record.decision else str(record.seq), record.payload
            )

    def replay_ids(self, decision_ids: Sequence[str]) -> Iterator[ReplayResult]:
        """Recompute these decisions; one that is not in the log is `not_found`."""
        found = {
            r.decision.decision_id: r for r in records_of(self.database, decision_ids) if r.decision
        }
        again = self.replayer()
        for decision_id in decision_ids:
            if record := found.get(decision_id):
                yield again(decision_id, record.payload)
            else:
                yield ReplayResult(decision_id, "not_found", "no such decision is in the log")

    def revisions(
        self, *, below: int | None = None, limit: int = 100
    ) -> tuple[PolicyRevision, ...]:
        """The newest policy revisions, those numbered lower than `below`."""
        return policies(self.database, below=below, limit=limit)

    def compare(self, found: Iterable[LoggedRecord], candidate: Policy) -> PolicyComparison:
        """What a candidate policy would have changed."""
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
        """Check every stream, or one, against its records, its chain and its heads, in the database and outside.

        Records go through `watch` on their way. A log that grows meanwhile is checked as far as it has come.
        """
        known = {state.stream: state for state in streams(self.database)}
        kept: dict[str, list[Head]] = {}
        for head in outside:
            kept.setdefault(head.stream, []).append(head)
        forged = {row.stream: row for row in strays(self.database)}
        for name in sorted(known.keys() | kept.keys() | forged.keys()):
            if not only or name == only:
                stream = self.stream(name, known.get(name), kept.get(name, ()))
                report = verify_stream(
                    replace(stream, rows=watch(stream.rows)), public_keys, columns_of
                )
                yield (
                    report
                    if report.fault or name not in forged
                    else without_record(report, forged[name])
                )

    def stream(
        self, name: str, state: StreamState | None, outside: Iterable[Head]
    ) -> StreamContents:
        """One stream as verifying reads it; heads from before what was removed by age say nothing any more."""
        start = Start(state.pruned.seq, state.pruned.chain) if state and state.pruned else None
        first = start.seq if start else 0
        signed = self.heads(name)
        rows = (self.logged(record) for record in records(self.database, name, after=first))
        kept = tuple(head for head in outside if head.seq >= first)
        return StreamContents(name, rows, start, signed, kept, lambda: self.heads(name))

    def heads(self, name: str) -> list[Head]:
        """The signed heads of a stream that are in the database now."""
        return [
            Head(h.stream, h.seq, h.chain, h.signature, h.key_id)
            for h in heads(self.database, name)
        ]

    def logged(self, record: LoggedRecord) -> StreamRow:
        """A record as verifying reads it, with its row and the words it is found by."""
        row = record.decision
        columns = None if row is None else {**asdict(row), "words": self.words(row.finding_set)}
        return StreamRow(record.seq, record.kind, record.payload, record.chain, columns)


def without_record(report: StreamReport, row: StoredDecision) -> StreamReport:
    """A stream that has the row of a decision without a record behind it."""
    detail = f"there is no record of decision {row.decision_id}, which is listed at {row.seq}"
    return replace(report, fault="inserted", fault_seq=row.seq, detail=detail)


def columns_of(record: bytes) -> Mapping[str, object]:
    """What the row of a record has to say."""
    derived = derive_row(record)
    columns = {name: getattr(derived, name) for name in ROW_COLUMNS}
    return {**columns, "words": {kind: words for kind, words in derived.words.items() if words}}
