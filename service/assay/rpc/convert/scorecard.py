"""Scorecards as messages."""

from __future__ import annotations

from collections.abc import Iterable

from assay.engine.pool.report import PoolReport
from assay.engine.pool.scorecard import AccuracyEstimate, Scorecard
from assay.rpc.convert.catalog import stamp
from assay.rpc.convert.plan import finding
from assay.v1 import evidence_pb2 as pb


def scorecard_response(report: PoolReport, cards: Iterable[Scorecard]) -> pb.GetScorecardResponse:
    """Return the scorecards of a pool as a response."""
    return pb.GetScorecardResponse(
        snapshot_id=report.snapshot_id,
        as_of=stamp(report.as_of),
        binding=report.binding,
        scorecards=map(_scorecard, cards),
    )


def _scorecard(card: Scorecard) -> pb.Scorecard:
    judged = card.endpoint
    return pb.Scorecard(
        endpoint_id=judged.verdict.endpoint_id,
        provider=judged.verdict.provider,
        tag=judged.verdict.tag,
        state=judged.state or "",
        since=stamp(judged.since),
        held_until=stamp(card.held_until),
        accuracy=_share(card.accuracy),
        broken=map(finding, card.broken),
        clean_requests=card.clean_requests,
        hours=card.hours,
    )


def _share(value: AccuracyEstimate | None) -> pb.MeasuredShare | None:
    if value is None:
        return None
    return pb.MeasuredShare(
        value=value.value, low=value.low, high=value.high, effective_requests=value.requests
    )
