"""EvidenceService over a socket: outcomes are journaled before they are acknowledged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Event
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import create_engine
from tests.support.population import MODEL, snapshot

from assay.journal.errors import JournalFull
from assay.journal.sink import RecordKind
from assay.journal.uuid7 import uuid7
from assay.outcomes.endpoint_health import EndpointHealth
from assay.outcomes.intake import OutcomeIntake
from assay.outcomes.outcome import OutcomeBatch, decode_outcomes
from assay.rpc.evidence import EvidenceServicer, evidence_service
from assay.rpc.routing import routing_service
from assay.rpc.server import THREADS, GrpcServer
from assay.rpc.status import MAX_STREAMS, REASON_KEY
from assay.server.decider import Decider
from assay.store.preferences import PreferenceStore
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc as pb_grpc, routing_pb2, routing_pb2_grpc

ENDPOINT = f"{MODEL}@provider-03"
CANARY = "text of a prompt"


class MemoryJournal:
    """A journal in memory that a test can fill up or block."""

    def __init__(self, tmp_path: Any) -> None:
        self.records: list[tuple[int, bytes]] = []
        self.full = False
        self.entered, self.free = Event(), Event()
        self.free.set()
        self.directory = tmp_path

    def append(self, kind: int, payload: bytes) -> None:
        self.entered.set()
        self.free.wait(10)
        if self.full:
            raise JournalFull(self.directory)
        self.records.append((kind, payload))

    @property
    def batches(self) -> list[OutcomeBatch]:
        return [
            decode_outcomes(payload)
            for kind, payload in self.records
            if kind == RecordKind.OUTCOMES
        ]


@pytest.fixture
def journal(tmp_path: Any) -> Iterator[MemoryJournal]:
    journal = MemoryJournal(tmp_path)
    yield journal
    journal.free.set()


@pytest.fixture
def health() -> EndpointHealth:
    return EndpointHealth()


@pytest.fixture
def server(journal: MemoryJournal, health: EndpointHealth) -> Iterator[GrpcServer]:
    decider = Decider(clock, snapshot(), health.now, journal.append)
    preferences = PreferenceStore(create_engine("sqlite://"), clock)  # these tests use none
    evidence = evidence_service(
        EvidenceServicer(
            OutcomeIntake(decider.current, decider.pseudonyms.get, journal.append, health.update),
            preferences,
        )
    )
    server = GrpcServer(
        (routing_service(decider.decide, decider.explain), evidence), ["127.0.0.1:0"]
    )
    yield server
    journal.free.set()
    server.stop(grace=1)


@pytest.fixture
def channel(server: GrpcServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.addresses[0]) as channel:
        yield channel


@pytest.fixture
def evidence(channel: grpc.Channel) -> pb_grpc.EvidenceServiceStub:
    return pb_grpc.EvidenceServiceStub(channel)


def clock() -> datetime:
    return datetime.now(UTC)


def now() -> Timestamp:
    at = Timestamp()
    at.GetCurrentTime()
    return at


def outcome(**fields: Any) -> pb.Outcome:
    given = {"endpoint_id": ENDPOINT, "at": now(), "result": pb.RESULT_ANSWERED, **fields}
    return pb.Outcome(**given)


def batch(
    *outcomes: pb.Outcome, batch_id: str = "b-1", source: str = "gw"
) -> pb.ReportOutcomesRequest:
    return pb.ReportOutcomesRequest(source=source, batch_id=batch_id, outcomes=outcomes)


def streamed(*outcomes: pb.Outcome, batch_id: str, source: str = "gw") -> pb.StreamOutcomesRequest:
    return pb.StreamOutcomesRequest(source=source, batch_id=batch_id, outcomes=outcomes)


def error_of(call: Any) -> tuple[str, str]:
    return call.code().name, dict(call.trailing_metadata()).get(REASON_KEY, "")


def test_outcomes_are_journaled_with_all_their_fields(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal
) -> None:
    full = outcome(
        tenant="acme", decision_id="0198f2a4-5b6c-7d8e-9f01-23456789abcd", attempt=2,
        first_token_s=0.25, duration_s=2.5, completion_tokens=0, retry_after_s=0.0,
        tools=pb.ToolUse(
            offered=9, tool_choice="required", after_tool_result=True, tool_call_requests=1,
            errored_requests=1, tool_calls=6, invalid_json=1, unknown_name=2, schema_mismatch=3,
        ),
    )  # fmt: skip
    bare = outcome(result=pb.RESULT_CALLER_ERROR, requests=3, unsupported="tool_choice.required")
    answer = evidence.ReportOutcomes(batch(full, bare))
    assert (answer.accepted, list(answer.refused)) == (2, [])
    (journaled,) = journal.batches
    assert (journaled.source, journaled.batch_id) == ("gw", "b-1")
    one, other = journaled.groups
    assert (one.endpoint_id, one.provider, other.tenant) == (ENDPOINT, "provider-03", "")
    (first,), (second,) = one.outcomes, other.outcomes
    at = full.at.seconds * 1_000_000 + full.at.nanos // 1000
    assert (first.at_us, first.result, first.decision_id, first.attempt, first.requests) == (
        at, "answered", full.decision_id, 2, 1,
    )  # fmt: skip
    assert (
        first.first_token_s,
        first.duration_s,
        first.completion_tokens,
        first.retry_after_s,
    ) == (0.25, 2.5, 0, 0.0)
    assert first.tools is not None
    assert [getattr(first.tools, name) for name in first.tools.__struct_fields__] == [
        9, "required", True, 1, 1, 6, 1, 2, 3,
    ]  # fmt: skip
    assert (second.result, second.requests, second.decision_id, second.attempt) == (
        "caller_error", 3, "", 0,
    )  # fmt: skip
    assert (first.unsupported, second.unsupported) == ("", "tool_choice.required")
    assert (
        second.first_token_s,
        second.duration_s,
        second.completion_tokens,
        second.retry_after_s,
    ) == (None,) * 4
    assert second.tools is None


def test_every_result_of_the_contract_has_a_name(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal
) -> None:
    numbers = [number for number in pb.Result.values() if number]
    evidence.ReportOutcomes(batch(*(outcome(result=number) for number in numbers)))
    ((group,),) = [batch.groups for batch in journal.batches]
    names = [each.result for each in group.outcomes]
    assert [pb.Result.Value(f"RESULT_{name.upper()}") for name in names] == numbers


def test_invalid_outcomes_are_rejected_one_by_one(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal
) -> None:
    sent = [
        outcome(), outcome(endpoint_id="lab/none@x"), outcome(result=77),
        outcome(at=Timestamp(seconds=4_070_908_800)), outcome(at=Timestamp(seconds=2**62)),
        pb.Outcome(), outcome(duration_s=float("nan")), outcome(requests=0),
        outcome(requests=-(2**63)), outcome(),
    ]  # fmt: skip
    answer = evidence.ReportOutcomes(batch(*sent))
    assert answer.accepted == 2
    assert [(each.index, each.reason) for each in answer.refused] == [
        (1, "unknown-endpoint"), (2, "unknown-result"), (3, "future"), (4, "future"),
        (5, "unknown-endpoint"), (6, "not-a-number"), (7, "no-requests"), (8, "negative"),
    ]  # fmt: skip
    assert "2099" in answer.refused[2].message
    assert [len(group.outcomes) for batch in journal.batches for group in batch.groups] == [2]


def test_a_batch_without_a_valid_outcome_is_not_journaled(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal
) -> None:
    invalid = outcome(endpoint_id="lab/none@x", tenant="acme")
    assert evidence.ReportOutcomes(batch(invalid)).accepted == 0
    assert evidence.ReportOutcomes(batch()).accepted == 0
    assert journal.records == []


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(batch(source=""), id="no source"),
        pytest.param(batch(batch_id="two words"), id="a space in the batch id"),
        pytest.param(batch(*[outcome()] * 1001), id="1001 outcomes"),
    ],
)
def test_an_invalid_batch_is_rejected(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal, sent: pb.ReportOutcomesRequest
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        evidence.ReportOutcomes(sent)
    assert error_of(failed.value) == ("INVALID_ARGUMENT", "invalid-field")
    assert journal.records == []


def test_a_batch_may_have_a_thousand_outcomes(evidence: pb_grpc.EvidenceServiceStub) -> None:
    assert evidence.ReportOutcomes(batch(*[outcome()] * 1000)).accepted == 1000


def test_outcomes_are_acknowledged_only_after_they_are_journaled(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal
) -> None:
    journal.free.clear()
    call = evidence.ReportOutcomes.future(batch(outcome()))
    assert journal.entered.wait(10)
    assert (call.done(), journal.records) == (False, [])
    journal.free.set()
    assert call.result(10).accepted == 1
    assert len(journal.batches) == 1


def test_a_full_journal_rejects_the_batch_and_demotes_no_endpoint(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal, health: EndpointHealth
) -> None:
    journal.full = True
    failing = [outcome(result=pb.RESULT_TIMEOUT) for _ in range(3)]
    with pytest.raises(grpc.RpcError) as failed:
        evidence.ReportOutcomes(batch(*failing))
    assert error_of(failed.value) == ("RESOURCE_EXHAUSTED", "evidence-not-kept")
    assert health.now() == {}
    journal.full = False
    assert evidence.ReportOutcomes(batch(*failing)).accepted == 3
    assert health.now() == {ENDPOINT: "failing"}


def test_tenants_have_the_same_pseudonyms_as_in_decisions(
    evidence: pb_grpc.EvidenceServiceStub, channel: grpc.Channel, journal: MemoryJournal
) -> None:
    routing_pb2_grpc.RoutingServiceStub(channel).Decide(
        routing_pb2.DecideRequest(model=MODEL, tenant="acme")
    )
    evidence.ReportOutcomes(
        batch(outcome(tenant="acme"), outcome(tenant="beta"), outcome(tenant="acme"))
    )
    kinds = [kind for kind, _ in journal.records]
    assert kinds.count(RecordKind.TENANT) == 2
    (payload,) = [payload for kind, payload in journal.records if kind == RecordKind.OUTCOMES]
    assert b"acme" not in payload.replace(MODEL.encode(), b"")
    assert b"beta" not in payload
    names = [group.tenant for group in decode_outcomes(payload).groups]
    assert len(set(names)) == 2
    assert names[0].encode() in next(
        payload for kind, payload in journal.records if kind == RecordKind.TENANT
    )


def test_unknown_fields_are_not_journaled(channel: grpc.Channel, journal: MemoryJournal) -> None:
    text = CANARY.encode()
    unknown = bytes([0xFA, 0x07, len(text)]) + text  # field 127, length-delimited
    inner = outcome(tools=pb.ToolUse(offered=1)).SerializeToString()
    tools = pb.ToolUse(offered=1).SerializeToString()
    inner = inner.replace(
        b"\x62" + bytes([len(tools)]) + tools,
        b"\x62" + bytes([len(tools + unknown)]) + tools + unknown,
    )
    inner += unknown
    data = b"\x0a\x02gw\x12\x01b\x1a" + bytes([len(inner)]) + inner + unknown
    sent = pb.ReportOutcomesRequest.FromString(data)
    assert sent.SerializeToString().count(text) == 3
    raw: Any = channel.unary_unary("/assay.v1.EvidenceService/ReportOutcomes")
    assert pb.ReportOutcomesResponse.FromString(raw(data)).accepted == 1
    assert journal.batches[0].groups[0].outcomes[0].tools is not None
    assert all(text not in payload for _, payload in journal.records)


def test_malformed_bytes_are_an_invalid_argument(channel: grpc.Channel) -> None:
    raw: Any = channel.stream_stream("/assay.v1.EvidenceService/StreamOutcomes")
    with pytest.raises(grpc.RpcError) as failed:
        list(raw(iter([b"\x0a\xff\xff"])))
    assert error_of(failed.value) == ("INVALID_ARGUMENT", "malformed-message")


class OutcomeStream:
    """A client's stream that sends one batch and waits for its answer."""

    def __init__(self, evidence: pb_grpc.EvidenceServiceStub) -> None:
        self.queue: SimpleQueue[pb.StreamOutcomesRequest | None] = SimpleQueue()
        self.call: Any = evidence.StreamOutcomes(iter(self.queue.get, None))

    def send(self, request: pb.StreamOutcomesRequest) -> pb.StreamOutcomesResponse:
        self.queue.put(request)
        return self.answer()

    def answer(self) -> pb.StreamOutcomesResponse:
        answered: pb.StreamOutcomesResponse = next(self.call)
        return answered

    def end(self) -> None:
        self.queue.put(None)


