"""Names of providers: slug, tag or display name, in any case; unknown ones are warned of."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st
from tests.support.worlds import (
    MODEL,
    endpoint,
    judge_world,
    make_request,
    plan_for,
    reasons,
    tags,
    world,
)

from assay.engine.snapshot.snapshot import Snapshot, restore_snapshot
from assay.engine.world.provider_names import ProviderNames
from assay.engine.world.request import ProviderPreferences
from assay.engine.world.world import Preference, TenantSettings

NAMES = ProviderNames(
    [
        ("deepinfra", "deepinfra/fp8", "DeepInfra"),
        ("deepinfra", "deepinfra", "DeepInfra"),
        ("amazon-bedrock", "amazon-bedrock", "Amazon Bedrock"),
        ("google-vertex", "google-vertex/europe", "Google"),
        ("google-ai-studio", "google-ai-studio", "Google"),
        ("novita", "novita", None),
        ("mara", "mara", "Novita"),
    ]
)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        pytest.param("deepinfra", ("deepinfra",), id="a slug"),
        pytest.param("DEEPINFRA", ("deepinfra",), id="a slug in capitals"),
        pytest.param("DeepInfra", ("deepinfra",), id="a display name"),
        pytest.param(" deepinfra ", ("deepinfra",), id="space around it"),
        pytest.param("deepinfra/FP8", ("deepinfra/fp8",), id="a tag in capitals"),
        pytest.param("amazon bedrock", ("amazon-bedrock",), id="a display name in small letters"),
        pytest.param(" Amazon  Bedrock", ("amazon-bedrock",), id="more space inside"),
        pytest.param("google", ("google-ai-studio", "google-vertex"), id="two bear the name"),
        pytest.param("Novita", ("novita",), id="a slug comes before another's display name"),
        pytest.param("deepinfr", ("deepinfr",), id="unknown names stay"),
        pytest.param(" ", (" ",), id="space alone"),
    ],
)
def test_a_name_means_slugs_and_tags(name: str, meant: tuple[str, ...]) -> None:
    assert NAMES.resolve((name,)) == meant


def test_plain_names_are_not_copied() -> None:
    names = ("novita", "deepinfra/fp8")
    request = make_request(order=names)
    assert NAMES.resolve(names) is names
    assert NAMES.resolve_request(request) is request


def test_the_order_of_names_is_kept_and_none_is_repeated() -> None:
    assert NAMES.resolve(("Novita", "google", "DeepInfra", "deepinfra")) == (
        "novita", "google-ai-studio", "google-vertex", "deepinfra",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        pytest.param("deepinfr", "deepinfra", id="a letter is missing"),
        pytest.param("DeepInfa", "deepinfra", id="a display name"),
        pytest.param("Amazon Bedrok", "Amazon Bedrock", id="two words"),
        pytest.param("deepinfra/fp4", "deepinfra/fp8", id="a tag"),
        pytest.param("zzzz", "", id="like nothing"),
        pytest.param("d" * 256, "", id="too long to compare"),
    ],
)
def test_an_unknown_name_is_warned_of_with_the_name_that_is_most_like_it(
    name: str, suggestion: str
) -> None:
    [warning] = NAMES.warn(ProviderPreferences(ignore=("novita", name)))
    assert (warning.field, warning.value) == ("provider.ignore[1]", name)
    assert (warning.reason, warning.suggestion) == ("unknown-provider", suggestion)
    assert warning.field in warning.message
    assert name[:64] in warning.message  # long names are cut
    assert suggestion in warning.message


def test_known_names_are_not_warned_of() -> None:
    wants = ProviderPreferences(order=("Google",), only=("novita",), ignore=(" deepinfra",))
    assert NAMES.warn(wants) == ()


def test_every_list_is_checked() -> None:
    wants = ProviderPreferences(order=("a",), only=("b", "c"), ignore=("d",))
    assert [warning.field for warning in NAMES.warn(wants)] == [
        "provider.order[0]", "provider.only[0]", "provider.only[1]", "provider.ignore[0]",
    ]  # fmt: skip


@given(st.lists(st.text(min_size=1, max_size=6), max_size=4).map(tuple))
def test_resolving_twice_changes_nothing(names: tuple[str, ...]) -> None:
    once = NAMES.resolve(names)
    assert NAMES.resolve(once) == once


# --- in plans -------------------------------------------------------------------------------------


def named_world(**more: TenantSettings | Preference) -> Snapshot:
    tenants = tuple(each for each in more.values() if isinstance(each, TenantSettings))
    preferences = tuple(each for each in more.values() if isinstance(each, Preference))
    offers = (
        endpoint("deepinfra", provider_name="DeepInfra"),
        endpoint("amazon-bedrock", provider_name="Amazon Bedrock", price=2.0),
        endpoint("novita", price=3.0),
    )
    return judge_world(world(*offers, tenants=tenants, preferences=preferences))


@pytest.mark.parametrize("name", ["DeepInfra", " deepinfra", "DEEPINFRA", "deepinfra"])
def test_an_ignored_provider_is_left_out_by_any_of_its_names(name: str) -> None:
    answer = plan_for(named_world(), ignore=(name,))
    assert sorted(tags(answer)) == ["amazon-bedrock", "novita"]
    assert reasons(answer) == {"deepinfra": ["ignored"]}


def test_only_and_order_take_display_names() -> None:
    assert tags(plan_for(named_world(), only=("Amazon Bedrock",))) == ["amazon-bedrock"]
    order = ("NOVITA", "amazon bedrock")
    assert tags(plan_for(named_world(), order=order, allow_fallbacks=False)) == [
        "novita", "amazon-bedrock",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["deepinfr", " "])
def test_an_allow_list_of_unknown_names_admits_no_endpoint(name: str) -> None:
    assert tags(plan_for(named_world(), only=(name,))) == []


def test_an_unknown_name_beside_a_known_one_admits_only_the_known_one() -> None:
    answer = plan_for(named_world(), only=("DeepInfra", "novta"))
    assert tags(answer) == ["deepinfra"]
    assert [each.suggestion for each in answer.warnings] == ["novita"]


def test_many_unknown_names_give_a_small_answer() -> None:
    names = tuple(f"{number:0200}" for number in range(250))
    found = NAMES.warn(ProviderPreferences(ignore=names, only=("not there", *names[:99])))
    assert [each.field for each in found[:2]] == ["provider.only[0]", "provider.only[1]"]
    assert (found[-1].field, found[-1].value) == ("provider", "334 more")
    assert len(found) == 17
    assert sum(len(each.message) + len(each.value) for each in found) < 10_000


def test_settings_and_preferences_of_tenants_take_display_names() -> None:
    settings = TenantSettings("acme", ignore=("Amazon Bedrock",))
    preference = Preference("acme", "ignore", "DeepInfra")
    snapshot = named_world(settings=settings, preference=preference)
    assert tags(plan_for(snapshot, tenant="acme")) == ["novita"]


def test_a_restored_snapshot_knows_the_names() -> None:
    snapshot = named_world()
    again = restore_snapshot(snapshot.manifest, snapshot.parts, snapshot.policy)
    assert tags(plan_for(again, only=("Amazon Bedrock",))) == ["amazon-bedrock"]
    newer = restore_snapshot(snapshot.manifest, snapshot.parts, snapshot.policy, former=again)
    assert newer.provider_names is again.provider_names


def test_a_snapshot_of_an_earlier_version_takes_names_literally() -> None:
    snapshot = named_world()
    head = json.loads(snapshot.manifest)
    del head["provider_names"]
    manifest = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    former = restore_snapshot(manifest, snapshot.parts, snapshot.policy)
    assert sorted(tags(plan_for(former, ignore=("DeepInfra",)))) == [
        "amazon-bedrock", "deepinfra", "novita",
    ]  # fmt: skip
    assert plan_for(former, ignore=("typo",)).warnings == ()
    assert former.models.keys() == {MODEL}
