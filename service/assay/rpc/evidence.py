"""EvidenceService: outcomes go to the intake, preferences to the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from json import dumps
from typing import Final

import grpc

from assay.engine.errors import InvalidField, UnknownEndpoint
from assay.engine.pool.report import pool_report
from assay.engine.pool.scorecard import scorecards
from assay.engine.world.request import check_text
from assay.engine.world.world import Preference
from assay.outcomes.checks import BatchResult
from assay.outcomes.intake import OutcomeIntake, OutcomeSubmission
from assay.rpc.convert.evidence import (
    KINDS,
    rejections,
    reports,
    scorecard_response,
    stored_preference,
)
from assay.rpc.fields import bounded_size, key_of, number_of, require_name, token_of
from assay.rpc.server import GrpcService
from assay.store.preferences import PreferenceStore
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc as pb_grpc

NAME: Final = pb.DESCRIPTOR.services_by_name["EvidenceService"].full_name
TENANTS_SET_ASIDE: Final = "assay-tenants-set-aside"
_MOST_NAMED: Final = 20
_MOST_METADATA: Final = 4096  # bytes
_MAX_PREFERENCE_DIGITS: Final = 9  # preference numbers have 31 bits


SetAside = Mapping[str, frozenset[str]]
"""By model: the tenants whose reports of it do not count, because they fail everywhere."""


class EvidenceServicer(pb_grpc.EvidenceServiceServicer):
    """Accepts outcomes and preferences, and returns scorecards."""

    def __init__(
        self,
        intake: OutcomeIntake,
        preferences: PreferenceStore,
        set_aside: Callable[[], SetAside] = dict,
    ) -> None:
        self._intake = intake
        self._preferences = preferences
        self._set_aside = set_aside

    def ReportOutcomes(
        self, request: pb.ReportOutcomesRequest, context: grpc.ServicerContext
    ) -> pb.ReportOutcomesResponse:
        found = self._report(request)
        if aside := self._set_aside():
            context.set_trailing_metadata(_about(_reported(request, aside)))
        return pb.ReportOutcomesResponse(
            accepted=len(found.accepted), refused=rejections(found.rejected)
        )

    def StreamOutcomes(
        self, request_iterator: Iterator[pb.StreamOutcomesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.StreamOutcomesResponse]:
        named: dict[tuple[str, str], None] = {}
        for request in request_iterator:
            found = self._report(request)
            if (aside := self._set_aside()) and len(named) < _MOST_NAMED:
                named |= dict.fromkeys(_reported(request, aside))
                context.set_trailing_metadata(_about(named))
            yield pb.StreamOutcomesResponse(
                batch_id=request.batch_id,
                accepted=len(found.accepted),
                refused=rejections(found.rejected),
            )

    def _report(self, request: pb.ReportOutcomesRequest | pb.StreamOutcomesRequest) -> BatchResult:
        outcomes = request.outcomes
        return self._intake.take(
            OutcomeSubmission(request.source, request.batch_id, len(outcomes), reports(outcomes))
        )

    def SetPreference(
        self, request: pb.SetPreferenceRequest, context: grpc.ServicerContext
    ) -> pb.SetPreferenceResponse:
        tenant = require_name("tenant", request.tenant)
        target = require_name("target", request.target)
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
        check_text("tenant", request.tenant)
        size, token = bounded_size("page_size", request.page_size), request.page_token
        after = number_of(key_of(token), token, _MAX_PREFERENCE_DIGITS) if token else 0
        found = self._preferences.page(request.tenant, after=after, limit=size + 1)
        token = token_of(str(found[size - 1].number)) if len(found) > size else ""
        return pb.ListPreferencesResponse(
            preferences=map(stored_preference, found[:size]), next_page_token=token
        )

    def GetScorecard(
        self, request: pb.GetScorecardRequest, context: grpc.ServicerContext
    ) -> pb.GetScorecardResponse:
        model = require_name("model", request.model)
        variant = require_name("variant", request.variant)
        check_text("tenant", request.tenant)
        snapshot = self._intake.snapshot()
        report = pool_report(snapshot, f"{model}:{variant}", request.tenant)
        cards = scorecards(snapshot, report)
        if request.endpoint_id:
            endpoints = snapshot.models[report.model].endpoints
            if request.endpoint_id not in {e.endpoint_id for e in endpoints}:
                raise UnknownEndpoint(request.endpoint_id)
            cards = tuple(c for c in cards if c.endpoint.verdict.endpoint_id == request.endpoint_id)
        return scorecard_response(report, cards)


def _reported(
    request: pb.ReportOutcomesRequest | pb.StreamOutcomesRequest, aside: SetAside
) -> Iterator[tuple[str, str]]:
    """Yield model and tenant of outcomes that do not count."""
    for outcome in request.outcomes:
        model = outcome.endpoint_id.partition("@")[0]
        if outcome.tenant and outcome.tenant in aside.get(model, ()):
            yield model, outcome.tenant


def _about(found: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the metadata that names tenants that are set aside, as JSON in ASCII.

    Clients reject metadata of more than 8 KiB, and callers choose the names of tenants.
    """
    known = sorted(set(found))[:_MOST_NAMED]
    text = dumps([{"model": model, "tenant": tenant} for model, tenant in known])
    while len(text) > _MOST_METADATA:
        known.pop()
        text = dumps([{"model": model, "tenant": tenant} for model, tenant in known])
    return ((TENANTS_SET_ASIDE, text),) if known else ()


def evidence_service(evidence: EvidenceServicer) -> GrpcService:
    """Return the service, ready for a server."""
    return GrpcService(NAME, partial(pb_grpc.add_EvidenceServiceServicer_to_server, evidence))
