"""Imports of preferences and tenant settings: a file replaces only the tenants it names."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, select

from assay.engine.world.catalog import Endpoint
from assay.engine.world.world import Preference, TenantSettings
from assay.importers.documents import (
    CatalogDocument,
    ImportCounts,
    ImportReport,
    PreferenceDocument,
    Rejection,
    TenantDocument,
)
from assay.store.evidence_tables import tenant_affiliation
from assay.store.imports.catalog import apply_catalog
from assay.store.imports.tenants import apply_preferences, apply_tenants
from assay.store.world import WorldRevision, load_world, world_revision

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)
MODEL = "moonshotai/kimi-k2-0905"
OTHER = "z-ai/glm-4.6"


@pytest.fixture
def catalogued(store: Engine) -> Engine:
    pairs = ((MODEL, "novita/fp8"), (MODEL, "groq"), (OTHER, "z-ai"))
    offers = tuple(
        Endpoint(f"{model}@{tag}", model, tag.split("/")[0], tag) for model, tag in pairs
    )
    apply_catalog(store, CatalogDocument("ours", "d", endpoints=offers), now=NOON)
    return store


def prefer(store: Engine, *preferences: Preference) -> ImportReport:
    return apply_preferences(store, PreferenceDocument(repr(preferences), preferences), now=NOON)


def settle(store: Engine, *tenants: TenantSettings) -> ImportReport:
    return apply_tenants(store, TenantDocument(repr(tenants), tenants), now=NOON)


PIN = Preference("acme", "pin", "novita/fp8", MODEL)
IGNORE = Preference("acme", "ignore", "groq")
THEIRS = Preference("zeta", "ignore", "groq")


def test_all_preferences_of_a_tenant_are_replaced_and_others_stay(catalogued: Engine) -> None:
    prefer(catalogued, PIN, IGNORE, THEIRS, IGNORE)
    assert load_world(catalogued).preferences == (IGNORE, PIN, THEIRS)
    report = prefer(catalogued, Preference("acme", "pin", "groq"), PIN)
    assert report.counts == {
        "preferences": ImportCounts(
            added=("acme: pin groq",), gone=("acme: ignore groq",), unchanged=1
        )
    }
    assert load_world(catalogued).preferences == (Preference("acme", "pin", "groq"), PIN, THEIRS)


def test_a_repeated_import_changes_nothing(catalogued: Engine) -> None:
    settings = TenantSettings("acme", ("novita",), ("groq",), zdr=True, deny_data_collection=True)
    for tally in (ImportCounts(added=("acme",)), ImportCounts(unchanged=1)):
        assert settle(catalogued, settings).counts == {"tenants": tally}
    prefer(catalogued, PIN)
    assert prefer(catalogued, PIN).counts == {"preferences": ImportCounts(unchanged=1)}
    assert world_revision(catalogued) == WorldRevision(catalog=1, evidence=0, preferences=2)
    assert load_world(catalogued).tenants == (settings,)


def test_all_settings_of_a_tenant_are_replaced_and_others_stay(catalogued: Engine) -> None:
    settle(catalogued, TenantSettings("acme", only=("novita",), zdr=True), TenantSettings("zeta"))
    report = settle(catalogued, TenantSettings("acme", ignore=("groq",)))
    assert report.counts == {"tenants": ImportCounts(changed=("acme",))}
    assert load_world(catalogued).tenants == (
        TenantSettings("acme", ignore=("groq",)),
        TenantSettings("zeta"),
    )


@pytest.mark.parametrize(
    ("target", "model", "fault"),
    [
        pytest.param("novita", None, None, id="a provider"),
        pytest.param("novita/fp8", None, None, id="a tag of any model"),
        pytest.param("novita", OTHER, None, id="a provider, for a model it does not serve yet"),
        pytest.param(
            "nowhere",
            None,
            "'nowhere' is neither a known provider nor the tag of a known endpoint",
            id="no tenant",
        ),
        pytest.param(
            "novita/fp8",
            OTHER,
            f"'novita/fp8' is neither a known provider nor the tag of a known endpoint of {OTHER}",
            id="a tag of another model",
        ),
        pytest.param("groq", "no/model", "model 'no/model' is unknown", id="an unknown model"),
    ],
)
def test_a_target_must_be_known(
    catalogued: Engine, target: str, model: str | None, fault: str | None
) -> None:
    report = prefer(catalogued, Preference("acme", "ignore", target, model), THEIRS)
    assert report.rejected == (
        () if fault is None else (Rejection("tenant acme", f"ignore: {fault}"),)
    )
    assert THEIRS in load_world(catalogued).preferences


def affiliate(store: Engine, **affiliated: str) -> ImportReport:
    tenants = (TenantSettings("acme"), TenantSettings("zeta"))
    return apply_tenants(store, TenantDocument(repr(affiliated), tenants, (), affiliated), now=NOON)


def affiliations(store: Engine) -> list[tuple[str, str]]:
    with store.connect() as connection:
        return [
            (row.tenant, row.provider) for row in connection.execute(select(tenant_affiliation))
        ]


def test_the_affiliated_provider_is_replaced_with_the_settings(catalogued: Engine) -> None:
    assert affiliate(catalogued, acme="novita").counts == {
        "tenants": ImportCounts(added=("acme", "zeta"))
    }
    assert affiliations(catalogued) == [("acme", "novita")]
    assert affiliate(catalogued, acme="novita").counts == {"tenants": ImportCounts(unchanged=2)}
    assert affiliate(catalogued, acme="groq").counts == {
        "tenants": ImportCounts(changed=("acme",), unchanged=1)
    }
    assert affiliations(catalogued) == [("acme", "groq")]
    settle(catalogued, TenantSettings("zeta", zdr=True))
    assert affiliations(catalogued) == [("acme", "groq")]
    report = affiliate(catalogued, acme="nowhere")
    assert report.rejected == (
        Rejection("tenant acme", "affiliated_provider: 'nowhere' is not a known provider"),
    )
    assert affiliations(catalogued) == [("acme", "groq")]
    assert affiliate(catalogued).counts == {"tenants": ImportCounts(changed=("acme",), unchanged=1)}
    assert affiliations(catalogued) == []


def test_settings_with_an_unknown_provider_are_rejected_and_the_old_ones_stay(
    catalogued: Engine,
) -> None:
    settle(catalogued, TenantSettings("acme", only=("novita",)))
    report = settle(
        catalogued, TenantSettings("acme", only=("novita", "nowhere"), ignore=("elsewhere",))
    )
    known = "is neither a known provider nor the tag of a known endpoint"
    assert report.rejected == (
        Rejection("tenant acme", f"only: 'nowhere' {known}; ignore: 'elsewhere' {known}"),
    )
    assert load_world(catalogued).tenants == (TenantSettings("acme", only=("novita",)),)
