"""Preferences over a real socket, in a real database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine

from assay.engine.world.world import Preference
from assay.outcomes.endpoint_health import EndpointHealth
from assay.outcomes.intake import OutcomeIntake
from assay.rpc.evidence import EvidenceServicer, evidence_service
from assay.rpc.server import GrpcServer
from assay.rpc.status import REASON_KEY
from assay.server.decider import Decider
from assay.store.preferences import PreferenceStore
from assay.store.tables import endpoint, model, provider
from assay.store.world import load_world, world_revision
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc as pb_grpc


class UnusedJournal:
    """A journal that fails the test on any write."""

    def append(self, kind: int, payload: bytes) -> None:
        raise AssertionError((kind, payload))


def clock() -> datetime:
    return datetime.now(UTC)


def error_of(call: Any) -> tuple[str, str]:
    return call.code().name, dict(call.trailing_metadata()).get(REASON_KEY, "")


@pytest.fixture
def catalog(store: Engine) -> Engine:
    """Store two providers with one endpoint each."""
    at = datetime(2026, 7, 4, tzinfo=UTC)
    with store.begin() as connection:
        for slug in ("one", "two"):
            connection.execute(provider.insert().values(provider=slug, created_at=at))
        connection.execute(model.insert().values(model="lab/m", created_at=at))
        connection.execute(
            endpoint.insert().values(
                endpoint_id="lab/m@one/fp8", model="lab/m", tag="one/fp8", created_at=at
            )
        )
    return store


def preference(
    tenant: str, target: str, kind: pb.PreferenceKind.ValueType, of: str = ""
) -> pb.SetPreferenceRequest:
    return pb.SetPreferenceRequest(tenant=tenant, target=target, model=of, kind=kind)


@pytest.fixture
def evidence(catalog: Engine) -> Iterator[pb_grpc.EvidenceServiceStub]:
    decider = Decider(clock)
    reporter = OutcomeIntake(
        decider.current, decider.pseudonyms.get, UnusedJournal().append, EndpointHealth().update
    )
    server = GrpcServer(
        [evidence_service(EvidenceServicer(reporter, PreferenceStore(catalog, clock)))],
        ["127.0.0.1:0"],
    )
    with grpc.insecure_channel(server.addresses[0]) as channel:
        yield pb_grpc.EvidenceServiceStub(channel)
    server.stop(grace=1)


PIN, IGNORE, NONE = pb.PREFERENCE_KIND_PIN, pb.PREFERENCE_KIND_IGNORE, pb.PREFERENCE_KIND_NONE


def test_a_preference_is_active_until_it_is_replaced_or_removed(
    catalog: Engine, evidence: pb_grpc.EvidenceServiceStub
) -> None:
    steps = [
        (preference("acme", "one", IGNORE), True, ["ignore"]),
        (preference("acme", "one", IGNORE), False, ["ignore"]),
        (preference("acme", "one", PIN), True, ["pin"]),
        (preference("acme", "one", IGNORE, "lab/m"), True, ["ignore", "pin"]),
        (preference("acme", "one", NONE), True, ["ignore"]),
        (preference("acme", "one", NONE), False, ["ignore"]),
        (preference("acme", "one", NONE, "lab/m"), True, []),
    ]
    for request, new, kinds in steps:
        before = world_revision(catalog).preferences
        assert evidence.SetPreference(request).changed is new
        assert world_revision(catalog).preferences == before + new
        assert sorted(each.kind for each in load_world(catalog).preferences) == kinds


def test_preferences_of_other_tenants_and_targets_are_unchanged(
    catalog: Engine, evidence: pb_grpc.EvidenceServiceStub
) -> None:
    for tenant, target in (("acme", "one"), ("acme", "one/fp8"), ("beta", "one")):
        evidence.SetPreference(preference(tenant, target, IGNORE))
    evidence.SetPreference(preference("acme", "one", NONE))
    found = load_world(catalog).preferences
    assert found == (Preference("acme", "ignore", "one/fp8"), Preference("beta", "ignore", "one"))


@pytest.mark.usefixtures("catalog")
def test_preferences_are_listed_in_pages(evidence: pb_grpc.EvidenceServiceStub) -> None:
    for tenant in ("gamma", "acme", "beta"):
        evidence.SetPreference(preference(tenant, "two", PIN))
    evidence.SetPreference(preference("acme", "one/fp8", IGNORE, "lab/m"))
    seen: list[pb.StandingPreference] = []
    token = ""
    while True:
        answer = evidence.ListPreferences(pb.ListPreferencesRequest(page_size=3, page_token=token))
        seen += answer.preferences
        if not (token := answer.next_page_token):
            break
    assert [(each.tenant, each.target, each.model, each.kind) for each in seen] == [
        ("gamma", "two", "", PIN), ("acme", "two", "", PIN), ("beta", "two", "", PIN),
        ("acme", "one/fp8", "lab/m", IGNORE),
    ]  # fmt: skip
    assert abs(seen[0].created_at.ToSeconds() - time.time()) < 60
    own = evidence.ListPreferences(pb.ListPreferencesRequest(tenant="acme")).preferences
    assert [each.target for each in own] == ["two", "one/fp8"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        pytest.param(preference("", "one", PIN), "invalid-field", id="no tenant"),
        pytest.param(preference("acme", "", PIN), "invalid-field", id="no target"),
        pytest.param(preference("acme\0", "one", PIN), "invalid-field", id="unprintable"),
        pytest.param(
            preference("acme", "one", pb.PREFERENCE_KIND_UNSPECIFIED), "invalid-field", id="no kind"
        ),
        pytest.param(
            preference("acme", "one", 9),  # type: ignore[arg-type] # invalid on purpose
            "invalid-field",
            id="an unknown kind",
        ),
        pytest.param(preference("acme", "three", PIN), "unknown-target", id="an unknown provider"),
        pytest.param(
            preference("acme", "one", PIN, "lab/x"), "unknown-target", id="an unknown model"
        ),
    ],
)
def test_an_invalid_preference_is_rejected(
    catalog: Engine,
    evidence: pb_grpc.EvidenceServiceStub,
    request_: pb.SetPreferenceRequest,
    reason: str,
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        evidence.SetPreference(request_)
    assert error_of(failed.value) == ("INVALID_ARGUMENT", reason)
    assert load_world(catalog).preferences == ()


@pytest.mark.parametrize(
    "token", [pytest.param("x", id="not base64"), pytest.param("LTE=", id="not a number")]
)
def test_an_invalid_page_token_is_rejected(
    evidence: pb_grpc.EvidenceServiceStub, token: str
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        evidence.ListPreferences(pb.ListPreferencesRequest(page_token=token))
    assert error_of(failed.value) == ("INVALID_ARGUMENT", "invalid-field")
