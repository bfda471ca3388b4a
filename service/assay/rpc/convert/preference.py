"""Preferences as messages."""

from __future__ import annotations

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from assay.store.preferences import Standing
from assay.v1 import evidence_pb2 as pb

KINDS: Final[dict[int, str]] = {pb.PREFERENCE_KIND_PIN: "pin", pb.PREFERENCE_KIND_IGNORE: "ignore"}
NUMBERS: Final = {
    "pin": pb.PREFERENCE_KIND_PIN,
    "ignore": pb.PREFERENCE_KIND_IGNORE,
}


def standing(found: Standing) -> pb.StandingPreference:
    """A standing preference."""
    made_at = Timestamp()
    made_at.FromDatetime(found.created_at)
    wanted = found.preference
    return pb.StandingPreference(
        tenant=wanted.tenant,
        target=wanted.target,
        model=wanted.model or "",
        kind=NUMBERS[wanted.kind],
        created_at=made_at,
    )
