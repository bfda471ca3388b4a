"""Load on a server that is killed or cut off, and what its log must contain afterwards."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from sqlalchemy import Engine
from tests.support.catalogs import SMALL_CATALOG
from tests.support.commands import assay
from tests.support.processes import AssayProcess, serving_journal
from tests.support.waiting import DEADLINE_SECONDS, eventually

from assay.decision_log.auditor import Auditor
from assay.decision_log.record import decode_record
from assay.decision_log.streams import records, streams
from assay.decision_log.verify import StreamReport
from assay.decision_log.writer import DecisionLogWriter
from assay.journal.layout import streams as journal_streams
from assay.journal.shipment import GracePeriod
from assay.journal.shipper import ShippingPace
from assay.journal.sink import RecordKind
from assay.rule_files.compile import compile_source
from assay.server.settings import engine_version
from assay.store.database import open_database
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

CLIENTS = 4
BATCH = 20
MODELS = (
    "lab/draw",
    "lab/mixed",
    "lab/mixed:nitro",
    "lab/sizes:floor",
    "lab/pair:exacto",
    "lab/twice",
)
TENANTS = ("", "acme", "beta", "gamma")
SETTLED_SECONDS = 60.0
NO_GRACE = ShippingPace(grace=GracePeriod(seconds=0.0))


def import_small_catalog(url: str, folder: Path) -> None:
    """Import the small catalog."""
    catalog = folder / "catalog.csv"
    catalog.write_text(SMALL_CATALOG)
    assert assay("import", "catalog", catalog, "--database", url).code == 0


@dataclass
class Answers:
    """Decision ids and errors that clients got, in any number of threads."""

    ids: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, count: int) -> None:
        """Wait until this many decisions have been answered."""
        eventually(lambda: len(self.ids) >= count, pause_seconds=0.002)


def draw_request(draw: random.Random) -> pb.DecideRequest:
    return pb.DecideRequest(
        model=draw.choice(MODELS),
        tenant=draw.choice(TENANTS),
        tools=draw.randrange(3),
        request_id=f"r-{draw.randrange(10**9)}",
        session_id=draw.choice(("", "s-1", "s-2")),
    )


def ask_until_ended(address: str, answered: Answers, seed: int) -> None:
    """Decide repeatedly, mostly in batches, until stopped or disconnected."""
    draw = random.Random(seed)
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.RoutingServiceStub(channel)
        while not answered.ended.is_set():
            try:
                if draw.random() < 0.3:
                    answered.ids.append(
                        stub.Decide(draw_request(draw), timeout=DEADLINE_SECONDS).decision_id
                    )
                else:
                    batch = pb.BatchDecideRequest(
                        requests=[draw_request(draw) for _ in range(BATCH)]
                    )
                    for result in stub.BatchDecide(batch, timeout=DEADLINE_SECONDS).results:
                        note_result(answered, result)
            except grpc.RpcError as error:
                answered.failures.append(f"{error.code().name}: {error.details()}")
                return


def note_result(answered: Answers, result: pb.BatchDecideResult) -> None:
    if result.HasField("status"):
        answered.failures.append(f"{result.status.reason}: {result.status.message}")
    else:
        answered.ids.append(result.response.decision_id)


@contextmanager
def load(server: AssayProcess, answered: Answers, seed: int) -> Iterator[None]:
    """Run clients until the end of the context."""
    answered.ended.clear()
    clients = [
        threading.Thread(
            target=ask_until_ended, args=(server.address, answered, seed * 100 + number)
        )
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        answered.ended.set()
        for client in clients:
            client.join(DEADLINE_SECONDS)
        assert not any(client.is_alive() for client in clients)


def kill_under_load(url: str, folder: Path, *, kills: int, answers: int, seed: int) -> Answers:
    """Kill the server at random instants under load, and start it again each time."""
    draw = random.Random(seed)
    answered, journal = Answers(), folder / "journal"
    import_small_catalog(url, folder)
    for life in range(1, kills + 2):
        goal = answers * life // (kills + 1)
        with serving_journal(url, journal) as server:
            with load(server, answered, seed * 1000 + life):
                if life <= kills:
                    goal -= draw.randrange(answers // (kills + 1) // 2)
                answered.wait_for(goal)
                if life <= kills:
                    time.sleep(
                        draw.random() * 0.02
                    )  # the instant of the kill, not a wait for anything
                    server.kill()
            if life <= kills:
                assert {line.split(":")[0] for line in answered.failures} <= {"UNAVAILABLE"}
                answered.failures.clear()
            else:
                assert server.stop() == 0
    assert answered.failures == []
    return answered


@dataclass(frozen=True)
class LogContents:
    """The contents of the log in the end."""

    ids: list[str]
    reports: list[StreamReport]


def ship_and_read_log(url: str, journal: Path) -> LogContents:
    """Ship the rest, as the next process would, and read the whole log."""
    database = open_database(url)
    logbook = DecisionLogWriter(journal, database, pace=NO_GRACE)
    assert logbook.drain(SETTLED_SECONDS), logbook.shipper.trouble
    logbook.close()
    assert journal_streams(journal) == []
    found = read_log(database, logbook)
    database.dispose()
    return found


def read_log(database: Engine, logbook: DecisionLogWriter) -> LogContents:
    ids: list[str] = []
    for state in streams(database):
        numbers = []
        for record in records(database, state.stream):
            assert record.kind == RecordKind.DECISION
            assert record.decision is not None
            assert decode_record(record.payload).decision_id == record.decision.decision_id
            numbers.append(record.seq)
            ids.append(record.decision.decision_id)
        assert numbers == list(range(1, len(numbers) + 1)), state.stream
    auditor = Auditor(database, engine_version(), compile_source)
    return LogContents(ids, list(auditor.verify(logbook.public_keys, logbook.heads())))


def assert_complete(found: LogContents, answered: Answers) -> None:
    """Compare the log with the answers: nothing missing, nothing doubled, the chain intact."""
    times = Counter(found.ids)
    assert [each for each, count in times.items() if count > 1] == []
    assert len(set(answered.ids)) == len(answered.ids)
    missing = [each for each in answered.ids if each not in times]
    assert missing == [], (
        f"{len(missing)} of {len(answered.ids)} answered decisions are not in the log"
    )
    assert [report for report in found.reports if report.fault] == []
    assert sum(report.checked for report in found.reports) == len(found.ids)
