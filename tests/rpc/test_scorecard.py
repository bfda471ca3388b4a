"""GetScorecard over a real socket: what each endpoint outside a pool lacks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from sqlalchemy import create_engine
from tests.support.population import AS_OF, MODEL, snapshot

from assay.journal.writer import Journal
from assay.outcomes.intake import OutcomeIntake
from assay.rpc.evidence import EvidenceServicer, evidence_service
from assay.rpc.server import GrpcServer
from assay.server.decider import Decider
from assay.store.preferences import PreferenceStore
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc as pb_grpc

NEVER_SEEN = f"{MODEL}@provider-17"
INACCURATE = f"{MODEL}@provider-10"


def clock() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[pb_grpc.EvidenceServiceStub]:
    with Journal(tmp_path / "journal") as journal:
        decider = Decider(clock, snapshot())
        reporter = OutcomeIntake(
            decider.current, decider.pseudonyms.get, journal.append, lambda _groups, _now: None
        )
        evidence = evidence_service(
            EvidenceServicer(reporter, PreferenceStore(create_engine("sqlite://"), clock))
        )
        server = GrpcServer((evidence,), ["127.0.0.1:0"])
        with grpc.insecure_channel(server.addresses[0]) as channel:
            yield pb_grpc.EvidenceServiceStub(channel)
        server.stop(grace=1)


def test_every_endpoint_outside_the_pool_has_a_scorecard(
    service: pb_grpc.EvidenceServiceStub,
) -> None:
    answer = service.GetScorecard(pb.GetScorecardRequest(model=MODEL, variant="exacto"))
    assert [card.provider for card in answer.scorecards] == [
        f"provider-{n:02}" for n in range(10, 20)
    ]
    assert (answer.snapshot_id, answer.binding) == (snapshot().snapshot_id, "exacto")
    assert answer.as_of.ToDatetime(UTC) == AS_OF


def test_the_scorecard_of_one_endpoint(service: pb_grpc.EvidenceServiceStub) -> None:
    message = pb.GetScorecardRequest(model=MODEL, variant="exacto", endpoint_id=INACCURATE)
    [card] = service.GetScorecard(message).scorecards
    broken, usable = card.broken
    assert (broken.rule, broken.reason) == ("tool_accuracy", "ACCURACY")
    assert (usable.rule, usable.reason) == ("usable", "USABILITY")
    read = {fact.name: fact.value.double_value for fact in broken.seen}
    assert read["params.accuracy_enter"] == 0.95
    assert card.accuracy.low < card.accuracy.value < card.accuracy.high < 0.95
    assert card.clean_requests > 0
    assert card.hours > 0
    assert card.state == ""


def test_without_evidence_accuracy_and_hours_are_unset(
    service: pb_grpc.EvidenceServiceStub,
) -> None:
    [card] = service.GetScorecard(
        pb.GetScorecardRequest(model=MODEL, variant="exacto", endpoint_id=NEVER_SEEN)
    ).scorecards
    assert not card.HasField("accuracy")
    assert not card.HasField("hours")
    assert card.clean_requests == 132  # 60 effective ones at a design effect of 2.2


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"variant": "exacto"}, "INVALID_ARGUMENT", "model: ''"),
        ({"model": MODEL}, "INVALID_ARGUMENT", "variant: ''"),
        ({"model": "no/such", "variant": "exacto"}, "NOT_FOUND", "'no/such'"),
        ({"model": MODEL, "variant": "exato"}, "INVALID_ARGUMENT", "'exato'"),
        ({"model": MODEL, "variant": "nitro"}, "INVALID_ARGUMENT", "whose rule set has a pool"),
        ({"model": MODEL, "variant": "exacto", "endpoint_id": "x@y"}, "NOT_FOUND", "'x@y'"),
    ],
)
def test_an_unknown_name_is_rejected_with_the_name(
    service: pb_grpc.EvidenceServiceStub, fields: dict[str, str], code: str, text: str
) -> None:
    with pytest.raises(grpc.RpcError) as rejected:
        service.GetScorecard(pb.GetScorecardRequest(**fields))
    assert rejected.value.code().name == code
    assert text in str(rejected.value.details())
