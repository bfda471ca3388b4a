"""Sort keys and weighted draws: fair, stable, and deterministic for a seed."""

from __future__ import annotations

import math
from hashlib import blake2b

import pytest
from hypothesis import given, strategies as st
from tests.support.worlds import SEED

from assay.engine.decide.ordering import (
    LAST,
    ExponentialRace,
    SortKey,
    draw_keys,
    minus_log,
    seed_for,
    sort_keys,
)

NAN, INF = math.nan, math.inf
CLOSE = 1e-15  # a handful of roundings; 4.5e-16 is the most seen in 1,300,000 draws
IDS = [f"lab/one@{letter}" for letter in "abcdefgh"]


@given(st.floats(min_value=5e-324, max_value=1.0, exclude_max=True))
def test_minus_log_agrees_with_the_logarithm(u: float) -> None:
    assert minus_log(u) == pytest.approx(-math.log(u), rel=CLOSE, abs=0)


@pytest.mark.parametrize(
    "u",
    [
        pytest.param(2.0**-54, id="the smallest draw"),
        pytest.param(1 - 2.0**-53, id="the largest below one"),
        pytest.param(0.5, id="a power of two"),
        pytest.param(0.7071067811865475, id="below the fold"),
        pytest.param(0.7071067811865476, id="at the fold"),
        pytest.param(5e-324, id="the smallest double"),
    ],
)
def test_minus_log_at_its_limits(u: float) -> None:
    assert minus_log(u) == pytest.approx(-math.log(u), rel=CLOSE, abs=0)
    assert minus_log(u) > 0


def test_arrival_times_derive_from_the_keyed_hash_of_the_id() -> None:
    number = int.from_bytes(blake2b(b"lab/one@a", key=SEED, digest_size=8).digest(), "big")
    assert ExponentialRace(SEED).time("lab/one@a") == minus_log(((number >> 11) + 0.5) / 2**53)


def order(keys: list[SortKey]) -> list[int]:
    return sorted(range(len(keys)), key=lambda index: (keys[index], index))


@pytest.mark.parametrize(
    ("column", "descending", "expected"),
    [
        pytest.param([3.0, 1, 2.0], False, [1, 2, 0], id="smallest first"),
        pytest.param([3.0, 1, 2.0], True, [0, 2, 1], id="largest first"),
        pytest.param([None, 2.0, NAN, 1.0], False, [3, 1, 0, 2], id="missing values come last"),
        pytest.param([None, 2.0, NAN, 1.0], True, [1, 3, 0, 2], id="in both directions"),
        pytest.param(
            ["x", INF, -INF], False, [2, 1, 0], id="infinities are values, text is missing"
        ),
        pytest.param([1.0, 1, 1.0], True, [0, 1, 2], id="equals are left to the next key"),
        pytest.param([0.0, -0.0], True, [0, 1], id="negative zero equals zero"),
    ],
)
def test_sort_keys_order_values_and_put_missing_ones_last(
    column: list[object], *, descending: bool, expected: list[int]
) -> None:
    assert order(sort_keys(column, descending=descending)) == expected


def test_weights_are_grouped_into_classes() -> None:
    weights = [None, 0.0, 1e-300, INF, 5.0, NAN, -1.0, "x"]
    keys = draw_keys(weights, IDS, SEED)
    assert [key[0] for key in keys] == [3, 2, 1, 0, 1, 3, 3, 3]
    assert [key for key in keys if key[0] == 3] == [LAST] * 4
    assert order(keys)[0] == 3


def test_infinite_weights_are_drawn_at_random_among_themselves() -> None:
    firsts = {
        order(draw_keys([INF, INF], IDS[:2], seed.to_bytes(16, "big")))[0] for seed in range(64)
    }
    assert firsts == {0, 1}


def test_zero_weights_are_left_to_the_next_key() -> None:
    assert draw_keys([0.0, 0], IDS[:2], SEED) == [(2, 0.0), (2, 0.0)]


def test_draws_at_one_and_three_dollars_are_nine_to_one() -> None:
    rounds, hits = 10_000, 0
    for seed in range(rounds):
        cheap, dear = draw_keys([1.0, 1 / 9], IDS[:2], seed.to_bytes(16, "big"))
        hits += cheap < dear
    assert abs(hits / rounds - 0.9) < 4 * math.sqrt(0.9 * 0.1 / rounds)


def test_orders_of_three_are_as_likely_as_their_weights_imply() -> None:
    rounds, orders = 6_000, dict[tuple[int, ...], int]()
    for seed in range(rounds):
        drawn = tuple(order(draw_keys([3.0, 2.0, 1.0], IDS[:3], seed.to_bytes(16, "big"))))
        orders[drawn] = orders.get(drawn, 0) + 1
    weights = {0: 3.0, 1: 2.0, 2: 1.0}
    for (first, second, third), hits in orders.items():
        p = weights[first] / 6 * weights[second] / (weights[second] + weights[third])
        assert abs(hits / rounds - p) < 4 * math.sqrt(p * (1 - p) / rounds)
    assert len(orders) == 6


WEIGHTS = st.one_of(st.none(), st.just(INF), st.floats(0, 1e9))
FIELDS = st.lists(WEIGHTS, min_size=2, max_size=len(IDS))


@given(FIELDS, st.binary(min_size=16, max_size=32), st.data())
def test_removing_any_endpoint_never_reorders_the_others(
    weights: list[float | None], seed: bytes, data: st.DataObject
) -> None:
    gone = data.draw(st.integers(0, len(weights) - 1))
    whole = [
        index for index in order(draw_keys(weights, IDS[: len(weights)], seed)) if index != gone
    ]
    kept = [index for index in range(len(weights)) if index != gone]
    rest = draw_keys([weights[i] for i in kept], [IDS[i] for i in kept], seed)
    assert [kept[place] for place in order(rest)] == whole


@given(FIELDS, st.binary(min_size=16, max_size=32))
def test_the_same_seed_draws_the_same(weights: list[float | None], seed: bytes) -> None:
    assert draw_keys(weights, IDS[: len(weights)], seed) == draw_keys(
        weights, IDS[: len(weights)], seed
    )


TEXTS = st.text(max_size=8)


def test_an_explicit_seed_is_used_unchanged() -> None:
    assert seed_for(SEED, "t", "m", "s", "d") == SEED


@given(TEXTS, TEXTS, TEXTS.filter(bool), TEXTS, TEXTS)
def test_a_session_keeps_its_seed(
    tenant: str, model: str, session: str, one: str, other: str
) -> None:
    seed = seed_for(b"", tenant, model, session, one)
    assert seed == seed_for(b"", tenant, model, session, other)
    assert len(seed) == 32


@given(
    st.tuples(TEXTS, TEXTS.filter(bool), TEXTS.filter(bool)),
    st.tuples(TEXTS, TEXTS.filter(bool), TEXTS.filter(bool)),
)
def test_no_two_sessions_share_a_seed(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (seed_for(b"", *one, "d") == seed_for(b"", *other, "d")) is (one == other)


def test_without_a_session_every_decision_has_its_own_seed() -> None:
    seeds = {seed_for(b"", "t", "lab/one", "", f"decision-{n}") for n in range(100)}
    assert len(seeds) == 100
    assert seed_for(b"", "t", "lab/one", "", "d") == seed_for(b"", "u", "lab/two", "", "d")
    assert seed_for(b"", "", "lab/one", "d", "") != seed_for(b"", "", "lab/one", "", "d")
