"""EvidenceService: convert, report, convert; preferences go to the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import grpc

from assay.engine.errors import InvalidField
from assay.engine.pool.report import pool_report
from assay.engine.pool.scorecard import scorecards
from assay.engine.world.request import check_text
from assay.engine.world.tenants import Preference
from assay.outcomes.checks import BatchResult
from assay.outcomes.intake import OutcomeIntake, OutcomeSubmission
from assay.rpc.catalog import named
from assay.rpc.convert.evidence import KINDS, refusals, reported, standing
from assay.rpc.convert.scorecard import scorecard_response
from assay.rpc.paging import DEFAULT_SIZE, MAX_SIZE, key_of, token_of
from assay.rpc.service import Service
from assay.rpc.view import UnknownEndpoint
from assay.store.preferences import PreferenceStore
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc as pb_grpc

NAME: Final = pb.DESCRIPTOR.services_by_name["EvidenceService"].full_name
MOST_DIGITS: Final = 9  # what a page token may hold: numbers of preferences have 31 bits


class Evidence(pb_grpc.EvidenceServiceServicer):
    """Takes outcomes and preferences."""

    def __init__(self, intake: OutcomeIntake, preferences: PreferenceStore) -> None:
        self._intake = intake
        self._preferences = preferences

    def ReportOutcomes(
        self, request: pb.ReportOutcomesRequest, context: grpc.ServicerContext
    ) -> pb.ReportOutcomesResponse:
        """Take a batch."""
        found = self._report(request)
        return pb.ReportOutcomesResponse(
            accepted=len(found.accepted), refused=refusals(found.rejected)
        )

    def StreamOutcomes(
        self, request_iterator: Iterator[pb.StreamOutcomesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.StreamOutcomesResponse]:
        """Take batch after batch."""
        for request in request_iterator:
            found = self._report(request)
            yield pb.StreamOutcomesResponse(
                batch_id=request.batch_id,
                accepted=len(found.accepted),
                refused=refusals(found.rejected),
            )

    def _report(self, request: pb.ReportOutcomesRequest | pb.StreamOutcomesRequest) -> BatchResult:
        outcomes = request.outcomes
        return self._intake.take(
            OutcomeSubmission(request.source, request.batch_id, len(outcomes), reported(outcomes))
        )

    def SetPreference(
        self, request: pb.SetPreferenceRequest, context: grpc.ServicerContext
    ) -> pb.SetPreferenceResponse:
        """Have a preference stand, or none."""
        tenant, target = named("tenant", request.tenant), named("target", request.target)
        check_text("model", request.model)
        model = request.model or None
        if request.kind == pb.PREFERENCE_KIND_NONE:
            return pb.SetPreferenceResponse(changed=self._preferences.delete(tenant, target, model))
        if request.kind not in KINDS:
            raise InvalidField("kind", request.kind, "PIN, IGNORE or NONE")
        wanted = Preference(tenant, KINDS[request.kind], target, model)
        return pb.SetPreferenceResponse(changed=self._preferences.put(wanted))

    def ListPreferences(
        self, request: pb.ListPreferencesRequest, context: grpc.ServicerContext
    ) -> pb.ListPreferencesResponse:
        """List preferences."""
        check_text("tenant", request.tenant)
        if request.page_size < 0:
            raise InvalidField("page_size", request.page_size, "a number, zero or more")
        size = min(request.page_size or DEFAULT_SIZE, MAX_SIZE)
        after = number_of(request.page_token) if request.page_token else 0
        found = self._preferences.page(request.tenant, after=after, limit=size + 1)
        token = token_of(str(found[size - 1].number)) if len(found) > size else ""
        return pb.ListPreferencesResponse(
            preferences=map(standing, found[:size]), next_page_token=token
        )

    def GetScorecard(
        self, request: pb.GetScorecardRequest, context: grpc.ServicerContext
    ) -> pb.GetScorecardResponse:
        """Tell what stands between endpoints and a pool."""
        model, variant = named("model", request.model), named("variant", request.variant)
        check_text("tenant", request.tenant)
        snapshot = self._intake.snapshot()
        report = pool_report(snapshot, f"{model}:{variant}", request.tenant)
        cards = scorecards(snapshot, report)
        if request.endpoint_id:
            if request.endpoint_id not in snapshot.models[report.model].ids:
                raise UnknownEndpoint(request.endpoint_id)
            cards = tuple(c for c in cards if c.judged.verdict.endpoint_id == request.endpoint_id)
        return scorecard_response(report, cards)


def number_of(token: str) -> int:
    """The number behind which a page begins."""
    number = key_of(token)
    if not (number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS):
        raise InvalidField("page_token", token, "a token from the page before")
    return int(number)


def evidence_service(evidence: Evidence) -> Service:
    """The service, ready for a server."""
    return Service(
        NAME, lambda server: pb_grpc.add_EvidenceServiceServicer_to_server(evidence, server)
    )
