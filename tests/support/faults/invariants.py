"""What must hold after any fault: one checker for files, processes, databases and simulations.

- Each answered decision is in the log, none is in it twice, and none that was never attempted.
- Each acknowledged batch of outcomes is counted, and nothing is counted twice.
- The hash chain of every stream passes verification.
- The curator's hours, changes and states equal those of an undisturbed run.
- While something is wrong, health names a cause; afterwards it names none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from sqlalchemy import Engine, select
from tests.support.curated_pool import read_rows
from tests.support.curator_processes import Rows, pools_by_hour
from tests.support.outcomes import COUNTERS

from assay.decision_log.auditor import Auditor
from assay.decision_log.streams import streams
from assay.decision_log.tables import decision
from assay.journal.chain import Head
from assay.outcomes.checks import Attempt, BatchName
from assay.outcomes.counting import count_outcomes
from assay.outcomes.outcome import Outcome, OutcomeBatch, OutcomeGroup
from assay.rule_files.compile import compile_source
from assay.store.database import reading
from assay.store.evidence_tables import evidence_batch, waiting_outcome
from assay.store.outcome_counters import count_days


@dataclass
class Promises:
    """What callers were promised, and what they tried without an answer.

    `earlier_streams` are those that a run found in the log; it does not verify them again.
    """

    attempted: set[str] = field(default_factory=set)
    answered: list[str] = field(default_factory=list)
    sent: dict[BatchName, OutcomeBatch] = field(default_factory=dict)
    acknowledged: set[BatchName] = field(default_factory=set)
    earlier_streams: frozenset[str] = frozenset()

    def copy(self) -> Promises:
        """Return the same promises, to be continued on their own."""
        return Promises(
            set(self.attempted), list(self.answered), dict(self.sent), set(self.acknowledged)
        )

    def send(self, batch: OutcomeBatch) -> BatchName:
        """Note that a batch is being sent; return its name."""
        name = (batch.source, batch.batch_id)
        self.sent[name] = batch
        return name


@dataclass(frozen=True)
class Witnesses:
    """What verification reads outside the database: public keys and signed heads."""

    public_keys: Mapping[str, bytes]
    heads: Iterable[Head] = ()


def log_violations(database: Engine, promises: Promises, known: Witnesses) -> Iterator[str]:
    """Yield what is wrong with the decision log."""
    with reading(database) as connection:
        logged = Counter(connection.execute(select(decision.c.decision_id)).scalars())
    yield from (f"decision {each} was answered and is not logged"
                for each in promises.answered if each not in logged)  # fmt: skip
    yield from (f"decision {each} is logged {n} times" for each, n in logged.items() if n > 1)
    yield from (f"decision {each} was never made" for each in logged.keys() - promises.attempted)
    auditor = Auditor(database, "test", compile_source)
    own = {each.stream for each in streams(database)} - promises.earlier_streams
    for name in own:
        for report in auditor.verify(known.public_keys, known.heads, only=name):
            if report.fault:
                yield f"stream {name}: {report.fault} at {report.fault_seq}: {report.detail}"


def count_violations(database: Engine, promises: Promises) -> Iterator[str]:
    """Yield what is wrong with the counters of outcomes."""
    with reading(database) as connection:
        names = evidence_batch.c.source, evidence_batch.c.batch_id
        counted = {(source, name) for source, name in connection.execute(select(*names))}
        logged = set(connection.execute(select(decision.c.decision_id)).scalars())
        waiting = len(connection.execute(select(waiting_outcome)).all())
    missing = promises.acknowledged - counted
    yield from (f"batch {name} was acknowledged and is not counted" for _, name in sorted(missing))
    yield from (f"batch {name} was never sent" for _, name in counted - promises.sent.keys())
    if waiting:
        yield f"{waiting} outcomes wait for decisions although all are shipped"
    found = [promises.sent[name] for name in sorted(counted & promises.sent.keys())]
    expected = expected_counters(found, logged)
    for table in COUNTERS:
        rows = Counter(read_rows(database, table))
        if rows != expected[table.name]:
            more, less = rows - expected[table.name], expected[table.name] - rows
            yield f"{table.name}: {_some(more)} instead of {_some(less)}"


def expected_counters(
    batches: Iterable[OutcomeBatch], logged: set[str]
) -> Mapping[str, Counter[tuple[object, ...]]]:
    """Return the rows of the counters: each outcome once, of a decision only if it is logged."""
    seen: set[Attempt] = set()

    def is_new(outcome: Outcome) -> bool:
        key = (outcome.decision_id, outcome.attempt)
        if not outcome.decision_id:
            return True
        if key in seen or outcome.decision_id not in logged:
            return False
        seen.add(key)
        return True

    kept = [
        batch._replace(groups=[_only(group, is_new) for group in batch.groups]) for batch in batches
    ]
    counts = count_outcomes(kept)
    return {
        "evidence_counter": Counter((*cell, *each) for cell, each in counts.evidence.items()),
        "evidence_day": Counter(map(tuple, count_days(counts.evidence))),
        "service_counter": Counter((*cell, each) for cell, each in counts.service.items()),
        "tenant_provider": Counter((*cell, each) for cell, each in counts.providers.items()),
        "capability_counter": Counter((*cell, *each) for cell, each in counts.capabilities.items()),
    }


def _only(group: OutcomeGroup, is_wanted: Callable[[Outcome], bool]) -> OutcomeGroup:
    return group._replace(outcomes=[each for each in group.outcomes if is_wanted(each)])


def _some(rows: Counter[tuple[object, ...]]) -> str:
    return ", ".join(map(str, list(rows.elements())[:3])) or "nothing"


def pool_violations(database: Engine, undisturbed: Mapping[str, Rows]) -> Iterator[str]:
    """Yield how the pools differ from those of an undisturbed run."""
    for name, rows in pools_by_hour(database).items():
        if rows != undisturbed[name]:
            more, less = Counter(rows), Counter(undisturbed[name])
            yield f"{name} of pools: {_some(more - less)} instead of {_some(less - more)}"


def health_violations(causes: Mapping[str, object], *, is_wrong: bool) -> Iterator[str]:
    """Yield which parts report a cause although nothing is wrong, or none although something is."""
    named = {part: cause for part, cause in causes.items() if cause is not None}
    if is_wrong and not named:
        yield f"something is wrong, and none of {', '.join(causes)} names a cause"
    if not is_wrong:
        yield from (
            f"nothing is wrong, but {part} names {cause!r}" for part, cause in named.items()
        )


def require_none(violations: Iterable[str], *story: str) -> None:
    """Fail with all violations, and the steps that led to them."""
    found = list(violations)
    assert not found, "\n".join(chain(found, ("", *story)))