def test_a_stream_is_answered_batch_by_batch(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal
) -> None:
    stream = OutcomeStream(evidence)
    for number in range(3):
        answer = stream.send(
            streamed(outcome(), outcome(endpoint_id="lab/none@x"), batch_id=f"b-{number}")
        )
        assert (answer.batch_id, answer.accepted) == (f"b-{number}", 1)
        assert [each.reason for each in answer.refused] == ["unknown-endpoint"]
        assert [each.batch_id for each in journal.batches] == [f"b-{n}" for n in range(number + 1)]
    stream.end()
    assert list(stream.call) == []
    assert stream.call.code() is grpc.StatusCode.OK


def test_a_rejected_batch_ends_the_stream_and_keeps_earlier_batches(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal
) -> None:
    stream = OutcomeStream(evidence)
    assert stream.send(streamed(outcome(), batch_id="b-1")).accepted == 1
    journal.full = True
    with pytest.raises(grpc.RpcError) as failed:
        stream.send(streamed(outcome(), batch_id="b-2"))
    assert error_of(failed.value) == ("RESOURCE_EXHAUSTED", "evidence-not-kept")
    assert [each.batch_id for each in journal.batches] == ["b-1"]
    stream.end()


def test_open_streams_do_not_occupy_the_threads_of_unary_calls(
    evidence: pb_grpc.EvidenceServiceStub, channel: grpc.Channel
) -> None:
    streams = [OutcomeStream(evidence) for _ in range(2 * THREADS)]
    for number, stream in enumerate(streams):
        assert stream.send(streamed(outcome(), batch_id=f"b-{number}")).accepted == 1
    stub = routing_pb2_grpc.RoutingServiceStub(channel)
    assert stub.Decide(routing_pb2.DecideRequest(model=MODEL), timeout=10).attempts
    for stream in streams:
        stream.end()


