"""Propensity and usable answers: estimates, their errors, and the peers to compare them with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import log

import numpy as np
import pytest
from tests.support.traffic_counts import SPEC, blend_counts, make_counts
from tests.support.worlds import AS_OF, HOUR, MODEL, make_observation

from assay.engine.evidence.observations import FoldedCounts, fold_observations
from assay.engine.evidence.propensity import PeerShares, ShareEstimate, peer_shares, smoothed
from assay.engine.evidence.statistics import logit, peer_band
from assay.engine.world.measurements import Observation, TrafficCounts


@pytest.mark.parametrize(
    ("calls", "requests", "share"),
    [
        pytest.param(0, 0, 0.5, id="nothing seen"),
        pytest.param(0, 9, 0.05, id="a share of zero is raised"),
        pytest.param(9, 9, 0.95, id="a share of one is lowered"),
        pytest.param(4, 9, 0.45, id="in between"),
    ],
)
def test_propensity_lies_strictly_between_zero_and_one(
    calls: int, requests: int, share: float
) -> None:
    assert smoothed(calls, requests) == pytest.approx(share)


# --- peers ---


def peers(
    observations: Iterable[Observation], silent: Iterable[str] = ()
) -> Mapping[str, PeerShares]:
    evidence = fold_observations(observations, SPEC, AS_OF)
    known = {name: each.folded for name, each in evidence.items() if each.folded is not None}
    providers = {name: name.partition("@")[2].partition("/")[0] for name in known}
    found = peer_shares(known, providers, {f"{MODEL}@{tag}" for tag in silent})
    return {name.partition("@")[2]: each for name, each in found.items()}


def seen(tag: str, calls: int, requests: int = 999, **more: object) -> Observation:
    return make_observation(
        tag,
        calls=calls,
        requests=requests,
        **more,  # type: ignore[arg-type] # several types
    )


def test_peers_are_the_other_providers_of_the_same_source() -> None:
    found = peers(
        [
            seen("a", 99),
            seen("b", 399),
            seen("c", 899),
            seen("d", 899, source="elsewhere"),
            seen("e", 0, requests=0),
            seen("f", 99, age=SPEC.max_age + HOUR),
        ]
    )
    assert found["a"].calls.shares == (399.5 / 1000, 899.5 / 1000)
    assert found["b"].calls.shares == (99.5 / 1000, 899.5 / 1000)
    assert found["d"].calls.shares == ()
    assert "f" not in found


def test_thin_evicted_and_own_endpoints_have_no_say() -> None:
    found = peers(
        [
            seen("a", 499),
            seen("a/fp8", 99),
            seen("b", 499),
            seen("b/fp4", 9, requests=1999),
            seen("made-up", 0, requests=439),
            seen("evicted", 9),
        ],
        silent=["evicted"],
    )
    assert found["a"].calls.shares == (9.5 / 2000,)  # b votes once, by what is used most
    assert found["b"].calls.shares == (499.5 / 1000,)
    assert len(found["made-up"].calls.shares) == 2


def test_the_vendors_endpoint_is_the_reference_for_all() -> None:
    found = peers([seen("a", 99), seen("own", 449, reference=True), seen("own/turbo", 99)])
    references = [found[tag].calls.reference for tag in ("a", "own", "own/turbo")]
    assert [each and each.share for each in references] == [pytest.approx(0.4495)] * 3


def test_a_reference_that_one_source_names_is_one_for_all_sources() -> None:
    lab = seen("own", 100, source="lab", reference=True)
    traffic = [seen(tag, 499, requests=9999, source="traffic") for tag in ("own", "a")]
    reference = peers([lab, *traffic])["a"].calls.reference
    assert reference is not None
    assert reference.share == 499.5 / 10_000


def test_peers_include_endpoints_with_another_main_source() -> None:
    bench = seen("x", calls=300, source="bench")
    also = seen("y", calls=200, source="bench")
    traffic = seen("y", calls=1000, requests=9000, source="traffic")
    assert peers([bench, also, traffic])["x"].calls.shares == (200.5 / 1000,)


@pytest.mark.parametrize("peers_", [4, 6, 9])
@pytest.mark.parametrize("deviation", [0.1, 0.2])
def test_few_equal_peers_are_seldom_outside_the_band(peers_: int, deviation: float) -> None:
    draws = np.random.default_rng(7).normal(0.0, deviation, (4000, peers_ + 1))
    outside = sum(
        abs(own - sorted(others)[len(others) // 2]) > 1.05 * peer_band(others, 3.0, 0.1)
        if len(others) % 2
        else abs(own - np.median(others)) > peer_band(others, 3.0, 0.1)
        for own, *others in draws.tolist()
    )
    assert outside / len(draws) <= 0.02


# --- estimates of traffic ---


def shares_of(*counts: TrafficCounts) -> Mapping[str, FoldedCounts]:
    return blend_counts(*counts)


def usable(found: FoldedCounts) -> ShareEstimate:
    estimate = found.shares["gateway"].usable
    assert estimate is not None
    return estimate


def calls(found: FoldedCounts) -> ShareEstimate:
    estimate = found.shares["gateway"].calls
    assert estimate is not None
    return estimate


def tenants(number: int, size: int, share: float, **more: object) -> list[TrafficCounts]:
    return [
        make_counts(
            round(size * share), tenant=f"t{n:02}", auto=(size, round(size * share)),
            requests=size, **more,  # type: ignore[arg-type] # of several types
        )
        for n in range(number)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("calls_", "errored", "attempts", "share"),
    [
        pytest.param(50, 0, None, 0.50, id="all answered"),
        pytest.param(50, 5, None, 0.45, id="bad calls"),
        pytest.param(45, 0, None, 0.45, id="text instead of bad calls"),
        pytest.param(50, 0, 125.0, 0.40, id="failures"),
        pytest.param(50, 5, 125.0, 0.36, id="failures and bad calls"),
    ],
)
def test_usable_answers_are_sound_calls_among_all_attempts(
    calls_: int, errored: int, attempts: float | None, share: float
) -> None:
    counts = [
        replace(make_counts(calls_, errored, tenant=f"t{n}", requests=100), attempts=attempts)
        for n in range(40)
    ]
    assert usable(shares_of(*counts)["a"]).share == pytest.approx(share, abs=0.002)


def test_forced_calls_do_not_make_an_endpoint_look_more_usable() -> None:
    forced = [make_counts(95, tenant=f"t{n}", requests=100, auto=(10, 5)) for n in range(40)]
    free = [make_counts(50, tag="b", tenant=f"t{n}", requests=100) for n in range(40)]
    found = shares_of(*forced, *free)
    assert usable(found["a"]).share == pytest.approx(usable(found["b"]).share, abs=0.01)


def test_tenants_whose_requests_never_succeed_count_as_attempts() -> None:
    answered = tenants(40, 100, 0.5)
    stalled = [
        replace(make_counts(0, tenant=f"s{n}", requests=0), attempts=100.0) for n in range(40)
    ]
    elsewhere = [make_counts(50, tag="b", tenant=f"s{n}", requests=100) for n in range(40)]
    found = shares_of(*answered, *stalled, *elsewhere)["a"]
    assert usable(found).share == pytest.approx(0.25, abs=0.01)
    assert calls(found).share == pytest.approx(0.5, abs=0.01)


def test_the_error_of_a_share_grows_with_the_difference_of_tenants() -> None:
    alike = calls(shares_of(*tenants(40, 100, 0.5))["a"])
    mixed = [*tenants(20, 100, 0.2), *tenants(40, 100, 0.8)[20:]]
    different = calls(shares_of(*mixed)["a"])
    single = calls(shares_of(*tenants(1, 1000, 0.5))["a"])
    assert alike.error < different.error / 1.5
    assert single.error > 0.5
    assert alike.share == pytest.approx(different.share, abs=0.01)


def test_one_tenant_that_only_gets_text_does_not_leave_the_band() -> None:
    others = [each for tag in "bcdef" for each in tenants(10, 200, 0.5, tag=tag)]
    attacked = [*tenants(10, 200, 0.5)[:9], *tenants(1, 10_000, 0.0, tag="a")]
    attacked[-1] = make_counts(0, tenant="hostile", requests=10_000, auto=(10_000, 0))
    found = shares_of(*attacked, *others)
    own = calls(found["a"])
    distance = abs(logit(own.share) - logit(0.5))
    band = peer_band([log(1.0)] * 5, 3.0, 0.1)
    assert distance <= (band**2 + (3 * own.error) ** 2) ** 0.5
