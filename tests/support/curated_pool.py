"""A pool whose endpoints change hour by hour, and a curator to work on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Engine, Table, event, insert, select

from assay.curator.curator import Curator, JudgedSnapshot, end_of_hour
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.world.measurements import Observation
from assay.importers.documents import ObservationDocument, ObservedRow
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory
from assay.server.settings import policy_dir
from assay.store.database import reading, writing
from assay.store.imports.observations import apply_observations
from assay.store.lease import Lease, read_lease, take_lease
from assay.store.pool_tables import curator_tick, pool_change, pool_state
from assay.store.tables import part, policy_revision, publication, snapshot, snapshot_part

MODEL = "lab/pooled"
HOUR = timedelta(hours=1)
START = datetime(2026, 7, 4, tzinfo=UTC)
FIRST = (START - datetime(1970, 1, 1, tzinfo=UTC)) // HOUR
LATER = timedelta(minutes=5)
CALLS = 300
KEPT = (
    policy_revision,
    snapshot,
    part,
    snapshot_part,
    publication,
    pool_state,
    pool_change,
    curator_tick,
)

# Tag → the share of its calls that errs in an hour; `None` where it was not watched then.
ENDPOINTS: dict[str, Callable[[int], float | None]] = {
    "steady": lambda _: 0.005,
    "late": lambda hour: 0.01 if hour >= 5 else None,
    "sinking": lambda hour: 0.01 if hour < 8 else 0.25,
    "bad": lambda _: 0.12,
    "wavering": lambda hour: 0.08 if 10 <= hour < 14 else 0.01,
}


def observations_by_hour(start: datetime, hours: int) -> ObservationDocument:
    """Return a probe's observations of each hour."""
    rows = []
    for hour in range(hours):
        at = start + hour * HOUR
        for tag, errs in ENDPOINTS.items():
            share = errs(hour)
            if share is not None:
                counts = (2 * CALLS, CALLS, round(share * CALLS))
                seen = Observation(f"{MODEL}@{tag}", "probe", at, at + HOUR, *counts)
                rows.append(ObservedRow(f"{tag} {hour}", MODEL, tag, tag, seen))
    return ObservationDocument(digest=f"{start} {hours}", rows=tuple(rows))


def import_observations(database: Engine, start: datetime = START, hours: int = 24) -> None:
    """Import the observations of a number of hours."""
    report = apply_observations(
        database, observations_by_hour(start, hours), create_endpoints=True, now=start
    )
    assert not report.rejected


@cache
def shipped_policy() -> Policy:
    return compile_source(read_directory(policy_dir()))


def edited_policy(words: str) -> Policy:
    """Return the shipped policy with a remark, and so with another digest."""
    files = dict(shipped_policy().source.files)
    files["default.yaml"] += f"# {words}\n"
    source = PolicySource(files)
    return replace(shipped_policy(), source=source, digest=source.digest)


@dataclass
class FixedRules:
    """A policy that is used in place of rule files."""

    policy: Policy = field(default_factory=shipped_policy)
    trouble: Exception | None = None

    def refresh(self) -> Policy:
        if self.trouble is not None:
            raise self.trouble
        return self.policy


@dataclass
class CuratorBench:
    """A curator that holds the lease, at a fixed time."""

    database: Engine
    now: datetime = START + LATER
    rules: FixedRules = field(default_factory=FixedRules)
    heard: list[JudgedSnapshot] = field(default_factory=list)
    steady: Callable[[], float] = lambda: 0.0

    def __post_init__(self) -> None:
        self.curator = Curator(
            self.database, self.rules, lambda: self.now, self.heard.append, steady=self.steady
        )
        self.lease = take_any_lease(self.database, "bench")

    def work(self) -> None:
        self.curator.curate(self.lease, lambda: True)

    def work_until(self, hour: int) -> None:
        """Work at a time shortly after the end of an hour."""
        self.now = START + hour * HOUR + LATER
        self.work()


def take_any_lease(database: Engine, holder: str) -> Lease:
    """Take the lease, whichever process holds it."""
    lease = take_lease(database, holder, START + timedelta(days=10_000), seen=read_lease(database))
    assert lease is not None
    return lease


def close_hour(database: Engine, hour: int) -> None:
    """Record that an hour was closed, and none since."""
    row = {"hour": hour, "ticked_at": end_of_hour(hour), "token": 0, "publication": 0, "changes": 0}
    with writing(database) as connection:
        connection.execute(insert(curator_tick), row)


def read_rows(database: Engine, table: Table, *without: str) -> list[tuple[object, ...]]:
    """Return a table's rows in order, without some columns."""
    columns = [column for column in table.columns if column.name not in without]
    with reading(database) as connection:
        return [
            tuple(row)
            for row in connection.execute(select(*columns).order_by(*table.primary_key.columns))
        ]


def read_state(database: Engine) -> dict[str, list[tuple[object, ...]]]:
    """Return all that a tick may write, except the lease."""
    return {table.name: read_rows(database, table) for table in KEPT}


def pool_changes(database: Engine) -> list[tuple[str, str, str, str]]:
    """Return all changes of pools, in order: tag, before, after, cause."""
    with reading(database) as connection:
        found = connection.execute(select(pool_change).order_by(pool_change.c.change_id)).all()
    return [(row.endpoint_id.partition("@")[2], row.before, row.after, row.cause) for row in found]


class Injected(Exception):
    """A deliberate fault."""


def failing_at(database: Engine, number: int) -> Callable[[], int]:
    """Make the n-th statement or commit fail.

    The returned function ends that, and returns the number of statements and commits.
    """
    count = 0

    def fail(*_: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise Injected

    event.listen(database, "before_cursor_execute", fail)
    event.listen(database, "commit", fail)

    def end() -> int:
        event.remove(database, "before_cursor_execute", fail)
        event.remove(database, "commit", fail)
        return count

    return end


def record_writes(database: Engine, table: Table) -> list[str]:
    """Return a list that will contain a statement for each row written to a table."""
    found: list[str] = []

    def note(*said: Any) -> None:
        _, _, statement, parameters, _, many = said
        if statement.split()[:3] in (
            ["INSERT", "INTO", table.name],
            ["DELETE", "FROM", table.name],
        ):
            found.extend([statement] * (len(parameters) if many else 1))

    event.listen(database, "before_cursor_execute", note)
    return found


def numbers() -> Iterator[int]:
    """Yield 1, 2, 3 and so on."""
    number = 0
    while True:
        yield (number := number + 1)
