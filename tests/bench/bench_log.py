"""The cost of the decision log: deciding with and without a journal, and replaying."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bench.ledger import Ledger, Line, shown
from tests.bench.measure import measured, seconds, spread
from tests.support.population import AS_OF, MODEL, snapshot

from assay.decision_log.record import Append
from assay.decision_log.replay import Replayer
from assay.engine.world.request import Request
from assay.journal.sink import RecordKind
from assay.journal.writer import Journal
from assay.server.decider import Decider

EXACTO = Request(
    f"{MODEL}:exacto",
    tools=2,
    parameters=("tools", "tool_choice"),
    tenant="tenant-1",
    session_id="s",
)
PLAIN = Request(MODEL, tenant="tenant-1", request_id="r-1")
ROUNDS, CALLS = 41, 200
AT_MOST = 10e-6
REPLAYED, PER_SECOND = 2000, 2000


class MemoryJournal:
    """A journal in memory that holds the records of decisions."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    def append(self, kind: int, payload: bytes) -> None:
        if kind == RecordKind.DECISION:
            self.records.append(payload)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal") as opened:
        yield opened


def decider(append: Append | None) -> Decider:
    return Decider(lambda: AS_OF, snapshot(), append=append, engine_version="0.1.0")


@pytest.mark.parametrize(
    ("name", "request_"),
    [pytest.param("plain", PLAIN, id="plain"), pytest.param(":exacto", EXACTO, id="exacto")],
)
def test_the_log_adds_at_most_10_microseconds_to_a_decision(
    name: str, request_: Request, journal: Journal, ledger: Ledger
) -> None:
    with_journal, without = decider(journal.append), decider(None)

    def log() -> object:
        return with_journal.decide(request_)

    def plain() -> object:
        return without.decide(request_)

    log(), plain()
    added = []
    for number in range(ROUNDS):
        if number % 2:
            logged, bare = seconds(log, CALLS), seconds(plain, CALLS)
        else:
            bare, logged = seconds(plain, CALLS), seconds(log, CALLS)
        added.append(logged - bare)
    found = spread(added)
    quartiles = f"{shown(max(found.low, 1e-9))} – {shown(found.high)}"
    cells = (
        f"log in all, added to a decision, {name} (CPU)",
        shown(found.median),
        "",
        shown(found.median),
    )
    ledger.add(Line((*cells, quartiles, f"≤ {shown(AT_MOST)}"), found.median <= AT_MOST))


def test_appending_a_record_takes_at_most_10_microseconds(journal: Journal, ledger: Ledger) -> None:
    memory = MemoryJournal()
    decider(memory.append).decide(EXACTO)
    found = measured(
        lambda: journal.append(RecordKind.DECISION, memory.records[0]), calls=500, rounds=41
    )
    ledger.took("journal, a record appended (CPU)", found, below=AT_MOST)


def test_replay_of_decisions_per_second(ledger: Ledger) -> None:
    memory = MemoryJournal()
    recording = decider(memory.append)
    for number in range(REPLAYED // 2):
        recording.decide(Request(MODEL, tenant="tenant-1", request_id=f"r-{number}"))
        recording.decide(Request(f"{MODEL}:exacto", tools=2, session_id=f"s-{number}"))
    replay = Replayer(lambda _name: snapshot(), recording.pseudonyms.names(), "0.1.0")

    def replay_all() -> None:
        for record in memory.records:
            assert replay("", record).outcome == "identical"

    found = measured(replay_all, rounds=5, clock=time.perf_counter)
    ledger.counted(
        "replayed decisions a second (wall)", int(REPLAYED / found.median), at_least=PER_SECOND
    )
