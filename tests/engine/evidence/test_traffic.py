"""Traffic becomes evidence, capped by tenant, standardized by strata, joined with imports."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings, strategies as st
from tests.support.traffic_counts import (
    NOW,
    SPEC,
    blend_counts,
    honest_tenants,
    hostile_tenants,
    make_counts,
)
from tests.support.worlds import (
    AS_OF,
    HOUR,
    MODEL,
    OTHER,
    endpoint,
    judge_world,
    make_observation,
    mixed_world,
    shipped_policy,
    world,
)

from assay.engine.evidence.observations import (
    EndpointEvidence,
    FoldedCounts,
    HourCounts,
    fold_observations,
)
from assay.engine.evidence.traffic import add_traffic
from assay.engine.policy.verdict import Verdict
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.measurements import Counts, TrafficCounts
from assay.engine.world.traffic_table import NO_TRAFFIC, TrafficTable
from assay.engine.world.world import World

CAP = 500 * SPEC.design_effect
KEY = shipped_policy().bindings["exacto"].fold


def verdicts(snapshot: Snapshot, model: str = MODEL) -> dict[str, Verdict]:
    return {verdict.tag: verdict for verdict in snapshot.pools["exacto", model].verdicts}


def trafficked(*counts: TrafficCounts, tags: str = "a") -> World:
    return replace(world(*(endpoint(tag) for tag in tags)), traffic={KEY: TrafficTable.of(counts)})


# --- one endpoint ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "calls", "errored"),
    [
        pytest.param([make_counts(100, 5)], 100, 5, id="one tenant"),
        pytest.param([make_counts(100, 5), make_counts(50, 1, tenant="u")], 150, 6, id="two"),
        pytest.param([make_counts(100 * CAP, 10 * CAP)], CAP, CAP / 10, id="one far above its cap"),
        pytest.param([make_counts(2 * CAP, 0), make_counts(2 * CAP, 4, source="other")], CAP, 1,
                     id="one over two sources"),
        pytest.param([make_counts(2 * CAP, 0), make_counts(2 * CAP, 4, stratum=1)], CAP, 1,
                     id="one over two strata"),
        pytest.param([make_counts(10 * CAP, 5, tenant="")], 10 * CAP, 5,
                     id="a source without tenants is not capped"),
        pytest.param([make_counts(2 * CAP, 0, tenant=""), make_counts(40, 0)], CAP + 40, 0,
                     id="a source with tenants is capped"),
        pytest.param([make_counts(10 * CAP, 0, tenant="", source="bare"), make_counts(100, 0)],
                     10 * CAP + 100, 0,
                     id="each source separately"),
        pytest.param([make_counts(0, 0, requests=10**6)], 0, 0, id="requests without calls"),
    ],
)  # fmt: skip
def test_counts_of_one_endpoint_are_capped_and_added(
    counts: list[TrafficCounts], calls: float, errored: float
) -> None:
    found = blend_counts(*counts)["a"]
    assert found.discounted.tool_call_requests == pytest.approx(calls)
    assert found.discounted.errored_requests == pytest.approx(errored)


def test_observed_counts_are_not_capped() -> None:
    early = make_counts(10**6, 10**5, source="one")
    late = replace(
        make_counts(50, 1, tenant="u", source="two"), first_hour=NOW - 3, last_hour=NOW - 2
    )
    found = blend_counts(early, late)["a"]
    assert found.observed == Counts(2 * 10**6 + 100, 10**6 + 50, 10**5 + 1)
    assert found.sources == ("one", "two")
    assert found.main_source == "one"
    assert (found.observed_from, found.observed_to) == (AS_OF - 48 * HOUR, AS_OF)
    assert found.half_life == 24 * HOUR


def test_imported_observations_are_added_and_not_capped() -> None:
    imported = fold_observations(
        [make_observation("a", errored=90, calls=30_000, requests=50_000, age=0 * HOUR)],
        SPEC,
        AS_OF,
    )
    found = blend_counts(make_counts(100, 5, half_life=12 * HOUR), evidence=dict(imported))["a"]
    before = imported[f"{MODEL}@a"].folded
    assert before is not None
    assert found.observed == Counts(50_200, 30_100, 95)
    assert found.discounted == Counts(50_200, 30_100, 95)
    assert found.sources == ("gateway", "monitor")
    assert found.main_source == "monitor"
    assert found.half_life == before.half_life
    assert found.hour.counted == HourCounts(0, 0)


def test_without_traffic_nothing_changes() -> None:
    imported = fold_observations([make_observation("a")], SPEC, AS_OF)
    assert add_traffic(imported, NO_TRAFFIC, SPEC) is imported
    of = mixed_world()
    assert (
        judge_world(replace(of, traffic={KEY: NO_TRAFFIC})).snapshot_id
        == judge_world(of).snapshot_id
    )


def test_stale_traffic_is_reported_as_stale() -> None:
    gone = make_counts(0, requests=0)
    assert add_traffic({}, TrafficTable.of([gone]), SPEC) == {
        f"{MODEL}@a": EndpointEvidence(None, stale=True)
    }
    assert [f.reason for f in verdicts(judge_world(trafficked(gone)))["a"].broken] == [
        "EVIDENCE_STALE"
    ] * 2
    assert (
        blend_counts(gone, make_counts(10, source="other"))["a"].observed.tool_call_requests == 10
    )


def test_other_models_and_evidence_specs_do_not_matter() -> None:
    of = replace(
        world(endpoint("a"), endpoint("a", OTHER)),
        traffic={
            KEY: TrafficTable.of([make_counts(2000)]),
            "another": TrafficTable.of([make_counts(9)]),
        },
    )
    found = judge_world(of)
    assert verdicts(found)["a"].admitted
    assert not verdicts(found, OTHER)["a"].admitted


# --- strata ---------------------------------------------------------------------------------------


def mix(tag: str, rates: tuple[float, ...], parts: tuple[float, ...]) -> list[TrafficCounts]:
    """Many tenants far below their cap, so that strata alone matter."""
    return [
        make_counts(1000 * part, 1000 * part * (1 - rate), tag=tag, tenant=f"t{n}", stratum=k)
        for k, (rate, part) in enumerate(zip(rates, parts, strict=True))
        for n in range(20)
    ]


def test_an_endpoint_with_hard_prompts_is_not_rejected() -> None:
    better, worse = (0.99, 0.96, 0.90), (0.985, 0.952, 0.89)  # statistics.md §5.6
    found = blend_counts(
        *mix("a", better, (0.13, 0.26, 0.61)), *mix("b", worse, (0.70, 0.25, 0.05))
    )
    raw = {
        t: 1 - f.observed.errored_requests / f.observed.tool_call_requests for t, f in found.items()
    }
    assert raw["a"] + 0.04 < raw["b"]
    accuracies = {
        t: 1 - f.discounted.errored_requests / f.discounted.tool_call_requests
        for t, f in found.items()
    }
    assert accuracies == {
        "a": pytest.approx(0.9525, abs=0.002),
        "b": pytest.approx(0.945, abs=0.002),
    }
    assert (
        found["b"].discounted.tool_call_requests < 10_000 < found["b"].observed.tool_call_requests
    )


def test_sources_are_standardized_separately() -> None:
    one = [
        make_counts(100, 20, tag="a", source="hard"),
        make_counts(100, 0, tag="b", source="easy"),
    ]
    found = blend_counts(*one)
    assert found["a"].discounted == Counts(200, 100, 20)
    assert found["b"].discounted == Counts(200, 100, 0)


def test_propensity_uses_requests_with_free_choice_on_the_pools_mix() -> None:
    requests = [  # in the first stratum one in ten ends in calls, in the last nine in ten
        *(make_counts(1000, tag="a", tenant=f"t{n}", stratum=0, auto=(990, 99)) for n in range(40)),
        *(make_counts(1000, tag="a", tenant=f"t{n}", stratum=5, auto=(10, 9)) for n in range(40)),
        *(make_counts(1000, tag="b", tenant=f"t{n}", stratum=0, auto=(10, 1)) for n in range(40)),
        *(
            make_counts(1000, tag="b", tenant=f"t{n}", stratum=5, auto=(990, 891))
            for n in range(40)
        ),
        make_counts(1000, tag="forced", auto=(0, 0)),
    ]
    shares = {tag: share_of(found) for tag, found in blend_counts(*requests).items()}
    assert shares == {
        "a": pytest.approx(0.5, abs=0.01),
        "b": pytest.approx(0.5, abs=0.01),
        "forced": None,
    }


def share_of(found: FoldedCounts) -> float | None:
    calls = found.shares["gateway"].calls
    return None if calls is None else calls.share


def test_one_tenant_does_not_move_propensity() -> None:
    usual = [make_counts(50, tenant=f"t{n:03}", auto=(100, 50)) for n in range(400)]
    flood = make_counts(0, 0, tenant="flood", requests=10**7, auto=(10**7, 0))
    before, after = (
        share_of(blend_counts(*usual)["a"]),
        share_of(blend_counts(*usual, flood)["a"]),
    )
    assert before == pytest.approx(after, abs=0.006)


# --- the closed hour ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "calls", "errored"),
    [
        pytest.param([make_counts(100, 9, hour=(10, 3))], 10, 3, id="as counted"),
        pytest.param(
            [make_counts(4 * CAP, 0, hour=(400, 40))], 100, 10, id="by the tenant's scaling factor"
        ),
        pytest.param(
            [make_counts(4 * CAP, 0, tenant="", hour=(400, 40))],
            400,
            40,
            id="without tenant names all of it",
        ),
        pytest.param([make_counts(4 * CAP)], 0, 0, id="nothing"),
    ],
)
def test_the_closed_hour_has_its_own_counts(
    counts: list[TrafficCounts], calls: float, errored: float
) -> None:
    found = blend_counts(*counts)["a"].hour.counted
    assert [found.calls, found.errored] == pytest.approx([calls, errored])


def test_a_tenant_new_in_the_hour_has_at_most_its_share() -> None:
    usual = [make_counts(100, 1, tenant=f"t{n:03}", hour=(1, 0)) for n in range(400)]
    found = blend_counts(*usual, make_counts(1000, 1000, tenant="new", hour=(1000, 1000)))[
        "a"
    ].hour.counted
    assert 400 <= found.calls <= 405
    assert found.errored < 5


# --- the design effect ----------------------------------------------------------------------------


def test_the_design_effect_is_estimated_per_model() -> None:
    alike = [make_counts(100, 5, tag=tag, tenant=f"t{n}") for n in range(200) for tag in "ab"]
    found = blend_counts(
        *alike, evidence=dict(fold_observations([make_observation("c")], SPEC, AS_OF))
    )
    assert {f.design_effect for f in found.values()} == {found["a"].design_effect}
    assert found["a"].design_effect == 1.0
    row = judge_world(trafficked(*alike, tags="abc")).models[MODEL].rows[KEY][2]
    assert "tools.design_effect" not in row
    assert (
        judge_world(trafficked(make_counts(9))).models[MODEL].rows[KEY][0]["tools.design_effect"]
        == SPEC.design_effect
    )


# --- manipulation -------------------------------------------------------------

ATTACKS = [
    pytest.param(1, 10**5, id="one with 1e5"),
    pytest.param(1, 10**6, id="one with 1e6"),
    pytest.param(1, 10**7, id="one with 1e7"),
    pytest.param(20, 10**5, id="twenty with 1e5"),
]


@pytest.mark.parametrize(("tenants", "calls"), ATTACKS)
@pytest.mark.parametrize("seed", range(3))
def test_hostile_tenants_cannot_get_a_bad_endpoint_admitted(
    tenants: int, calls: int, seed: int
) -> None:
    honest = honest_tenants(0.07, seed=seed)
    before = blend_counts(*honest)["a"].discounted
    after = blend_counts(*honest, *hostile_tenants(tenants, calls, hour=calls))["a"].discounted
    pooled = (sum(t.errored_requests for t in honest)) / (
        sum(t.tool_call_requests for t in honest) + tenants * calls
    )
    assert pooled < 0.04
    assert after.errored_requests / after.tool_call_requests > 0.05
    assert before.errored_requests / before.tool_call_requests == pytest.approx(
        after.errored_requests / after.tool_call_requests, abs=0.002 if tenants == 1 else 0.018
    )
    for of in (
        trafficked(*honest),
        trafficked(*honest, *hostile_tenants(tenants, calls, hour=calls)),
    ):
        assert [f.reason for f in verdicts(judge_world(of))["a"].broken] == ["ACCURACY"]


@pytest.mark.parametrize(("tenants", "calls"), ATTACKS)
@pytest.mark.parametrize("seed", range(3))
def test_hostile_tenants_cannot_get_a_good_member_evicted(
    tenants: int, calls: int, seed: int
) -> None:
    honest = honest_tenants(0.015, seed=seed)
    found = blend_counts(*honest, *hostile_tenants(tenants, calls, errored=1.0, hour=calls))["a"]
    assert found.discounted.errored_requests / found.discounted.tool_call_requests < 0.02
    hour = found.hour.counted
    assert hour.errored / hour.calls < 0.04  # where a CUSUM for twice 5 % goes down
    of = trafficked(*honest, *hostile_tenants(tenants, calls, errored=1.0, hour=calls))
    assert verdicts(judge_world(of, members={"exacto": frozenset({f"{MODEL}@a"})}))["a"].admitted


@pytest.mark.parametrize("seed", range(3))
def test_errors_of_all_tenants_show_within_the_hour(seed: int) -> None:
    found = blend_counts(*honest_tenants(0.015, seed=seed, now=0.10))["a"].hour.counted
    assert found.errored / found.calls == pytest.approx(0.10, abs=0.025)


# --- order ----------------------------------------------------------------------------------------

TRAFFIC = st.lists(
    st.builds(
        lambda tag, tenant, source, stratum, parts, hour: make_counts(
            parts[1], parts[0], tag=tag, tenant=tenant, source=source, stratum=stratum,
            requests=parts[2], hour=hour, half_life=timedelta(hours=12),
        ),
        st.sampled_from("abc"),
        st.sampled_from(["", *(f"t{n}" for n in range(40))]),
        st.sampled_from(["one", "two"]),
        st.integers(0, 5),
        st.lists(st.integers(0, 10**6) | st.integers(0, 60), min_size=3, max_size=3).map(sorted),
        st.lists(st.integers(0, 99), min_size=2, max_size=2).map(
            lambda pair: (max(pair), min(pair))
        ),
    ),
    max_size=60,
    unique_by=lambda t: (t.endpoint_id, t.source, t.tenant, t.stratum),
)  # fmt: skip


@settings(max_examples=60)
@given(TRAFFIC, st.data())
def test_order_of_counts_does_not_matter(counts: list[TrafficCounts], data: st.DataObject) -> None:
    assert blend_counts(*data.draw(st.permutations(counts))) == blend_counts(*counts)


@settings(max_examples=100)
@given(TRAFFIC)
def test_counts_never_grow(traffic: list[TrafficCounts]) -> None:
    for found in blend_counts(*traffic).values():
        counts = found.discounted
        slack = 1 + 1e-9
        assert 0 <= counts.errored_requests <= counts.tool_call_requests * slack
        assert counts.tool_call_requests <= counts.requests * slack
        assert counts.requests <= found.observed.requests * slack
        hour = found.hour.counted
        assert 0 <= hour.errored <= hour.calls * slack
        shares = [each for of in found.shares.values() for each in (of.calls, of.usable) if each]
        assert all(0 < each.share < 1 and each.error > 0 for each in shares)
        assert found.design_effect is not None
        assert 1 <= found.design_effect <= 4 * SPEC.design_effect
