"""Outcomes per second, from bytes to acknowledgement and from the journal into SQL."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import create_engine
from tests.bench.ledger import Ledger
from tests.bench.measure import measured, seconds, spread
from tests.support.decision_streams import Stream, make_sink, payloads
from tests.support.outcomes import make_decision
from tests.support.population import AS_OF, MODEL, snapshot

from assay.decision_log.record import to_micros
from assay.journal.sink import JournalRecord, RecordKind
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
SHIPPED, ROUNDS = 5, 6  # batches at once
HOUR_US = 3_600_000_000
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


def reported(draw: random.Random, now_us: int) -> list[tuple[str, OutcomeGroup]]:
    """Return an outcome per decision, over endpoints, tenants, strata and two hours."""
    found = []
    for _ in range(SHIPPED * OUTCOMES_A_BATCH):
        endpoint_id, tenant = draw.choice(ENDPOINTS), f"{draw.randrange(40):032x}"
        outcome = Outcome(
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
        provider = endpoint_id.rpartition("@")[2]
        found.append((outcome.decision_id, OutcomeGroup(tenant, endpoint_id, provider, [outcome])))
    return found


def batches_of(
    groups: Sequence[OutcomeGroup], numbers: Iterator[int], now_us: int
) -> list[JournalRecord]:
    records = []
    for first in range(0, len(groups), OUTCOMES_A_BATCH):
        part = groups[first : first + OUTCOMES_A_BATCH]
        batch = OutcomeBatch("gateway-1", f"b-{next(numbers)}", now_us, part)
        records.append(JournalRecord(0, RecordKind.OUTCOMES, encode_outcomes(batch), None))
    return records


@pytest.mark.parametrize("kind", ["of decisions", "alone"])
def test_outcomes_shipped_per_second(
    kind: str, new_database: NewDatabase, backend: str, ledger: Ledger
) -> None:
    named = kind == "of decisions"
    draw, numbers, now_us = random.Random(1), count(), to_micros(AS_OF)
    in_process = backend == "sqlite"
    clock = time.process_time if in_process else time.perf_counter
    with new_database() as url:
        database, stream = open_database(url), Stream()
        sink, taken = make_sink(database), []
        for _ in range(ROUNDS):
            made = reported(draw, now_us)
            if named:
                decisions = [
                    make_decision(group.endpoint_id, decision_id=name, decided_us=now_us - HOUR_US)
                    for name, group in made
                ]
                stream.into(sink, stream.records(payloads(decisions)))
            groups = [
                group if named else group._replace(outcomes=[alone(group.outcomes[0])])
                for _, group in made
            ]
            records = batches_of(groups, numbers, now_us)
            stream.offset += 1
            taken.append(seconds(partial(stream.into, sink, records), 1, clock))
        database.dispose()
    found = spread(taken)
    rate = int(SHIPPED * OUTCOMES_A_BATCH / found.median)
    unit = "CPU" if in_process else "wall"
    ledger.took(f"{backend}, outcomes {kind} shipped: {rate:,} a second ({unit})", found)


def alone(outcome: Outcome) -> Outcome:
    return replace(outcome, decision_id="", attempt=0)