def test_streams_are_limited_and_an_ended_stream_makes_room(
    evidence: pb_grpc.EvidenceServiceStub,
) -> None:
    streams = [OutcomeStream(evidence) for _ in range(MAX_STREAMS)]
    for number, stream in enumerate(streams):
        stream.send(streamed(batch_id=f"b-{number}"))
    extra = OutcomeStream(evidence)
    with pytest.raises(grpc.RpcError) as failed:
        extra.answer()
    assert error_of(failed.value) == ("RESOURCE_EXHAUSTED", "too-many-streams")
    streams[0].end()
    list(streams[0].call)
    streams[1].call.cancel()
    opened, deadline = 0, time.monotonic() + 10
    while opened < 2:  # the server notices a cancelled call later
        assert time.monotonic() < deadline
        try:
            OutcomeStream(evidence).send(streamed(batch_id="b-x"))
            opened += 1
        except grpc.RpcError:
            continue
    for stream in (*streams, extra):
        stream.end()


def test_a_graceful_stop_does_not_wait_for_idle_streams(
    server: GrpcServer, evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal
) -> None:
    stream = OutcomeStream(evidence)
    assert stream.send(streamed(outcome(), batch_id="b-1")).accepted == 1
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(server.stop, 60).result(10) is None
    with pytest.raises(grpc.RpcError):
        stream.answer()
    assert len(journal.batches) == 1
    stream.end()


