"""A restored snapshot plans the same bytes; an altered part is rejected."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.support.worlds import (
    AS_OF,
    HOUR,
    MODEL,
    OTHER,
    judge_world,
    make_moment,
    make_request,
    mixed_snapshot,
    mixed_world,
    plan_for,
    shipped_policy,
)

from assay.engine.canonical import address, canonical
from assay.engine.decide.explanation import explain
from assay.engine.decide.plan import plan
from assay.engine.snapshot.snapshot import Snapshot, read_policy_source, restore_snapshot
from assay.engine.world.catalog import PriceOverride, Prices
from assay.engine.world.request import MaxPrice, ProviderPreferences, Request
from assay.engine.world.world import Preference, TenantSettings, World


def full_world() -> World:
    """The mixed world with tenants, preferences, and a price by hour, day and prompt length."""
    night = PriceOverride(Prices(prompt=0.01), utc_start=22 * 60, utc_end=6 * 60)
    long = PriceOverride(Prices(completion=7.0), min_prompt_tokens=1000, utc_days=(1, 2))
    of = mixed_world()
    first, *rest = of.endpoints
    tenants = (
        TenantSettings(
            "acme",
            only=("good1", "good2"),
            ignore=("good2",),
            zdr=False,
            deny_data_collection=False,
        ),
    )
    preferences = (Preference("acme", "pin", "good1"), Preference("zeta", "ignore", "good3", MODEL))
    endpoints = (replace(first, overrides=(night, long)), *rest)
    return replace(of, endpoints=endpoints, tenants=tenants, preferences=preferences)


def restored(snapshot: Snapshot) -> Snapshot:
    return restore_snapshot(snapshot.manifest, snapshot.parts, snapshot.policy)


REQUESTS = [
    pytest.param(make_request(), id="plain"),
    pytest.param(make_request(f"{MODEL}:exacto", tools=2), id="exacto"),
    pytest.param(
        make_request(f"{MODEL}:exacto:nitro", OTHER, tools=2, partition="none"),
        id="two models, one order",
    ),
    pytest.param(make_request(tenant="acme"), id="a tenant with settings"),
    pytest.param(make_request(tenant="zeta", tools=1), id="a tenant with a preference"),
    pytest.param(
        make_request(prompt_tokens=2000, max_price=MaxPrice(completion=5.0)),
        id="a price of the prompt's length",
    ),
    pytest.param(
        make_request(f"{MODEL}:floor", provider=ProviderPreferences(ignore=("good1/priority",))),
        id="floor",
    ),
]


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("hours", [0, 12], ids=["by day", "by night"])
def test_a_restored_snapshot_plans_the_same(request_: Request, hours: int) -> None:
    snapshot, at = judge_world(full_world()), make_moment(now=AS_OF + hours * HOUR)
    copy = restored(snapshot)
    one, other = explain(request_, snapshot, at), explain(request_, copy, at)
    assert one.plan.canonical() == other.plan.canonical()
    assert plan(request_, snapshot, at).excluded == plan(request_, copy, at).excluded
    assert canonical([[path, value] for seen in one.seen for path, value in seen]) == canonical(
        [[path, value] for seen in other.seen for path, value in seen]
    )


def test_a_restored_snapshot_equals_the_original() -> None:
    copy = restored(mixed_snapshot())
    assert (copy.snapshot_id, copy.as_of) == (mixed_snapshot().snapshot_id, AS_OF)
    assert copy.pools == mixed_snapshot().pools
    assert copy.tenants == mixed_snapshot().tenants


def test_parts_are_keyed_by_the_hash_of_their_content() -> None:
    snapshot = mixed_snapshot()
    assert snapshot.snapshot_id == address(snapshot.manifest)
    assert all(address(data) == name for name, data in snapshot.parts.items())
    head = json.loads(snapshot.manifest)
    listed = {
        head["policy"],
        head["provider_names"],
        *head["tenants"],
        *head["models"].values(),
        *(name for *_, name in head["pools"]),
    }
    assert listed == set(snapshot.parts)


@pytest.mark.parametrize("place", range(3))
def test_an_altered_part_is_rejected(place: int) -> None:
    name = sorted(mixed_snapshot().parts)[place]
    altered = {
        **mixed_snapshot().parts,
        name: mixed_snapshot().parts[name].replace(b"1", b"2", 1) + b" ",
    }
    with pytest.raises(ValueError, match=f"part {name} was altered"):
        restore_snapshot(mixed_snapshot().manifest, altered, shipped_policy())


def test_a_missing_part_is_rejected() -> None:
    head = json.loads(mixed_snapshot().manifest)
    parts = {
        name: data for name, data in mixed_snapshot().parts.items() if name != head["models"][MODEL]
    }
    with pytest.raises(KeyError):
        restore_snapshot(mixed_snapshot().manifest, parts, shipped_policy())


def test_views_of_unchanged_parts_are_shared_with_the_former_snapshot() -> None:
    former, later = (
        mixed_snapshot(),
        judge_world(replace(mixed_world(), observations=mixed_world().observations[:-1])),
    )
    copy = restore_snapshot(later.manifest, later.parts, later.policy, former=former)
    assert copy.models[MODEL] is former.models[MODEL]
    assert copy.pools["exacto", MODEL] is former.pools["exacto", MODEL]
    assert copy.models[OTHER] is not former.models[OTHER]
    assert (copy.pools, copy.tenants) == (later.pools, later.tenants)
    request = make_request(f"{MODEL}:exacto", OTHER, tools=2)
    assert (
        plan(request, copy, make_moment()).canonical()
        == plan(request, later, make_moment()).canonical()
    )


def test_an_altered_part_is_rejected_although_the_former_snapshot_had_it() -> None:
    name = json.loads(mixed_snapshot().manifest)["models"][MODEL]
    altered = {**mixed_snapshot().parts, name: mixed_snapshot().parts[name] + b" "}
    with pytest.raises(ValueError, match=f"part {name} was altered"):
        restore_snapshot(
            mixed_snapshot().manifest, altered, shipped_policy(), former=mixed_snapshot()
        )


def test_restoring_may_pause_between_parts() -> None:
    pauses: list[None] = []
    restore_snapshot(
        mixed_snapshot().manifest,
        mixed_snapshot().parts,
        shipped_policy(),
        pause=lambda: pauses.append(None),
    )
    assert len(pauses) >= len(mixed_snapshot().models) + len(mixed_snapshot().pools)


def test_a_snapshot_carries_its_policy() -> None:
    source, revision = read_policy_source(mixed_snapshot().manifest, mixed_snapshot().parts)
    assert source == shipped_policy().source
    assert revision == 0


def test_equal_worlds_have_equal_snapshots() -> None:
    assert judge_world(mixed_world()).snapshot_id == mixed_snapshot().snapshot_id


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(
            replace(mixed_world(), endpoints=mixed_world().endpoints[1:]), id="one endpoint fewer"
        ),
        pytest.param(
            replace(mixed_world(), observations=mixed_world().observations[1:]),
            id="one window fewer",
        ),
        pytest.param(
            replace(mixed_world(), tenants=(TenantSettings("acme"),)), id="another tenant"
        ),
        pytest.param(
            replace(mixed_world(), preferences=(Preference("acme", "pin", "x"),)),
            id="another preference",
        ),
    ],
)
def test_different_worlds_have_different_snapshots(changed: World) -> None:
    assert judge_world(changed).snapshot_id != mixed_snapshot().snapshot_id


def test_unchanged_parts_are_shared() -> None:
    one, other = (
        mixed_snapshot(),
        judge_world(replace(mixed_world(), observations=mixed_world().observations[:-1])),
    )
    before, after = json.loads(one.manifest), json.loads(other.manifest)
    assert before["models"][MODEL] == after["models"][MODEL]
    assert before["models"][OTHER] != after["models"][OTHER]
    assert before["policy"] == after["policy"]


def test_a_plan_names_its_snapshot() -> None:
    assert plan_for(mixed_snapshot()).snapshot_id == mixed_snapshot().snapshot_id
