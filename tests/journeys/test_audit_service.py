"""AuditService over a real socket: listing, explaining, replaying and verifying."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import delete, update
from tests.support.catalogs import POLICY
from tests.support.decide_load import import_small_catalog
from tests.support.processes import serving_journal
from tests.support.server_calls import decide
from tests.support.waiting import eventually

from assay.decision_log.tables import decision, journal_record
from assay.store.database import open_database, writing
from assay.v1 import audit_pb2 as pb, audit_pb2_grpc as pb_grpc

COUNT = 25
MODELS = ("lab/mixed", "lab/mixed:nitro", "lab/sizes", "lab/pair:exacto", "lab/draw")


@dataclass(frozen=True)
class Audited:
    """A server with some decisions in its log."""

    url: str
    channel: grpc.Channel
    answers: list[Any]

    @property
    def stub(self) -> pb_grpc.AuditServiceStub:
        return pb_grpc.AuditServiceStub(self.channel)

    def listed(self, **asked: Any) -> list[str]:
        return [
            each.decision_id
            for each in self.stub.ListDecisions(pb.ListDecisionsRequest(**asked)).decisions
        ]


@pytest.fixture
def audited(database_url: str, tmp_path: Path) -> Iterator[Audited]:
    import_small_catalog(database_url, tmp_path)
    with (
        serving_journal(database_url, tmp_path / "journal", "--policy", POLICY) as server,
        server.channel() as channel,
    ):
        answers = [
            decide(
                channel,
                MODELS[n % len(MODELS)],
                tenant=("acme", "")[n % 2],
                request_id=f"r-{n}",
                tools=n % 3,
            )
            for n in range(COUNT)
        ]
        found = Audited(database_url, channel, answers)
        eventually(lambda: len(found.listed()) == COUNT)
        yield found
        assert server.stop() == 0


def refused(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(request)
    return error.value.code(), str(error.value.details())


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)


def test_listing_pages_filters_and_limits_times(audited: Audited) -> None:
    newest_first = [answer.decision_id for answer in reversed(audited.answers)]
    assert audited.listed() == newest_first
    pages: list[list[str]] = []
    token = ""
    while token or not pages:
        page = audited.stub.ListDecisions(pb.ListDecisionsRequest(page_size=10, page_token=token))
        pages.append([each.decision_id for each in page.decisions])
        token = page.next_page_token
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [each for page in pages for each in page] == newest_first

    (row,) = audited.stub.ListDecisions(
        pb.ListDecisionsRequest(filter='decision.request_id == "r-8"')
    ).decisions
    answer = audited.answers[8]
    assert (row.decision_id, row.model, row.variant, row.tools) == (
        answer.decision_id,
        "lab/pair",
        "exacto",
        2,
    )
    assert (row.tenant, row.attempts, row.excluded) == (
        "acme",
        len(answer.attempts),
        len(answer.excluded),
    )
    assert (
        len(
            audited.listed(
                filter='decision.variant == "exacto" && "one" in decision.excluded_providers'
            )
        )
        == 5
    )
    assert len(audited.listed(filter='decision.tenant == "acme"')) == COUNT // 2 + 1
    soon = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
    assert audited.listed(since=at(soon), until=at(soon + 1)) == []
    assert len(audited.listed(until=at(soon), page_size=2000)) == COUNT


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param({"filter": "decision.model =="}, "filter:1:", id="no expression"),
        pytest.param(
            {"filter": 'true &&\n  decision.prompt == ""'}, "filter:2:", id="no such field"
        ),
        pytest.param({"filter": "decision.tools"}, "filter:1:1", id="no condition"),
        pytest.param({"filter": "decision.tools == 1.5"}, "filter:1:", id="other types"),
        pytest.param({"filter": "x" * 5000}, "4096", id="too long"),
        pytest.param({"filter": "' OR 1=1 --"}, "filter:1:1", id="SQL"),
        pytest.param({"page_size": -1}, "page_size", id="a negative page"),
        pytest.param({"page_token": "nonsense"}, "page_token", id="no token"),
        pytest.param({"page_token": "2026-01-01 x"}, "page_token", id="a token without a zone"),
        pytest.param(
            {"page_token": "0001-01-01T00:00:00+14:00 x"}, "page_token", id="a token before time"
        ),
        pytest.param(
            {"page_token": "2026-01-01T00:00:00+00:00 \0"}, "page_token", id="a token with NUL"
        ),
        pytest.param({"since": at(100), "until": at(50)}, "since", id="the wrong way round"),
        pytest.param({"until": at(-62135596800)}, "until", id="nothing before it"),
        pytest.param({"until": at(2**60)}, "until", id="no time"),
    ],
)
def test_invalid_requests_are_rejected(
    asked: dict[str, Any], words: str, small_server: grpc.Channel
) -> None:
    stub = pb_grpc.AuditServiceStub(small_server)
    code, details = refused(stub.ListDecisions, pb.ListDecisionsRequest(**asked))
    assert code is grpc.StatusCode.INVALID_ARGUMENT, details
    assert words in details
    assert details.isprintable()


def test_a_decision_comes_with_sentences_and_a_replay(audited: Audited) -> None:
    answer = audited.answers[3]
    shown = audited.stub.GetDecision(pb.GetDecisionRequest(decision_id=answer.decision_id))
    assert list(shown.attempts) == list(answer.attempts)
    assert list(shown.excluded) == list(answer.excluded)
    assert all(reason.message for found in shown.excluded for reason in found.reasons)
    assert (shown.seq, len(shown.stream), shown.record[:1]) == (4, 32, b"{")
    assert refused(audited.stub.GetDecision, pb.GetDecisionRequest(decision_id="unknown")) == (
        grpc.StatusCode.NOT_FOUND, "decision_id: 'unknown' is not in the log",
    )  # fmt: skip

    ids = [each.decision_id for each in audited.answers]
    replayed = audited.stub.Replay(pb.ReplayRequest(decision_ids=[*ids, "unknown"]))
    assert (replayed.identical, [d.outcome for d in replayed.differences]) == (COUNT, ["not_found"])
    some = audited.stub.Replay(pb.ReplayRequest(filter='decision.variant == "exacto"'))
    assert (some.identical, len(some.differences)) == (5, 0)
    assert (
        refused(audited.stub.Replay, pb.ReplayRequest(filter="1"))[0]
        is grpc.StatusCode.INVALID_ARGUMENT
    )


def test_verify_passes_and_names_tampering(audited: Audited) -> None:
    whole = audited.stub.VerifyLog(pb.VerifyLogRequest())
    assert whole.intact
    assert [(stream.checked, stream.fault) for stream in whole.streams] == [(COUNT, "")]
    stream = whole.streams[0].stream

    database = open_database(audited.url)
    with writing(database) as connection:
        connection.execute(
            update(decision).where(decision.c.seq == 7).values(first_provider="mine")
        )
    found = audited.stub.VerifyLog(pb.VerifyLogRequest(stream=stream)).streams[0]
    assert (found.fault, found.fault_seq) == ("altered", 7)
    with writing(database) as connection:
        connection.execute(delete(decision).where(decision.c.seq == 5))
        connection.execute(delete(journal_record).where(journal_record.c.seq == 5))
    answer = audited.stub.VerifyLog(pb.VerifyLogRequest())
    assert (answer.intact, answer.streams[0].fault, answer.streams[0].fault_seq) == (
        False,
        "missing",
        5,
    )
    database.dispose()


def test_policy_revisions_are_listed(audited: Audited) -> None:
    answer = audited.stub.ListPolicyRevisions(pb.ListPolicyRevisionsRequest())
    assert [(each.number, each.digest) for each in answer.revisions] == [
        (1, audited.answers[0].policy_revision.digest)
    ]
    assert answer.next_page_token == ""
    for token in ("x", "9" * 30, "-1"):
        code, details = refused(
            audited.stub.ListPolicyRevisions, pb.ListPolicyRevisionsRequest(page_token=token)
        )
        assert (code, "page_token" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
