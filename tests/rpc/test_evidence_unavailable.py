"""EvidenceService has nothing to compare outcomes with: they are to be sent again, not rejected."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import create_engine
from tests.support.population import MODEL, snapshot
from tests.support.worlds import judge_world

from assay.engine.world.world import World
from assay.outcomes.endpoint_health import EndpointHealth
from assay.outcomes.intake import OutcomeIntake
from assay.rpc.evidence import EvidenceServicer, evidence_service
from assay.rpc.server import GrpcServer
from assay.rpc.status import REASON_KEY, RETRY_KEY
from assay.server.decider import Decider
from assay.store.preferences import PreferenceStore
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc as pb_grpc


@pytest.mark.parametrize("is_published", [False, True])
def test_outcomes_wait_while_nothing_is_published_or_the_catalog_is_empty(
    tmp_path: Path, *, is_published: bool
) -> None:
    appended: list[int] = []
    decider = Decider(lambda: datetime.now(UTC), judge_world(World()) if is_published else None)
    intake = OutcomeIntake(
        decider.current,
        decider.pseudonyms.get,
        lambda kind, _: appended.append(kind),
        EndpointHealth().update,
    )
    preferences = PreferenceStore(create_engine("sqlite://"), decider.clock)
    server = GrpcServer(
        (evidence_service(EvidenceServicer(intake, preferences)),), [f"unix:{tmp_path}/s"]
    )
    at = Timestamp()
    at.GetCurrentTime()
    done = pb.Outcome(endpoint_id=f"{MODEL}@provider-03", at=at, result=pb.RESULT_ANSWERED)
    batch = pb.ReportOutcomesRequest(source="gw", batch_id="b-1", outcomes=[done])
    with grpc.insecure_channel(server.addresses[0]) as channel:
        stub = pb_grpc.EvidenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ReportOutcomes(batch)
        status: Any = caught.value  # a grpc.Call as well
        trailer = dict(status.trailing_metadata())
        assert (status.code(), trailer[REASON_KEY], trailer[RETRY_KEY], appended) == (
            grpc.StatusCode.UNAVAILABLE, "snapshot-unavailable", "1000", [],
        )  # fmt: skip
        decider.publish(snapshot())
        assert stub.ReportOutcomes(batch).accepted == 1
        assert len(appended) == 1
    server.stop(grace=1)
