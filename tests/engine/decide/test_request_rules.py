"""The shipped rule sets reproduce OpenRouter's documented routing; the numbers are its items.

Item 6 differs on purpose: `exacto` filters and never sorts. Item 11 (failure before and after the
first token) and the 429 and 503 of item 10 belong to the forwarder and its tests.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from tests.support.worlds import (
    MODEL,
    OTHER,
    endpoint,
    endpoint_ids,
    judge_world,
    make_moment,
    make_observation,
    plan_for,
    reasons,
    tags,
    throughput,
    world,
)

from assay.engine.errors import UnknownModel
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.catalog import Percentiles, Prices
from assay.engine.world.request import MaxPrice
from assay.engine.world.world import TenantSettings
from assay.importers.openrouter import read_openrouter


def served(*endpoints: Any, **more: Any) -> Snapshot:
    return judge_world(world(*endpoints, **more))


PRICED = (
    endpoint("a", price=1.0),
    endpoint("b", price=2.0, uptime_30m_percent=90.0),
    endpoint("c", price=3.0),
)


# --- 1: the price draw ----------------------------------------------------------------------------


def test_item_01_price_draw_is_nine_to_one_and_unstable_endpoints_come_last() -> None:
    snapshot, rounds = served(*PRICED), 10_000
    orders = [
        tuple(tags(plan_for(snapshot, at=make_moment(n.to_bytes(16, "big")))))
        for n in range(rounds)
    ]
    assert set(orders) == {("a", "c", "b"), ("c", "a", "b")}
    assert abs(orders.count(("a", "c", "b")) / rounds - 0.9) < 4 * math.sqrt(0.9 * 0.1 / rounds)


@pytest.mark.parametrize(
    ("trouble", "place"),
    [
        pytest.param({}, 0, id="unknown uptime counts as healthy"),
        pytest.param({"uptime_30m_percent": 95.0}, 0, id="at 95 % as usual"),
        pytest.param({"uptime_30m_percent": 94.9}, 1, id="below 95 % after healthy endpoints"),
        pytest.param({"uptime_30m_percent": 79.9}, 2, id="below 80 % a last resort"),
        pytest.param({"status": -2}, 2, id="a bad status too"),
        pytest.param(
            {"uptime_1d_percent": 70.0}, 2, id="the last day where the last half hour is not known"
        ),
        pytest.param(
            {"uptime_1d_percent": 70.0, "uptime_30m_percent": 99.0},
            0,
            id="the last half hour where it is",
        ),
    ],
)
def test_item_01_uptime_bands_order_endpoints(trouble: dict[str, Any], place: int) -> None:
    others = (endpoint("dear", price=1e9), endpoint("shaky", price=1e9, uptime_30m_percent=90.0))
    answer = tags(plan_for(served(endpoint("a", price=0.01, **trouble), *others)))
    assert answer.index("a") == place


# --- 2: order -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wants", "expected"),
    [
        pytest.param({"order": ("c", "a")}, ["c", "a", "b"], id="the rest follows"),
        pytest.param(
            {"order": ("unlisted", "c")},
            ["c", "a", "b"],
            id="endpoints of other models are skipped",
        ),
        pytest.param(
            {"order": ("c", "b"), "allow_fallbacks": False},
            ["c", "b"],
            id="the order alone without fallbacks",
        ),
        pytest.param(
            {"order": ("unlisted",), "allow_fallbacks": False},
            [],
            id="no other endpoint without fallbacks",
        ),
        pytest.param(
            {"order": ("b",)}, ["b", "a", "c"], id="a named unstable one still comes first"
        ),
        pytest.param({"order": ("c",), "sort": "price"}, ["c", "a", "b"], id="order beats sort"),
        pytest.param(
            {"sort": "price", "allow_fallbacks": False},
            ["a"],
            id="only the top one without fallbacks",
        ),
    ],
)
def test_item_02_order_comes_first(wants: dict[str, Any], expected: list[str]) -> None:
    assert tags(plan_for(served(*PRICED), **wants)) == expected


def test_item_02_order_is_deterministic() -> None:
    snapshot = served(*PRICED)
    plans = {
        tuple(tags(plan_for(snapshot, order=("b",), at=make_moment(n.to_bytes(16, "big")))))
        for n in range(100)
    }
    assert plans == {("b", "a", "c")}


# --- 3: layers ------------------------------------------------------------------------------------


LAYERED = (
    endpoint("a", price=1.0, zdr=True, collects_data=False),
    endpoint("b", price=2.0, zdr=True, collects_data=True),
    endpoint("c", price=3.0, zdr=False, collects_data=False),
    endpoint("d", price=4.0),
)


@pytest.mark.parametrize(
    ("tenant", "wants", "expected"),
    [
        pytest.param({}, {}, "abcd", id="no preference at all"),
        pytest.param({"only": ("a", "b")}, {"only": ("b", "c")}, "b", id="only is an intersection"),
        pytest.param({"only": ("a",)}, {"only": ("b",)}, "", id="an empty list"),
        pytest.param({"ignore": ("a",)}, {"ignore": ("b",)}, "cd", id="ignore is a union"),
        pytest.param({"ignore": ("a",)}, {"only": ("a", "b")}, "b", id="only does not undo ignore"),
        pytest.param(
            {"only": ("a", "b")}, {"order": ("c", "b")}, "ba", id="order admits no other endpoint"
        ),
        pytest.param({}, {"zdr": True}, "ab", id="the request asks for zdr"),
        pytest.param({"zdr": True}, {}, "ab", id="the tenant's settings require zdr"),
        pytest.param(
            {"zdr": True}, {"zdr": False}, "ab", id="a request cannot relax the tenant's settings"
        ),
        pytest.param({}, {"data_collection": "deny"}, "ac", id="the request denies collection"),
        pytest.param(
            {"deny_data_collection": True},
            {"data_collection": "allow"},
            "ac",
            id="the tenant's settings deny collection",
        ),
        pytest.param({"zdr": True}, {"data_collection": "deny"}, "a", id="both"),
    ],
)
def test_item_03_layers_only_narrow(
    tenant: dict[str, Any], wants: dict[str, Any], expected: str
) -> None:
    snapshot = served(*LAYERED, tenants=[TenantSettings("acme", **tenant)])
    sort: dict[str, Any] = {} if "order" in wants else {"sort": "price"}
    assert "".join(tags(plan_for(snapshot, tenant="acme", **sort, **wants))) == expected


def test_item_03_every_layer_has_its_own_reason() -> None:
    acme = TenantSettings(
        "acme", only=("a", "b", "c"), ignore=("b",), zdr=True, deny_data_collection=True
    )
    answer = plan_for(served(*LAYERED, tenants=[acme]), tenant="acme", ignore=("c",))
    assert reasons(answer) == {
        "b": ["ignored", "data_policy:training"],
        "c": ["ignored", "data_policy:zdr"],
        "d": ["allowed_providers", "data_policy:zdr", "data_policy:training"],
    }


# --- 4: price limits remove, speed wishes demote --------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param(MaxPrice(prompt=2.0), "ab", id="a price at the limit is within"),
        pytest.param(MaxPrice(prompt=1.99), "a", id="one above is not"),
        pytest.param(MaxPrice(completion=1.0), "ac", id="of the completion"),
        pytest.param(MaxPrice(prompt=3.0, completion=1.0), "ac", id="all limits hold"),
        pytest.param(MaxPrice(request=0.0), "a", id="unknown prices are not within a limit"),
        pytest.param(MaxPrice(image=0.5), "b", id="per image"),
        pytest.param(MaxPrice(audio=4.0), "c", id="of audio"),
    ],
)
def test_item_04_max_price_excludes(limit: MaxPrice, expected: str) -> None:
    snapshot = served(
        endpoint("a", prices=Prices(prompt=1.0, completion=1.0, request_usd=0.0)),
        endpoint("b", prices=Prices(prompt=2.0, completion=2.0, request_usd=0.1, image_usd=0.5)),
        endpoint("c", prices=Prices(prompt=3.0, completion=0.5, audio=4.0)),
        endpoint("d", price=None),
    )
    answer = plan_for(snapshot, max_price=limit)
    assert "".join(sorted(tags(answer))) == expected
    assert {reason for found in reasons(answer).values() for reason in found} == {"max_price"}


@pytest.mark.parametrize(
    ("wants", "expected"),
    [
        pytest.param({}, "abcd", id="by price"),
        pytest.param({"preferred_min_throughput": Percentiles(p50=50.0)}, "abcd",
                     id="endpoints of unknown speed come last"),
        pytest.param({"preferred_min_throughput": Percentiles(p50=60.0)}, "bcad",
                     id="slow endpoints come last"),
        pytest.param({"preferred_min_throughput": Percentiles(p50=60.0, p90=30.0)}, "cabd",
                     id="both preferences must hold"),
        pytest.param({"preferred_max_latency": Percentiles(p50=0.5)}, "abcd", id="in seconds"),
        pytest.param({"preferred_max_latency": Percentiles(p50=0.4)}, "bacd", id="latency"),
        pytest.param({"preferred_max_latency": Percentiles(p50=0.4),
                      "preferred_min_throughput": Percentiles(p90=30.0)},
                     "abcd", id="no endpoint meets both preferences"),
    ],
)  # fmt: skip
def test_item_04_preferred_only_demotes(wants: dict[str, Any], expected: str) -> None:
    snapshot = served(
        endpoint("a", price=1.0, latency_s=Percentiles(p50=0.5), **throughput(50.0, p90=40.0)),
        endpoint("b", price=2.0, latency_s=Percentiles(p50=0.3), **throughput(60.0, p90=20.0)),
        endpoint("c", price=3.0, latency_s=Percentiles(p50=0.5), **throughput(70.0, p90=30.0)),
        endpoint("d", price=4.0),
    )
    assert "".join(tags(plan_for(snapshot, sort="price", **wants))) == expected


# --- 5: what a provider name matches --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "acme",
            ["acme", "acme/fp8", "acme/fp8~2", "acme/us"],
            id="a base slug: all but the tier",
        ),
        pytest.param("acme/fp8", ["acme/fp8", "acme/fp8~2"], id="a tag that repeats: both"),
        pytest.param("acme/us", ["acme/us"], id="a tag: one"),
        pytest.param("acme/flex", ["acme/flex"], id="a tier's tag admits it"),
        pytest.param("other", ["other"], id="another provider"),
    ],
)
def test_item_05_a_base_slug_matches_all_its_tags(name: str, expected: list[str]) -> None:
    acme = [
        endpoint("acme"),
        endpoint("acme/fp8"),
        endpoint("acme/fp8", number=2),
        endpoint("acme/us"),
    ]
    snapshot = served(*acme, endpoint("acme/flex"), endpoint("other"))
    everyone = ["acme", "acme/fp8", "acme/fp8~2", "acme/us", "other"]
    listed = [f"{MODEL}@{tag}" for tag in expected]
    assert sorted(endpoint_ids(plan_for(snapshot, only=(name,)))) == listed
    assert sorted(endpoint_ids(plan_for(snapshot, order=(name,)))[: len(expected)]) == listed
    left = [f"{MODEL}@{tag}" for tag in everyone if tag not in expected]
    assert sorted(endpoint_ids(plan_for(snapshot, ignore=(name,)))) == left


@pytest.mark.parametrize(
    ("suffix", "wants", "expected"),
    [
        pytest.param("", {}, ["acme"], id="no service tier unless requested"),
        pytest.param(":nitro", {}, ["acme", "acme/priority"], id="nitro admits priority"),
        pytest.param(":floor", {}, ["acme", "acme/flex"], id="floor admits flex"),
        pytest.param(
            ":nitro",
            {"service_tier": "default"},
            ["acme"],
            id="an explicit default tier admits no other",
        ),
        pytest.param(
            ":nitro",
            {"service_tier": "auto"},
            ["acme", "acme/priority"],
            id="auto equals no service tier",
        ),
        pytest.param(
            "", {"service_tier": "priority"}, ["acme", "acme/priority"], id="priority, then others"
        ),
        pytest.param(
            "", {"service_tier": "flex"}, ["acme/flex"], id="flex alone where there is any"
        ),
        pytest.param(
            ":nitro", {"order": ("acme",)}, ["acme"], id="order switches a suffix's tiers off"
        ),
    ],
)
def test_item_05_service_tiers_serve_only_when_requested(
    suffix: str, wants: dict[str, Any], expected: list[str]
) -> None:
    snapshot = served(endpoint("acme"), endpoint("acme/flex"), endpoint("acme/priority"))
    assert sorted(tags(plan_for(snapshot, MODEL + suffix, **wants))) == expected


def test_item_05_a_requested_tier_comes_first() -> None:
    snapshot = served(
        endpoint("acme", price=1.0),
        endpoint("acme/priority", price=9.0),
        endpoint("other", price=2.0),
    )
    assert tags(plan_for(snapshot, service_tier="priority", sort="price")) == [
        "acme/priority",
        "acme",
        "other",
    ]


# --- suffixes together: exacto filters, the last suffix that sorts sorts -----------


def vetted() -> Snapshot:
    """Good and weak endpoints of a model and its free row: a, b, w by price, w, b, a by speed."""
    free = f"{MODEL}:free"
    tagged = (("a", 1.0, 10.0), ("b", 2.0, 20.0), ("w", 3.0, 30.0))
    return served(
        *(
            endpoint(tag, model, price=price, **throughput(speed))
            for model in (MODEL, free, OTHER)
            for tag, price, speed in tagged
        ),
        observations=[
            make_observation(tag, 600 if tag == "w" else 0, model=model)
            for model in (MODEL, free, OTHER)
            for tag, *_ in tagged
        ],
    )


@pytest.mark.parametrize(
    ("suffixes", "expected"),
    [
        pytest.param(":floor", "abw", id="floor sorts by price"),
        pytest.param(":nitro", "wba", id="nitro by throughput"),
        pytest.param(":nitro:floor", "abw", id="floor after nitro sorts by price"),
        pytest.param(":floor:nitro", "wba", id="nitro after floor by throughput"),
        pytest.param(":nitro:exacto", "ba", id="exacto after nitro leaves nitro to sort"),
        pytest.param(":exacto:nitro", "ba", id="as before the tick"),
        pytest.param(":exacto:floor", "ab", id="exacto and floor"),
        pytest.param(":floor:exacto:nitro", "ba", id="three"),
        pytest.param(":free:nitro", "wba", id="the free row, sorted"),
        pytest.param(":nitro:free", "wba", id="in either order"),
        pytest.param(":free:exacto:floor", "ab", id="the free row has a pool of its own"),
    ],
)
def test_item_06_suffixes_compose(suffixes: str, expected: str) -> None:
    answer = plan_for(vetted(), MODEL + suffixes)
    assert "".join(tags(answer)) == expected
    assert {a.model for a in answer.attempts} == {f"{MODEL}:free" if "free" in suffixes else MODEL}


@pytest.mark.parametrize("tools", [0, 2])
def test_item_06_nitro_and_exacto_give_one_plan_in_either_order(tools: int) -> None:
    one, other = (
        plan_for(vetted(), f"{MODEL}:{s}", tools=tools) for s in ("nitro:exacto", "exacto:nitro")
    )
    assert one.canonical() == other.canonical()


def test_item_06_a_missing_catalog_row_never_falls_back_to_the_base() -> None:
    with pytest.raises(UnknownModel, match=f"{MODEL}:batch"):
        plan_for(vetted(), f"{MODEL}:batch:nitro")


# --- 7: several models ----------------------------------------------------------------------------


def test_item_07_each_model_has_its_own_suffix() -> None:
    answer = plan_for(vetted(), f"{MODEL}:exacto", OTHER, sort="price")
    assert [(a.model, a.tag) for a in answer.attempts] == [
        (MODEL, "a"), (MODEL, "b"), (OTHER, "a"), (OTHER, "b"), (OTHER, "w"),
    ]  # fmt: skip


def test_item_07_partition_none_merges_sorts_but_not_filters() -> None:
    answer = plan_for(vetted(), f"{MODEL}:exacto", OTHER, sort="price", partition="none")
    assert [(a.model, a.tag) for a in answer.attempts] == [
        (MODEL, "a"), (OTHER, "a"), (MODEL, "b"), (OTHER, "b"), (OTHER, "w"),
    ]  # fmt: skip
    assert [(v.model, v.tag) for v in answer.excluded] == [(MODEL, "w")]


def test_item_07_the_first_models_suffix_orders_merged_models() -> None:
    answer = plan_for(vetted(), f"{MODEL}:nitro", f"{OTHER}:floor", partition="none")
    assert [a.tag for a in answer.attempts] == ["w", "w", "b", "b", "a", "a"]


# --- 8, 9: the soft tiers -------------------------------------------------------------------------


def tiered(**errored: int | None) -> Snapshot:
    """Endpoints by the bad calls of 2000 that were seen of them; the later, the cheaper by far."""
    priced = [endpoint(tag, price=10.0 ** (8 - 2 * place)) for place, tag in enumerate(errored)]
    return served(
        *priced,
        observations=[
            make_observation(tag, bad) for tag, bad in errored.items() if bad is not None
        ],
    )


def test_item_08_requests_with_tools_use_the_tiers() -> None:
    snapshot = tiered(good=0, fair=2, fine=1, sound=2, unseen=None, bad=500)
    assert tags(plan_for(snapshot)) == ["bad", "unseen", "sound", "fine", "fair", "good"]
    assert tags(plan_for(snapshot, tools=1)) == ["sound", "fine", "fair", "good", "unseen", "bad"]
    assert tags(plan_for(snapshot, sort="exacto")) == [
        "sound",
        "fine",
        "fair",
        "good",
        "unseen",
        "bad",
    ]


@pytest.mark.parametrize(
    "wants",
    [
        pytest.param({"model": f"{MODEL}:floor"}, id="floor"),
        pytest.param({"sort": "price"}, id="sort by price"),
    ],
)
def test_item_08_an_explicit_sort_disables_the_tiers(wants: dict[str, Any]) -> None:
    snapshot = tiered(good=0, fair=2, fine=1, sound=2, unseen=None, bad=500)
    assert tags(plan_for(snapshot, tools=1, **wants)) == [
        "bad",
        "unseen",
        "sound",
        "fine",
        "fair",
        "good",
    ]


@pytest.mark.parametrize(
    "wants",
    [
        pytest.param({}, id="no tools requested"),
        pytest.param({"sort": "price"}, id="sort by price"),
        pytest.param({"sort": "throughput"}, id="sort by throughput"),
        pytest.param({"sort": "latency"}, id="sort by latency"),
        pytest.param({"sort": "exacto"}, id="sort by quality"),
        pytest.param({"order": ("bad", "unseen")}, id="order"),
        pytest.param({"only": ("bad", "good")}, id="only"),
    ],
)
def test_item_08_no_sort_bypasses_the_hard_pool(wants: dict[str, Any]) -> None:
    snapshot = tiered(good=0, fair=2, fine=1, sound=2, unseen=None, bad=500)
    for tools in (0, 1):
        attempted = set(tags(plan_for(snapshot, f"{MODEL}:exacto", tools=tools, **wants)))
        assert attempted == ({"good"} if "only" in wants else {"good", "fair", "fine", "sound"})


def test_item_08_the_soft_tiers_exclude_no_endpoint() -> None:
    answer = plan_for(tiered(good=0, unseen=None, bad=2000), tools=1)
    assert tags(answer) == ["good", "unseen", "bad"]
    assert answer.excluded == ()


@pytest.mark.parametrize(
    ("errored", "last"),
    [
        # 96 % is above the absolute floor of 93 % but far below peers near 100 %
        pytest.param({"a": 0, "b": 1, "odd": 80}, None, id="two peers are too few"),
        pytest.param(
            {"a": 0, "b": 1, "c": 2, "odd": 80}, "odd", id="with four in all the outlier comes last"
        ),
        pytest.param({"a": 0, "odd": 400}, "odd", id="the absolute floor needs no peers"),
    ],
)
def test_item_09_the_live_cutoff_needs_four_peers(
    errored: dict[str, int], last: str | None
) -> None:
    answer = tags(plan_for(tiered(**errored), tools=1))
    assert (answer[-1] == "odd") is (last == "odd")


@pytest.mark.parametrize(
    ("requests", "calls", "middle"),
    [
        pytest.param(300, 200, False, id="enough of both"),
        pytest.param(300, 199, True, id="a tool call too few"),
        pytest.param(99, 99, True, id="a request too few"),
    ],
)
def test_item_09_endpoints_below_the_floors_are_in_the_middle_tier(
    requests: int, calls: int, *, middle: bool
) -> None:
    snapshot = served(
        endpoint("sound", price=1e6),
        endpoint("bad", price=1e-6),
        endpoint("few", price=1.0),
        observations=[
            make_observation("sound"),
            make_observation("bad", 800),
            make_observation("few", 0, calls, requests),
        ],
    )
    expected = ["sound", "few", "bad"] if middle else ["few", "sound", "bad"]
    assert tags(plan_for(snapshot, tools=1)) == expected


# --- 10: none left (the forwarder's 404 is made of this) ------------------------------------------


@pytest.mark.parametrize(
    ("wants", "excluded_by"),
    [
        pytest.param({"only": ("unlisted",)}, {"only"}, id="only"),
        pytest.param({"ignore": ("a", "b")}, {"ignored"}, id="ignore"),
        pytest.param({"zdr": True}, {"data_policy:zdr"}, id="zero data retention"),
        pytest.param({"data_collection": "deny"}, {"data_policy:training"}, id="data collection"),
        pytest.param({"max_price": MaxPrice(prompt=0.01)}, {"max_price"}, id="price"),
        pytest.param({"max_tokens": 10**6}, {"context_length"}, id="too long an answer"),
        pytest.param({"prompt_tokens": 10**6}, {"context_length"}, id="too long a prompt"),
        pytest.param(
            {"require_parameters": True, "parameters": ("seed",)},
            {"require_parameters"},
            id="parameters",
        ),
        pytest.param({"quantizations": ("fp32",)}, {"quantization"}, id="quantization"),
        pytest.param({"input_modalities": ("image",)}, {"policy"}, id="modality"),
        pytest.param({"enforce_distillable_text": True}, {"policy"}, id="distillation"),
        pytest.param({"model": f"{MODEL}:exacto"}, {"EVIDENCE_ABSENT"}, id="quality"),
    ],
)
def test_item_10_a_plan_without_attempts_has_reasons(
    wants: dict[str, Any], excluded_by: set[str]
) -> None:
    answer = plan_for(
        served(endpoint("a", context_length=1000), endpoint("b", context_length=1000)), **wants
    )
    assert answer.attempts == ()
    assert answer.availability == "constraint_filtered"
    assert {reason for found in reasons(answer).values() for reason in found} == excluded_by
    assert set(reasons(answer)) == {"a", "b"}


@pytest.mark.parametrize(
    ("supporting", "parameters", "tools", "expected"),
    [
        pytest.param(
            {"a": ("tools",), "b": ()},
            (),
            1,
            "a",
            id="tools: those that support them, where any does",
        ),
        pytest.param({"a": (), "b": ()}, (), 1, "ab", id="all endpoints if none supports it"),
        pytest.param(
            {"a": ("response_format",), "b": ()},
            ("response_format",),
            0,
            "a",
            id="response_format likewise",
        ),
        pytest.param(
            {"a": ("verbosity",), "b": ()}, ("verbosity",), 0, "a", id="verbosity likewise"
        ),
        pytest.param(
            {"a": ("seed",), "b": ()}, ("seed",), 0, "ab", id="no other parameter, unless required"
        ),
    ],
)
def test_item_10_required_capabilities_exclude_endpoints(
    supporting: dict[str, tuple[str, ...]], parameters: tuple[str, ...], tools: int, expected: str
) -> None:
    snapshot = served(
        *(endpoint(tag, supported_parameters=names) for tag, names in supporting.items())
    )
    assert "".join(sorted(tags(plan_for(snapshot, tools=tools, parameters=parameters)))) == expected


@pytest.mark.parametrize(
    ("limits", "max_tokens", "fits"),
    [
        pytest.param(
            {"max_completion_tokens": 100, "context_length": 1000}, 100, True, id="at the limit"
        ),
        pytest.param(
            {"max_completion_tokens": 100, "context_length": 1000}, 101, False, id="above it"
        ),
        pytest.param(
            {"context_length": 1000}, 1000, True, id="no limit stated: the context length is"
        ),
        pytest.param({"context_length": 1000}, 1001, False, id="longer than the context length"),
        pytest.param({}, 10**9, True, id="nothing stated"),
    ],
)
def test_item_10_completion_limit_excludes_endpoints(
    limits: dict[str, Any], max_tokens: int, *, fits: bool
) -> None:
    assert bool(plan_for(served(endpoint("a", **limits)), max_tokens=max_tokens).attempts) is fits


# --- 12: the importer -----------------------------------------------------------------------------

OFFER = {
    "provider_name": "Acme",
    "tag": "acme",
    "pricing": {"prompt": "0.000001", "completion": "0.000002"},
}


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        pytest.param({}, "prices", Prices(1.0, 2.0, request_usd=0.0), id="prices as text"),
        pytest.param({"pricing": {"prompt": 0.000001, "completion": 0.000002}}, "prices",
                     Prices(1.0, 2.0, request_usd=0.0), id="prices as numbers"),
        pytest.param({"pricing": {}}, "prices", Prices(), id="no prices"),
        pytest.param({"uptime_last_30m": None, "latency_last_30m": None,
                      "throughput_last_30m": None}, "latency_s",
                     Percentiles(), id="metrics that are null"),
        pytest.param({"latency_last_30m": 850}, "latency_s", Percentiles(p50=0.85),
                     id="latency as one number"),
        pytest.param({"latency_last_30m": {"p50": 250, "p75": 400, "p90": 900, "p99": 2000}},
                     "latency_s",
                     Percentiles(0.25, 0.4, 0.9, 2.0), id="latency as percentiles"),
        pytest.param({"throughput_last_30m": 42}, "throughput_tps", Percentiles(p50=42.0),
                     id="one throughput"),
        pytest.param({"something_new": {"deep": [1]}, "native_tools": None}, "provider", "acme",
                     id="unknown keys"),
    ],
)  # fmt: skip
def test_item_12_the_importer_accepts_all_documented_forms(
    changes: dict[str, Any], field: str, expected: object
) -> None:
    snapshot = {
        "generated": "2026-07-04T14:04:07Z",
        "models": [{"id": MODEL, "name": "One"}],
        "endpoints": {MODEL: {"id": MODEL, "endpoints": [{**OFFER, **changes}]}},
    }
    document = read_openrouter(json.dumps(snapshot).encode())
    assert document.rejected == ()
    (found,) = document.endpoints
    assert getattr(found, field) == expected
    assert tags(plan_for(judge_world(world(found)))) == ["acme"]
