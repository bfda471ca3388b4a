"""Outcomes per second, from bytes to acknowledgement and from the journal into SQL."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from tests.bench.ledger import Ledger
from tests.bench.measure import measured
from tests.support.population import AS_OF, MODEL, snapshot

from assay.decision_log.record import to_micros
from assay.decision_log.sink import LogSink
from assay.journal.chain import Head
from assay.journal.sink import JournalRecord, RecordKind, StreamPosition
from assay.journal.uuid7 import uuid7
from assay.journal.writer import Journal
from assay.outcomes.endpoint_health import EndpointHealth
from assay.outcomes.intake import OutcomeIntake
from assay.outcomes.outcome import (
    ANSWERED,
    Outcome,
    OutcomeBatch,
    OutcomeGroup,
    ToolUse,
    encode_outcomes,
)
from assay.rpc.evidence import EvidenceServicer
from assay.server.decider import Decider
from assay.store.database import open_database
from assay.store.preferences import PreferenceStore
from assay.v1 import evidence_pb2 as pb

NewDatabase = Callable[[], AbstractContextManager[str]]

OUTCOMES_A_BATCH = 1000
PER_SECOND = 100_000
SHIPPED = 20  # batches at once
ENDPOINTS = [f"{MODEL}@provider-{number:02}" for number in range(20)]


def request(draw: random.Random, *, errors: float) -> bytes:
    """Return a forwarder's batch: one outcome per attempt, two in three with tools."""
    message = pb.ReportOutcomesRequest(source="gateway-1", batch_id=f"{draw.getrandbits(128):032x}")
    now = time.time_ns()
    for _ in range(OUTCOMES_A_BATCH):
        at = now - draw.randrange(10**9)
        outcome = message.outcomes.add(
            endpoint_id=draw.choice(ENDPOINTS),
            tenant=f"tenant-{draw.randrange(40)}",
            result=pb.RESULT_ANSWERED,
            decision_id=uuid7(at // 10**6),
            attempt=1,
            first_token_s=draw.random(),
            duration_s=1 + draw.random(),
            completion_tokens=draw.randrange(1, 2000),
        )
        outcome.at.FromNanoseconds(at)
        if draw.random() < 2 / 3:
            bad = int(draw.random() < errors)
            outcome.tools.CopyFrom(
                pb.ToolUse(
                    offered=draw.randrange(1, 20),
                    tool_choice="auto",
                    after_tool_result=draw.random() < 0.5,
                    tool_call_requests=1,
                    errored_requests=bad,
                    tool_calls=2,
                    schema_mismatch=bad,
                )
            )
        elif draw.random() < errors:
            outcome.result = pb.RESULT_TIMEOUT
    return message.SerializeToString()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal") as opened:
        yield opened


@pytest.mark.parametrize(
    ("name", "errors"),
    [pytest.param("3 % errors", 0.03, id="usual"), pytest.param("half errors", 0.5, id="bad")],
)
def test_outcomes_reported_per_second(
    name: str, errors: float, journal: Journal, ledger: Ledger
) -> None:
    health = EndpointHealth()
    decider = Decider(lambda: AS_OF, snapshot(), health.now, journal.append)
    preferences = PreferenceStore(create_engine("sqlite://"), lambda: AS_OF)
    servicer = EvidenceServicer(
        OutcomeIntake(decider.current, decider.pseudonyms.get, journal.append, health.update),
        preferences,
    )
    context: Any = None
    data = request(random.Random(1), errors=errors)

    def report() -> None:
        answer = servicer.ReportOutcomes(pb.ReportOutcomesRequest.FromString(data), context)
        assert answer.SerializeToString() == b"\x08\xe8\x07"  # a thousand accepted

    found = measured(report, calls=10, rounds=15)
    label = f"outcomes a second, bytes to acknowledgement, {name} (CPU)"
    ledger.counted(label, int(OUTCOMES_A_BATCH / found.median), at_least=PER_SECOND)


def shipped(draw: random.Random, numbers: Iterator[int], now_us: int) -> list[JournalRecord]:
    """Return records of outcomes over endpoints, tenants, strata and two hours."""
    records = []
    for number in range(SHIPPED):
        groups = []
        for endpoint_id in ENDPOINTS:
            for tenant in draw.sample(range(40), 10):
                outcomes = [
                    Outcome(
                        now_us - draw.randrange(3_600_000_000),
                        ANSWERED,
                        uuid7(now_us // 1000),
                        1,
                        1,
                        draw.random(),
                        1 + draw.random(),
                        draw.randrange(2000),
                        None,
                        ToolUse(draw.randrange(1, 20), "auto", draw.random() < 0.5, 1, 0, 1),
                    )
                    for _ in range(OUTCOMES_A_BATCH // 200)
                ]
                groups.append(
                    OutcomeGroup(
                        f"{tenant:032x}", endpoint_id, endpoint_id.rpartition("@")[2], outcomes
                    )
                )
        batch = OutcomeBatch("gateway-1", f"b-{next(numbers)}", now_us, groups)
        records.append(JournalRecord(0, RecordKind.OUTCOMES, encode_outcomes(batch), None))
        assert number < SHIPPED
    return records


def test_outcomes_shipped_per_second(
    new_database: NewDatabase, backend: str, ledger: Ledger
) -> None:
    draw, numbers, offsets = random.Random(1), count(), count(1)
    with new_database() as url:
        database = open_database(url)
        sink = LogSink(database)
        queue = [shipped(draw, numbers, to_micros(AS_OF)) for _ in range(6)]

        def store() -> None:
            sink.store(
                "s" * 32,
                queue.pop(),
                StreamPosition(1, next(offsets), 0, b"l"),
                Head("bench", 0, b"l", b"s" * 64, "k" * 16),
            )

        in_process = backend == "sqlite"
        found = measured(
            store, rounds=5, clock=time.process_time if in_process else time.perf_counter
        )
        database.dispose()
    clock = "CPU" if in_process else "wall"
    rate = int(SHIPPED * OUTCOMES_A_BATCH / found.median)
    ledger.took(
        f"{backend}, {SHIPPED} batches shipped at once: {rate:,} outcomes a second ({clock})", found
    )