DECISION = uuid7(int(time.time()) * 1000 - 120_000)


def named(attempt: int = 1, **fields: Any) -> pb.Outcome:
    """The outcome of an attempt of a decision, always with the same values."""
    at = Timestamp(seconds=int(time.time()) - 60)
    return outcome(**{"decision_id": DECISION, "attempt": attempt, "at": at, **fields})


def test_an_attempt_that_was_accepted_in_another_batch_is_a_duplicate(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal, health: EndpointHealth
) -> None:
    first, other = named(), named(result=pb.RESULT_TIMEOUT)
    assert evidence.ReportOutcomes(batch(first, batch_id="b-1")).accepted == 1
    for number in range(3):
        sent = batch(first, other, named(attempt=number + 2), batch_id=f"again-{number}")
        answer = evidence.ReportOutcomes(sent)
        assert answer.accepted == 1
        assert [(each.index, each.reason) for each in answer.refused] == [
            (0, "duplicate"),
            (1, "duplicate"),
        ]
        assert "was reported in another batch" in answer.refused[0].message
        assert answer.refused[1].message.endswith("was reported in another batch with other values")
    assert health.now() == {}
    assert [each.rejected for each in journal.batches[1:]] == [
        (("duplicate", ENDPOINT, 1), ("contradicting", ENDPOINT, 1))
    ] * 3


