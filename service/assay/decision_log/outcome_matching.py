"""Outcomes find their decisions: each attempt counts once, others wait or are only tallied.

How it works
------------
An outcome that names a decision counts if the decision planned this endpoint at this rank, if the
outcome's time lies in the reporting window, and if it is the first to claim the attempt: a row of
the table `outcome`, inserted in the transaction that increments the counters. So repeats count once
whatever their batch, order and process, and a crash leaves either all of it or nothing.

If the decision is not stored yet, the outcome waits in the table `waiting_outcome`. The transaction
that brings the decision deletes the waiting rows and settles them. Two transactions that do not
see each other must not both miss: on PostgreSQL, one that brings decisions holds the advisory lock
DECISIONS shared, from before it reads the waiting rows until its commit. One that lets outcomes
wait holds it exclusively, and looks for the decisions once more under the lock. So either it sees
the decision, or the decision's transaction sees the waiting row. SQLite has one writer at a time.

Deadlocks are avoided by order: DECISIONS after the log's tables, then batches, waiting outcomes,
outcomes, counters and tallies, each in the order of keys. Only `settle_waiting` comes without the
lock, and it skips rows that another transaction has locked.

The plans of decisions come from the batch that is stored, from a bounded cache of committed ones,
or from the log itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from msgspec.json import Decoder, Encoder
from sqlalchemy import Connection, Engine, TextClause, func, select, text

from assay.decision_log.decision_row import DerivedDecision, derive_row
from assay.decision_log.record import to_micros
from assay.decision_log.tables import decision, journal_record
from assay.outcomes.bounded_map import BoundedMap
from assay.outcomes.checks import AHEAD_US, DAY_US, Attempt, BatchName
from assay.outcomes.counting import count_outcomes
from assay.outcomes.outcome import (
    Outcome,
    OutcomeBatch,
    OutcomeGroup,
    RejectedCount,
    Uncounted,
    fingerprint,
)
from assay.store.database import reading, translate_errors, writing_concurrently
from assay.store.evidence_tables import outcome, waiting_outcome
from assay.store.outcome_counters import (
    AttemptReport,
    UncountedCell,
    add_counts,
    add_uncounted,
    claim_attempts,
    claim_batches,
)
from assay.store.upserts import Cells, insert_new

DECISIONS: Final = 0x41_73_73_61_7B
"""The advisory lock of decisions that outcomes may wait for."""

WAITING: Final = timedelta(days=1)
"""How long an outcome waits for its decision."""

MOST_WAITING: Final = 1_000_000
"""How many outcomes may wait; the oldest of more are given up when an hour is closed."""

_BATCH: Final = 500
_encoder = Encoder()
_decoder = Decoder(Outcome)

Read = Callable[[bytes], DerivedDecision]
"""Decodes the record of a decision; raises ValueError if the bytes are not valid."""


class PlannedAttempts(NamedTuple):
    """When a decision was made, and the endpoints of its attempts in order of rank."""

    decided_us: int
    endpoints: Sequence[str]


Plans = Mapping[str, PlannedAttempts]
PlanCache = BoundedMap[str, PlannedAttempts]


class PreparedBatch(NamedTuple):
    """A batch of outcomes: those that name a decision, the others, and counts of rejected ones."""

    received_us: int
    reports: Sequence[AttemptReport]
    others: OutcomeBatch
    rejected: Sequence[RejectedCount]


@dataclass(slots=True)
class Settlement:
    """What became of reports: those that count, and a tally of those that do not."""

    counted: list[AttemptReport] = field(default_factory=list)
    uncounted: Counter[UncountedCell] = field(default_factory=Counter)

    def tally(self, report: AttemptReport, kind: str) -> None:
        """Count a report that moves nothing."""
        day = report.received_us // DAY_US
        self.uncounted[day, kind, report.source, report.endpoint_id] += 1

    def by_kind(self) -> Counter[str]:
        """Sum the tally by kind."""
        kinds: Counter[str] = Counter()
        for (_, kind, *_), count in self.uncounted.items():
            kinds[kind] += count
        return kinds


def planned_attempts(row: DerivedDecision) -> PlannedAttempts:
    """Return what outcomes of a decision are compared with."""
    return PlannedAttempts(to_micros(row.decided_at), row.tried)


def prepare_batches(batches: Iterable[OutcomeBatch]) -> dict[BatchName, PreparedBatch]:
    """Prepare batches before any lock is taken; of those with the same name the first counts."""
    prepared: dict[BatchName, PreparedBatch] = {}
    for batch in batches:
        name = (batch.source, batch.batch_id)
        if name not in prepared:
            prepared[name] = _prepare(batch)
    return prepared


def _prepare(batch: OutcomeBatch) -> PreparedBatch:
    reports: list[AttemptReport] = []
    others: list[OutcomeGroup] = []
    for group in batch.groups:
        own = (batch.source, group.tenant, group.endpoint_id, group.provider)
        reports += [
            AttemptReport(
                each.decision_id,
                each.attempt,
                batch.received_us,
                fingerprint(group.endpoint_id, each),
                *own,
                each,
            )
            for each in group.outcomes
            if each.decision_id
        ]
        alone = [each for each in group.outcomes if not each.decision_id]
        if alone:
            others.append(group._replace(outcomes=alone))
    return PreparedBatch(batch.received_us, reports, batch._replace(groups=others), batch.rejected)


def find_plans(
    connection: Connection,
    batches: Iterable[PreparedBatch],
    arriving: Plans,
    cache: PlanCache,
    read: Read,
) -> Plans:
    """Return the known plans of the reported decisions, and take the lock DECISIONS.

    Call it once the `arriving` decisions are inserted.
    """
    missing = {report.decision_id for batch in batches for report in batch.reports}
    missing -= arriving.keys()
    plans = dict(arriving)
    for decision_id in list(missing):
        if (cached := cache.get(decision_id)) is not None:
            plans[decision_id] = cached
    missing -= plans.keys()
    plans |= _read_plans(connection, missing, read)
    missing -= plans.keys()
    if connection.dialect.name == "postgresql":
        if missing:
            connection.execute(select(func.pg_advisory_xact_lock(DECISIONS)))
            plans |= _read_plans(connection, missing, read)
        elif arriving:
            connection.execute(select(func.pg_advisory_xact_lock_shared(DECISIONS)))
    return plans


def count_batches(
    connection: Connection,
    stream: str,
    batches: Mapping[BatchName, PreparedBatch],
    plans: Plans,
    arriving: Plans,
) -> Settlement:
    """Count the batches that are not counted yet, and what waited for the `arriving` decisions."""
    names: Sequence[BatchName] = ()
    if batches:
        received = {name: batch.received_us for name, batch in batches.items()}
        names = claim_batches(connection, stream, received)
    new = [batches[name] for name in names]
    settled = Settlement()
    for batch in new:
        day, source = batch.received_us // DAY_US, batch.others.source
        for kind, endpoint_id, number in batch.rejected:
            settled.uncounted[day, kind, source, endpoint_id] += number
    reports = [report for batch in new for report in batch.reports]
    reports += _take_waiting(connection, arriving)
    _let_wait(connection, [each for each in reports if each.decision_id not in plans], settled)
    known = [each for each in reports if each.decision_id in plans]
    _settle(connection, known, plans, settled)
    _write(connection, [batch.others for batch in new], settled)
    return settled


def waiting_limit(database: Engine, before: datetime, most: int = MOST_WAITING) -> datetime:
    """Return the time before which waiting is given up: `before`, or later if too many wait."""
    received = waiting_outcome.c.received_at
    query = select(received).order_by(received.desc()).offset(most).limit(1)
    with reading(database) as connection:
        newest_too_many: datetime | None = connection.scalar(query)
    if newest_too_many is None:
        return before
    return max(before, newest_too_many + timedelta(microseconds=1))


def settle_waiting(
    database: Engine, before: datetime, *, read: Read = derive_row, batch: int = _BATCH
) -> Counter[str]:
    """Give up waiting for decisions of outcomes received before a time; return how many by kind.

    An outcome whose decision is in the log all the same counts.
    """
    kinds: Counter[str] = Counter()
    while True:
        with translate_errors(database), writing_concurrently(database) as connection:
            reports = _take_old(connection, before, batch)
            plans = _read_plans(connection, {each.decision_id for each in reports}, read)
            settled = Settlement()
            for report in reports:
                if report.decision_id not in plans:
                    settled.tally(report, Uncounted.UNKNOWN_DECISION.value)
            known = [each for each in reports if each.decision_id in plans]
            _settle(connection, known, plans, settled)
            _write(connection, [], settled)
        kinds += settled.by_kind()
        if len(reports) < batch:
            return kinds


def _fault(report: AttemptReport, plan: PlannedAttempts) -> Uncounted | None:
    """Return why a report does not belong to this decision, if it does not."""
    if not 1 <= report.attempt <= len(plan.endpoints):
        return Uncounted.NO_SUCH_ATTEMPT
    if plan.endpoints[report.attempt - 1] != report.endpoint_id:
        return Uncounted.WRONG_ENDPOINT
    after_us = report.outcome.at_us - plan.decided_us
    if after_us < -AHEAD_US:
        return Uncounted.EARLY
    return Uncounted.LATE if after_us > DAY_US else None


def _settle(
    connection: Connection, reports: Iterable[AttemptReport], plans: Plans, settled: Settlement
) -> None:
    """Claim the attempts that these reports belong to, and tally the reports that count nothing."""
    first: dict[Attempt, AttemptReport] = {}
    repeated: list[AttemptReport] = []
    for report in sorted(reports, key=_by_age):
        fault = _fault(report, plans[report.decision_id])
        if fault is not None:
            settled.tally(report, fault.value)
        elif first.setdefault(report.key, report) is not report:
            repeated.append(report)
    claimed = claim_attempts(connection, first.values())
    settled.counted += [first[key] for key in first if key in claimed]
    repeated += [first[key] for key in first if key not in claimed]
    if not repeated:
        return
    prints: dict[Attempt, int | None] = {key: first[key].fingerprint for key in claimed}
    prints |= _read_fingerprints(connection, [key for key in first if key not in claimed])
    for report in repeated:
        is_same = prints.get(report.key) in {None, report.fingerprint}
        kind = Uncounted.DUPLICATE if is_same else Uncounted.CONTRADICTING
        settled.tally(report, kind.value)


def _by_age(report: AttemptReport) -> tuple[str, int, int, int, str]:
    return report[:5]


def _write(connection: Connection, batches: Iterable[OutcomeBatch], settled: Settlement) -> None:
    """Add up what counts and what does not."""
    cells: dict[tuple[str, str, str, str], list[Outcome]] = {}
    for each in settled.counted:
        cell = (each.source, each.tenant, each.endpoint_id, each.provider)
        cells.setdefault(cell, []).append(each.outcome)
    matched = [
        OutcomeBatch(source, "", 0, [OutcomeGroup(tenant, endpoint_id, provider, outcomes)])
        for (source, tenant, endpoint_id, provider), outcomes in cells.items()
    ]
    add_counts(connection, count_outcomes([*batches, *matched]))
    add_uncounted(connection, settled.uncounted)


def _let_wait(
    connection: Connection, reports: Iterable[AttemptReport], settled: Settlement
) -> None:
    """Store reports of unknown decisions; one that waits already is a duplicate."""
    rows: dict[tuple[str, int, int], AttemptReport] = {}
    for report in sorted(reports, key=_by_age):
        key = (*report.key, report.fingerprint)
        if rows.setdefault(key, report) is not report:
            settled.tally(report, Uncounted.DUPLICATE.value)
    cells = [_waiting_cells(key, rows[key]) for key in sorted(rows)]
    for key in rows.keys() - insert_new(connection, waiting_outcome, cells):
        settled.tally(rows[key], Uncounted.DUPLICATE.value)


def _waiting_cells(key: tuple[str, int, int], report: AttemptReport) -> Cells:
    content = _encoder.encode(report.outcome).decode()
    own = (report.source, report.tenant, report.endpoint_id, report.provider)
    return (*key, report.received_us, *own, content)


# The placeholder of a list of ids, and what compares a column with it.
_ANY: Final = {
    "sqlite": "IN (SELECT value FROM json_each(:ids))",
    "postgresql": "= ANY(CAST(:ids AS text[]))",
}
_SKIP_LOCKED: Final = {"sqlite": "", "postgresql": "FOR UPDATE SKIP LOCKED"}


def _take_waiting(connection: Connection, decision_ids: Collection[str]) -> list[AttemptReport]:
    """Delete the outcomes that wait for these decisions, and return them."""
    if not decision_ids:
        return []
    any_of = _ANY[connection.dialect.name]
    delete = text(
        f"DELETE FROM waiting_outcome WHERE decision_id {any_of}"  # noqa: S608 - our own names
        " RETURNING *"
    )
    return _waiting_reports(connection, delete, {"ids": _ids(connection, decision_ids)})


def _take_old(connection: Connection, before: datetime, limit: int) -> list[AttemptReport]:
    """Delete outcomes that have waited since before this time, and return them."""
    key = "decision_id, attempt, fingerprint"
    skip = _SKIP_LOCKED[connection.dialect.name]
    delete = text(
        f"DELETE FROM waiting_outcome WHERE ({key}) IN"  # noqa: S608 - our own names
        f" (SELECT {key} FROM waiting_outcome"
        f" WHERE received_at < :before ORDER BY {key} LIMIT :limit {skip}) RETURNING *"
    )
    time = waiting_outcome.c.received_at.type.bind_processor(connection.dialect)
    stored = time(before) if time else before
    return _waiting_reports(connection, delete, {"before": stored, "limit": limit})


def _waiting_reports(
    connection: Connection, delete: TextClause, values: Mapping[str, object]
) -> list[AttemptReport]:
    rows = connection.execute(delete.columns(*waiting_outcome.c), values)
    return [
        AttemptReport(
            row.decision_id,
            row.attempt,
            to_micros(row.received_at),
            row.fingerprint,
            row.source,
            row.tenant,
            row.endpoint_id,
            row.provider,
            _decoder.decode(row.outcome),
        )
        for row in rows
    ]


def _read_plans(connection: Connection, ids: Collection[str], read: Read) -> Plans:
    """Return the plans of decisions in the log; an unreadable one is left out."""
    query = text(
        f"SELECT d.decision_id, r.payload FROM {decision.name} AS d"  # noqa: S608 - our own names
        f" JOIN {journal_record.name} AS r ON r.stream = d.stream AND r.seq = d.seq"
        f" WHERE d.decision_id {_ANY[connection.dialect.name]}"
    )
    plans: dict[str, PlannedAttempts] = {}
    for piece in _pieces(sorted(ids)):
        for decision_id, payload in connection.execute(query, {"ids": _ids(connection, piece)}):
            try:
                plans[decision_id] = planned_attempts(read(bytes(payload)))
            except ValueError:  # verification reports it
                continue
    return plans


def _read_fingerprints(
    connection: Connection, attempts: Collection[Attempt]
) -> dict[Attempt, int | None]:
    query = text(
        f"SELECT decision_id, attempt, fingerprint FROM {outcome.name}"  # noqa: S608 - our own text
        f" WHERE decision_id {_ANY[connection.dialect.name]}"
    )
    ids = sorted({decision_id for decision_id, _ in attempts})
    return {
        (row.decision_id, row.attempt): row.fingerprint
        for piece in _pieces(ids)
        for row in connection.execute(query, {"ids": _ids(connection, piece)})
    }


def _pieces(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))


def _ids(connection: Connection, ids: Iterable[str]) -> object:
    """Return ids as the parameter of `_ANY`."""
    return json.dumps(list(ids)) if connection.dialect.name == "sqlite" else list(ids)
