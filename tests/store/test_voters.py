"""Voters and votes: tenants by their own names, over whole days, without erased ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, Table, insert

from assay.decision_log.retention import erase_tenant
from assay.engine.evidence.ignores import Voter
from assay.engine.world.measurements import IgnoreVote
from assay.engine.world.world import Preference
from assay.store.database import reading, writing
from assay.store.evidence_tables import (
    tenant_activity,
    tenant_affiliation,
    tenant_ignore,
    tenant_provider,
)
from assay.store.tables import tenant_pseudonym
from assay.store.traffic import load_ignore_votes, load_voters

NOW = datetime(2026, 7, 4, 14, 30, tzinfo=UTC)
TODAY = (NOW - datetime(1970, 1, 1, tzinfo=UTC)).days
DAY = timedelta(days=1)
MODEL, OTHER = "lab/one", "lab/two"
NO_PROVIDERS: frozenset[str] = frozenset()
BOTH, ONE = frozenset({"novita", "groq"}), frozenset({"novita"})


def put(store: Engine, table: Table, *rows: tuple[object, ...]) -> None:
    names = [column.name for column in table.columns]
    with writing(store) as connection:
        connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])


def read(store: Engine, *preferences: Preference) -> tuple[IgnoreVote, ...]:
    with reading(store) as connection:
        return load_ignore_votes(connection, preferences, NOW)


@pytest.fixture
def two_tenants(store: Engine) -> Engine:
    """Store two eligible tenants: acme with two pseudonyms, zeta with one."""
    put(
        store, tenant_pseudonym,
        ("p-acme-1", "acme", NOW - 20 * DAY),
        ("p-acme-2", "acme", NOW - 3 * DAY),
        ("p-zeta", "zeta", NOW - 14 * DAY),
    )  # fmt: skip
    put(
        store, tenant_provider,
        ("p-acme-1", "novita", TODAY - 28, 100), ("p-acme-2", "novita", TODAY - 1, 50),
        ("p-acme-2", "groq", TODAY - 1, 50),
        ("p-zeta", "novita", TODAY - 5, 199), ("p-zeta", "groq", TODAY - 5, 1),
    )  # fmt: skip
    put(
        store,
        tenant_activity,
        *((p, MODEL, TODAY - 2, 1) for p in ("p-acme-1", "p-acme-2", "p-zeta")),
    )
    return store


def test_all_pseudonyms_of_a_tenant_are_one_voter(two_tenants: Engine) -> None:
    put(
        two_tenants,
        tenant_ignore,
        ("p-acme-1", MODEL, "groq", TODAY - 28),
        ("p-acme-2", MODEL, "novita", TODAY - 1),
    )
    put(two_tenants, tenant_activity, ("p-zeta", OTHER, TODAY - 28, 7))
    put(two_tenants, tenant_affiliation, ("zeta", "groq"))
    with reading(two_tenants) as connection:
        acme, zeta = load_voters(connection, NOW)
    assert acme == Voter(
        "acme",
        NOW - 20 * DAY,
        {"novita": 150, "groq": 50},
        {MODEL: frozenset({"groq", "novita"})},
        NO_PROVIDERS,
        {"novita": 150, "groq": 50},
    )
    assert zeta == Voter(
        "zeta",
        NOW - 14 * DAY,
        {"novita": 199, "groq": 1},
        {MODEL: NO_PROVIDERS, OTHER: NO_PROVIDERS},
        frozenset({"groq"}),
        {"novita": 199, "groq": 1},
    )


def test_standing_preferences_count_under_the_tenants_own_name(two_tenants: Engine) -> None:
    preferences = [
        Preference("acme", "ignore", "groq"),
        Preference("zeta", "pin", "groq"),
        Preference("new", "ignore", "groq"),
    ]
    assert read(two_tenants, *preferences) == (
        IgnoreVote("acme", MODEL, frozenset({"groq"}), tried=BOTH),
        IgnoreVote("zeta", MODEL, tried=ONE),
    )


def test_votes_about_a_provider_expire_eight_weeks_after_the_last_calls(
    two_tenants: Engine,
) -> None:
    put(
        two_tenants, tenant_provider,
        ("p-zeta", "kept", TODAY - 56, 20), ("p-zeta", "expired", TODAY - 57, 20),
    )  # fmt: skip
    zeta = read(two_tenants, Preference("zeta", "ignore", "kept"))[1]
    assert zeta.tried == frozenset({"kept", "novita"})


@pytest.mark.parametrize("day", [TODAY - 29, TODAY])
def test_only_the_last_28_whole_days_count(two_tenants: Engine, day: int) -> None:
    put(two_tenants, tenant_ignore, ("p-acme-1", MODEL, "groq", day))
    put(two_tenants, tenant_activity, ("p-acme-1", OTHER, day, 1))
    acme = IgnoreVote("acme", MODEL, tried=BOTH)
    assert read(two_tenants) == (acme, IgnoreVote("zeta", MODEL, tried=ONE))


def test_an_erased_tenant_has_no_vote(two_tenants: Engine) -> None:
    erase_tenant(two_tenants, "acme")
    zeta = IgnoreVote("zeta", MODEL, tried=ONE)
    assert read(two_tenants, Preference("acme", "ignore", "groq")) == (zeta,)


def test_without_traffic_there_are_no_votes(store: Engine) -> None:
    assert read(store, *(Preference(f"t{n}", "ignore", "groq") for n in range(99))) == ()
