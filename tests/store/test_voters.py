"""Who has a say, from what was counted: tenants by their own names, over whole days, the erased and unseen left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, Table, insert

from assay.decision_log.retention import erase_tenant
from assay.engine.evidence.ignores import Voter
from assay.engine.world.measurements import IgnoreVote
from assay.engine.world.tenants import Preference
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
NOBODY: frozenset[str] = frozenset()


def put(store: Engine, table: Table, *rows: tuple[object, ...]) -> None:
    names = [column.name for column in table.columns]
    with writing(store) as connection:
        connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])


def read(store: Engine, *preferences: Preference) -> tuple[IgnoreVote, ...]:
    with reading(store) as connection:
        return load_ignore_votes(connection, preferences, NOW)


@pytest.fixture
def seen(store: Engine) -> Engine:
    """Acme under two pseudonyms, zeta under one; both eligible, asking for tools of one model."""
    put(
        store, tenant_pseudonym,
        ("p-acme-1", "acme", NOW - 20 * DAY), ("p-acme-2", "acme", NOW - 3 * DAY), ("p-zeta", "zeta", NOW - 14 * DAY),
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


def test_a_tenant_is_one_whatever_its_pseudonyms(seen: Engine) -> None:
    put(
        seen,
        tenant_ignore,
        ("p-acme-1", MODEL, "groq", TODAY - 28),
        ("p-acme-2", MODEL, "novita", TODAY - 1),
    )
    put(seen, tenant_activity, ("p-zeta", OTHER, TODAY - 28, 7))
    put(seen, tenant_affiliation, ("zeta", "groq"))
    with reading(seen) as connection:
        acme, zeta = load_voters(connection, NOW)
    assert acme == Voter(
        "acme",
        NOW - 20 * DAY,
        {"novita": 150, "groq": 50},
        {MODEL: frozenset({"groq", "novita"})},
        NOBODY,
    )
    assert zeta == Voter(
        "zeta",
        NOW - 14 * DAY,
        {"novita": 199, "groq": 1},
        {MODEL: NOBODY, OTHER: NOBODY},
        frozenset({"groq"}),
    )


def test_standing_preferences_count_by_the_tenants_own_name(seen: Engine) -> None:
    wishes = [
        Preference("acme", "ignore", "groq"),
        Preference("zeta", "pin", "groq"),
        Preference("new", "ignore", "groq"),
    ]
    assert read(seen, *wishes) == (
        IgnoreVote("acme", MODEL, frozenset({"groq"})),
        IgnoreVote("zeta", MODEL),
    )


@pytest.mark.parametrize("day", [TODAY - 29, TODAY])
def test_only_the_last_28_whole_days_count(seen: Engine, day: int) -> None:
    put(seen, tenant_ignore, ("p-acme-1", MODEL, "groq", day))
    put(seen, tenant_activity, ("p-acme-1", OTHER, day, 1))
    assert read(seen) == (IgnoreVote("acme", MODEL), IgnoreVote("zeta", MODEL))


def test_who_was_erased_drops_out(seen: Engine) -> None:
    erase_tenant(seen, "acme")
    assert read(seen, Preference("acme", "ignore", "groq")) == (IgnoreVote("zeta", MODEL),)


def test_nobody_has_a_say_where_nobody_was_seen(store: Engine) -> None:
    assert read(store, *(Preference(f"t{n}", "ignore", "groq") for n in range(99))) == ()
