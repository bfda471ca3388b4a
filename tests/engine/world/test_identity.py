"""An endpoint keeps its id for as long as its offer can be recognized."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from assay.engine.world.catalog import Endpoint, Prices
from assay.engine.world.identity import assign_ids, provisional_ids

MODEL = "acme/large"


def offer(
    tag: str = "one", *, quantization: str = "fp8", price: float = 1.0, status: int = 0
) -> Endpoint:
    return Endpoint(
        "",
        MODEL,
        tag.partition("/")[0],
        tag,
        quantization=quantization,
        prices=Prices(prompt=price),
        status=status,
    )


def ids(endpoints: tuple[Endpoint, ...]) -> list[str]:
    return [endpoint.endpoint_id for endpoint in endpoints]


OFFERS = st.lists(
    st.builds(
        offer,
        tag=st.sampled_from(["one", "one~2", "two", "two/fp8"]),
        quantization=st.sampled_from(["fp8", "bf16", "unknown"]),
        price=st.sampled_from([1.0, 2.0, 3.0]),
        status=st.sampled_from([0, -2]),
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("existing", "incoming", "expected"),
    [
        pytest.param([], [offer()], ["one"], id="a new offer is named by its tag"),
        pytest.param(
            [],
            [offer(), offer(price=2)],
            ["one", "one~2"],
            id="a repeated tag is numbered in file order",
        ),
        pytest.param(
            [offer(), offer(price=2)],
            [offer(price=2)],
            ["one~2"],
            id="the remaining one of two keeps its number",
        ),
        pytest.param(
            [offer(), offer(price=2)],
            [offer(price=2), offer()],
            ["one~2", "one"],
            id="swapped lines keep their ids",
        ),
        pytest.param(
            [offer()], [offer(price=9)], ["one"], id="a new price under one tag is the same offer"
        ),
        pytest.param(
            [offer(quantization="fp8"), offer(quantization="bf16")],
            [offer(quantization="bf16", price=5), offer(quantization="fp8", price=5)],
            ["one~2", "one"],
            id="changed duplicates are matched by equal fields",
        ),
        pytest.param(
            [offer(price=1, status=-2), offer(price=2, status=0)],
            [offer(price=1, status=0), offer(price=2, status=-2)],
            ["one", "one~2"],
            id="order beats health",
        ),
        pytest.param(
            [offer("two")], [offer("one")], ["one"], id="an id never moves to another tag"
        ),
        pytest.param(
            [offer(price=1), offer(price=2)],
            [offer(price=3), offer(price=4), offer(price=5)],
            ["one", "one~2", "one~3"],
            id="with nothing equal, file order decides and the new one is numbered on",
        ),
        pytest.param(
            [],
            [offer("one~2"), offer(), offer()],
            ["one~2", "one", "one~3"],
            id="a tag that looks numbered",
        ),
    ],
)
def test_ids_are_assigned_to_offers(
    existing: list[Endpoint], incoming: list[Endpoint], expected: list[str]
) -> None:
    assigned = assign_ids(assign_ids([], existing), incoming)
    assert ids(assigned) == [f"{MODEL}@{name}" for name in expected]
    assert [replace(endpoint, endpoint_id="") for endpoint in assigned] == incoming


def test_a_removed_endpoint_keeps_its_number() -> None:
    ever = assign_ids([], [offer("two"), offer("two", price=2)])
    assert ids(assign_ids(ever, [offer("one"), offer("two", price=2)])) == [
        f"{MODEL}@one",
        f"{MODEL}@two~2",
    ]


def test_the_lowest_unused_suffix_is_assigned_first() -> None:
    lone = (replace(offer(), endpoint_id=f"{MODEL}@one~2"),)
    assert ids(assign_ids(lone, [offer(), offer(price=2)])) == [f"{MODEL}@one~2", f"{MODEL}@one"]


@given(OFFERS, OFFERS)
def test_a_second_import_of_the_same_changes_nothing(
    before: list[Endpoint], now: list[Endpoint]
) -> None:
    once = assign_ids(assign_ids([], before), now)
    assert assign_ids(once, now) == once
    everything = {endpoint.endpoint_id: endpoint for endpoint in (*assign_ids([], before), *once)}
    assert assign_ids(list(everything.values()), now) == once


@given(OFFERS, OFFERS)
def test_ids_are_unique_and_start_with_their_tag(
    before: list[Endpoint], now: list[Endpoint]
) -> None:
    existing = assign_ids([], before)
    tags = {endpoint.endpoint_id: endpoint.tag for endpoint in existing}
    assigned = assign_ids(existing, now)
    assert len(set(ids(assigned))) == len(now)
    assert all(
        tags.get(endpoint.endpoint_id, endpoint.tag) == endpoint.tag for endpoint in assigned
    )


@given(OFFERS.map(lambda offers: list(dict.fromkeys(offers))), st.data())
def test_different_offers_keep_their_ids_in_any_order(
    offers: list[Endpoint], data: st.DataObject
) -> None:
    existing = assign_ids([], offers)
    shuffled = data.draw(st.permutations(offers))
    named = {replace(endpoint, endpoint_id=""): endpoint.endpoint_id for endpoint in existing}
    assert ids(assign_ids(existing, shuffled)) == [named[endpoint] for endpoint in shuffled]
    assert assign_ids(data.draw(st.permutations(existing)), offers) == existing


@given(OFFERS)
def test_provisional_ids_equal_those_of_a_first_import(offers: list[Endpoint]) -> None:
    assert provisional_ids(offers) == assign_ids([], offers)


def test_provisional_ids_are_numbered_per_model() -> None:
    other = replace(offer(), model="acme/small")
    assert ids(provisional_ids([offer(), other, offer()])) == [
        f"{MODEL}@one",
        "acme/small@one",
        f"{MODEL}@one~2",
    ]