def test_a_batch_that_is_sent_again_gets_the_same_answer(
    evidence: pb_grpc.EvidenceServiceStub,
) -> None:
    evidence.ReportOutcomes(batch(named(attempt=1), batch_id="b-1"))
    sent = batch(named(attempt=1), named(attempt=2), named(attempt=2), batch_id="b-2")
    answers = [evidence.ReportOutcomes(sent) for _ in range(3)]
    assert answers[0].accepted == 1
    assert [each.index for each in answers[0].refused] == [0, 2]
    assert answers[1:] == answers[:1] * 2


def test_a_rejected_batch_may_be_sent_under_another_id_once_the_journal_has_room(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal
) -> None:
    journal.full = True
    with pytest.raises(grpc.RpcError):
        evidence.ReportOutcomes(batch(named(), batch_id="b-1"))
    journal.full = False
    assert evidence.ReportOutcomes(batch(named(), batch_id="b-2")).accepted == 1


def test_late_outcomes_are_rejected_and_their_number_is_journaled(
    evidence: pb_grpc.EvidenceServiceStub, journal: MemoryJournal
) -> None:
    day_old = Timestamp(seconds=int(time.time()) - 25 * 3600)
    answer = evidence.ReportOutcomes(batch(named(at=day_old), named(attempt=2, at=day_old)))
    assert [each.reason for each in answer.refused] == ["late", "late"]
    (journaled,) = journal.batches
    assert (journaled.groups, journaled.rejected) == ([], (("late", ENDPOINT, 2),))


def test_attempts_without_a_decision_are_never_duplicates(
    evidence: pb_grpc.EvidenceServiceStub,
) -> None:
    alone = named(decision_id="", attempt=0)
    for number in range(3):
        assert evidence.ReportOutcomes(batch(alone, alone, batch_id=f"b-{number}")).accepted == 2


def test_a_wrong_report_does_not_make_the_right_one_a_duplicate(
    evidence: pb_grpc.EvidenceServiceStub,
) -> None:
    """Which endpoint an attempt went to, and whether it is in time, the log decides."""
    elsewhere = named(endpoint_id=f"{MODEL}@provider-04")
    too_early = named(at=Timestamp(seconds=int(time.time()) - 3600))
    for number, each in enumerate((elsewhere, too_early, named())):
        assert evidence.ReportOutcomes(batch(each, batch_id=f"b-{number}")).accepted == 1
    answer = evidence.ReportOutcomes(batch(named(), too_early, batch_id="b-9"))
    assert [(each.index, each.reason) for each in answer.refused] == [
        (0, "duplicate"),
        (1, "duplicate"),
    ]
