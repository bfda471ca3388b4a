"""AuditService: read the question, query the decision log, convert."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from assay.decision_log.auditor import Auditor, DecisionDetail, DecisionQuery
from assay.decision_log.decision_row import ListKey, StoredDecision
from assay.decision_log.record import UNREADABLE, decode_record
from assay.decision_log.replay import ReplayResult, logged_plan
from assay.engine.decide.plan import Plan
from assay.engine.errors import InvalidField
from assay.engine.world.request import check_text, check_texts
from assay.journal.chain import Head
from assay.rpc.convert.copying import copied
from assay.rpc.convert.plan import attempt, findings
from assay.rpc.fields import bounded_size, invalid_token, number_of
from assay.rpc.server import GrpcService
from assay.v1 import audit_pb2 as pb, audit_pb2_grpc as pb_grpc

NAME = pb.DESCRIPTOR.services_by_name["AuditService"].full_name
DEFAULT_REPLAYED, MAX_REPLAYED = 1000, 10_000
MAX_IDS = 1000
MAX_FILTER = 4096


class AuditServicer(pb_grpc.AuditServiceServicer):
    """Answers from the database; `keys` and `outside` heads are used to verify the log."""

    def __init__(
        self,
        auditor: Auditor,
        clock: Callable[[], datetime],
        keys: Mapping[str, bytes],
        outside: Callable[[], Iterable[Head]],
    ) -> None:
        self._auditor = auditor
        self._clock = clock
        self._keys = keys
        self._outside = outside

    def ListDecisions(
        self, request: pb.ListDecisionsRequest, context: grpc.ServicerContext
    ) -> pb.ListDecisionsResponse:
        size = bounded_size("page_size", request.page_size)
        after = _key_of(request.page_token) if request.page_token else None
        found = self._auditor.find(self._question(request), after=after, limit=size + 1)
        tenants = self._auditor.tenants()
        token = ""
        if len(found) > size:
            decided_at, decision_id = found[size - 1].key
            token = f"{decided_at.isoformat()} {decision_id}"
        return pb.ListDecisionsResponse(
            decisions=[_summary(row, tenants) for row in found[:size]], next_page_token=token
        )

    def GetDecision(
        self, request: pb.GetDecisionRequest, context: grpc.ServicerContext
    ) -> pb.GetDecisionResponse:
        check_text("decision_id", request.decision_id)
        shown = self._auditor.show(request.decision_id)
        plan = _answered_plan(shown)
        return pb.GetDecisionResponse(
            decision=_summary(shown.row, {shown.row.tenant: shown.tenant}),
            record=shown.record,
            attempts=map(attempt, plan.attempts),
            excluded=[findings(v, v.broken) for v in plan.excluded],
            stream=shown.row.stream,
            seq=shown.row.seq,
        )

    def Replay(self, request: pb.ReplayRequest, context: grpc.ServicerContext) -> pb.ReplayResponse:
        if request.decision_ids:
            check_texts("decision_ids", tuple(request.decision_ids), limit=MAX_IDS)
            return _replay_response(self._auditor.replay_ids(list(request.decision_ids)))
        limit = bounded_size("limit", request.limit, DEFAULT_REPLAYED, MAX_REPLAYED)
        found = self._auditor.find(self._question(request), limit=limit)
        return _replay_response(self._auditor.replay_ids([row.decision_id for row in found]))

    def VerifyLog(
        self, request: pb.VerifyLogRequest, context: grpc.ServicerContext
    ) -> pb.VerifyLogResponse:
        check_text("stream", request.stream)
        reports = list(self._auditor.verify(self._keys, self._outside(), request.stream))
        return pb.VerifyLogResponse(
            intact=not any(r.fault for r in reports),
            streams=[copied(r, pb.StreamReport()) for r in reports],
        )

    def ListPolicyRevisions(
        self, request: pb.ListPolicyRevisionsRequest, context: grpc.ServicerContext
    ) -> pb.ListPolicyRevisionsResponse:
        size = bounded_size("page_size", request.page_size)
        below = number_of(token, token) if (token := request.page_token) else None
        found = self._auditor.revisions(below=below, limit=size + 1)
        next_token = str(found[size - 1].number) if len(found) > size else ""
        revisions = [copied(each, pb.StoredPolicyRevision()) for each in found[:size]]
        return pb.ListPolicyRevisionsResponse(revisions=revisions, next_page_token=next_token)

    def _question(self, request: pb.ListDecisionsRequest | pb.ReplayRequest) -> DecisionQuery:
        if len(request.filter) > MAX_FILTER:
            raise InvalidField("filter", request.filter, f"at most {MAX_FILTER} characters")
        return DecisionQuery(
            until=_instant("until", request.until) if request.HasField("until") else self._clock(),
            filter=request.filter,
            since=_instant("since", request.since) if request.HasField("since") else None,
        )


def _answered_plan(shown: DecisionDetail) -> Plan:
    """Return the replayed plan if it is identical; otherwise the logged one, without messages."""
    if shown.replayed.plan is not None and shown.replayed.outcome == "identical":
        return shown.replayed.plan
    try:
        return logged_plan(decode_record(shown.record))
    except UNREADABLE:
        return Plan((), (), "", shown.row.snapshot_id, shown.row.policy_revision)


def _instant(name: str, value: Timestamp) -> datetime:
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidField(name, f"{value.seconds} s", "a time") from error


def _key_of(token: str) -> ListKey:
    check_text("page_token", token)
    at, _, decision_id = token.partition(" ")
    try:
        time = datetime.fromisoformat(at)
        zoned = time.tzinfo is not None and time.astimezone(UTC)
    except (ValueError, OverflowError):
        zoned = False
    if not zoned or not decision_id:
        raise invalid_token(token)
    return zoned, decision_id


def _summary(row: StoredDecision, tenants: Mapping[str, str]) -> pb.DecisionSummary:
    """Convert a row, with the tenant's name for its pseudonym; empty if it was erased."""
    named = replace(row, tenant=tenants.get(row.tenant, ""))
    return copied(named, pb.DecisionSummary())


def _replay_response(results: Iterable[ReplayResult]) -> pb.ReplayResponse:
    response = pb.ReplayResponse()
    for result in results:
        if result.outcome == "identical":
            response.identical += 1
        else:
            response.differences.add(
                decision_id=result.decision_id, outcome=result.outcome, detail=result.detail
            )
    return response


def audit_service(audit: AuditServicer) -> GrpcService:
    """Return the service, ready for a server."""
    return GrpcService(NAME, partial(pb_grpc.add_AuditServiceServicer_to_server, audit))
