"""Ignores count once per eligible tenant that uses the model, except about its own provider."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, strategies as st
from tests.support.worlds import AS_OF, MODEL, OTHER, endpoint

from assay.engine.evidence.ignores import (
    IgnoreCounts,
    Voter,
    count_ignores,
    ignore_votes,
    is_eligible,
    others_ignored,
    votes_by_model,
)
from assay.engine.world.measurements import IgnoreVote
from assay.engine.world.world import Preference

DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)
NO_TENANTS: frozenset[str] = frozenset()


def voter(
    tenant: str = "t",
    *,
    known: timedelta = 30 * DAY,
    calls: dict[str, int] | None = None,
    asked: dict[str, set[str]] | None = None,
    affiliated: str = "",
    tried: dict[str, int] | None = None,
) -> Voter:
    """By default, an eligible tenant that requested tools of one model and ignores no provider."""
    return Voter(
        tenant,
        AS_OF - known,
        {"one": 100, "two": 100} if calls is None else calls,
        {
            model: frozenset(targets)
            for model, targets in ({MODEL: set()} if asked is None else asked).items()
        },
        frozenset(affiliated.split()),
        tried,
    )


@pytest.mark.parametrize(
    ("of", "eligible"),
    [
        pytest.param(voter(), True, id="200 calls over two providers, a month ago"),
        pytest.param(voter(known=14 * DAY), True, id="first seen two weeks ago"),
        pytest.param(voter(known=14 * DAY - MOMENT), False, id="not quite two weeks ago"),
        pytest.param(
            voter(calls={"one": 199, "two": 1}), True, id="one call to the second provider"
        ),
        pytest.param(voter(calls={"one": 200}), False, id="one provider"),
        pytest.param(
            voter(calls={"one": 200, "two": 0}), False, id="no call to the second provider"
        ),
        pytest.param(voter(calls={"one": 100, "two": 99}), False, id="199 calls"),
        pytest.param(voter(calls={}), False, id="none"),
    ],
)
def test_a_known_and_active_tenant_is_eligible(of: Voter, *, eligible: bool) -> None:
    assert is_eligible(of, AS_OF) is eligible
    assert bool(ignore_votes([of], [], AS_OF)) is eligible


def counted(
    voters: list[Voter], *preferences: Preference, tag: str = "acme/fp8"
) -> IgnoreCounts | None:
    poll = votes_by_model(ignore_votes(voters, preferences, AS_OF)).get(MODEL)
    return None if poll is None else count_ignores(endpoint(tag), poll)


@pytest.mark.parametrize(
    ("asked", "preferences", "expected"),
    [
        pytest.param(
            {}, [], None, id="a tenant that never requested tools of the model has no vote"
        ),
        pytest.param(
            {OTHER: {"acme"}}, [], None, id="a tenant that used another model has no vote"
        ),
        pytest.param(
            {OTHER: {"acme"}},
            [("ignore", "acme", MODEL)],
            None,
            id="a tenant's own preferences do not matter",
        ),
        pytest.param(
            {MODEL: set()}, [], IgnoreCounts(1, 0), id="a tenant that used the model has a vote"
        ),
        pytest.param(
            {MODEL: {"acme"}}, [], IgnoreCounts(1, 1), id="a request ignored the provider"
        ),
        pytest.param(
            {MODEL: {"acme/fp8"}}, [], IgnoreCounts(1, 1), id="a request ignored the endpoint"
        ),
        pytest.param(
            {MODEL: {"acme/fp4", "other"}},
            [],
            IgnoreCounts(1, 0),
            id="a request ignored another endpoint",
        ),
        pytest.param(
            {MODEL: set(), OTHER: {"acme"}},
            [],
            IgnoreCounts(1, 0),
            id="a request for another model ignored it",
        ),
        pytest.param(
            {MODEL: set()},
            [("ignore", "acme", None)],
            IgnoreCounts(1, 1),
            id="a preference for all models",
        ),
        pytest.param(
            {MODEL: set()}, [("ignore", "acme", MODEL)], IgnoreCounts(1, 1), id="for this model"
        ),
        pytest.param(
            {MODEL: set()}, [("ignore", "acme", OTHER)], IgnoreCounts(1, 0), id="for another one"
        ),
        pytest.param(
            {MODEL: set()}, [("pin", "acme", None)], IgnoreCounts(1, 0), id="a pin is not an ignore"
        ),
        pytest.param(
            {MODEL: {"acme", "acme/fp8"}},
            [("ignore", "acme", None)],
            IgnoreCounts(1, 1),
            id="one vote per tenant",
        ),
    ],
)
def test_a_tenant_ignores_by_request_or_preference(
    asked: dict[str, set[str]],
    preferences: list[tuple[str, str, str | None]],
    expected: IgnoreCounts | None,
) -> None:
    assert counted([voter(asked=asked)], *(Preference("t", *p) for p in preferences)) == expected


def test_preferences_of_unknown_tenants_do_not_count() -> None:
    assert counted(
        [voter()], *(Preference(f"new-{n}", "ignore", "acme") for n in range(400))
    ) == IgnoreCounts(1, 0)


def test_cheap_tenants_do_not_count() -> None:
    honest = [voter(f"h{n:03}", asked={MODEL: {"acme"} if n < 8 else set()}) for n in range(400)]
    cheap = [
        voter(f"x{n:03}", calls={"one": 5, "two": 5}, asked={MODEL: {"acme"}}) for n in range(400)
    ]
    assert counted([*honest, *cheap]) == IgnoreCounts(400, 8)


def test_only_tenants_that_have_tried_a_provider_vote_about_it() -> None:
    against = [
        voter(f"x{n}", asked={MODEL: {"acme", "rival"}}, tried={"one": 200, "acme": calls})
        for n, calls in enumerate((0, 19, 20))
    ]
    content = [voter("h", tried={"acme": 20}), voter("i", tried={"rival": 500})]
    assert counted([*against, *content]) == IgnoreCounts(2, 1)
    assert counted([*against, *content], tag="rival") == IgnoreCounts(1, 0)


def test_endpoints_are_compared_with_the_median_other_provider() -> None:
    counts = [
        (endpoint("a"), IgnoreCounts(40, 20)),
        (endpoint("a/fp8"), IgnoreCounts(40, 30)),
        (endpoint("b"), IgnoreCounts(40, 10)),
        (endpoint("c"), IgnoreCounts(40, 0)),
        (endpoint("d"), IgnoreCounts(0, 0)),
    ]
    found = {name.partition("@")[2]: share for name, share in others_ignored(counts).items()}
    assert found == {"a": 0.125, "a/fp8": 0.125, "b": 0.25, "c": 0.375}
    assert others_ignored(counts[:2]) == {}


def test_a_providers_own_tenants_do_not_count() -> None:
    own = voter("own", asked={MODEL: {"rival", "acme"}}, affiliated="acme")
    assert counted([own, voter()]) == IgnoreCounts(1, 0)
    assert counted([own, voter()], tag="rival") == IgnoreCounts(2, 1)
    of_rival = voter("of-rival", asked={MODEL: {"acme"}}, affiliated="rival other")
    assert counted([of_rival]) == IgnoreCounts(1, 1)


def test_a_provider_name_does_not_match_its_service_tiers() -> None:
    against = [voter(asked={MODEL: {"acme"}}), voter("u", asked={MODEL: {"acme/flex"}})]
    assert counted(against, tag="acme/flex") == IgnoreCounts(2, 1)
    assert counted(against, tag="acme") == IgnoreCounts(2, 1)


@given(
    st.lists(
        st.builds(
            IgnoreVote,
            st.sampled_from("abcdef"),
            st.sampled_from([MODEL, OTHER]),
            st.frozensets(st.sampled_from(["acme", "acme/fp8", "rival"])),
            st.frozensets(st.sampled_from(["acme", "rival"])),
        ),
        max_size=12,
    ),
    st.data(),
)
def test_order_of_votes_does_not_matter(cast: list[IgnoreVote], data: st.DataObject) -> None:
    found = votes_by_model(cast)
    assert votes_by_model(data.draw(st.permutations(cast))) == found
    for poll in found.values():
        counts = count_ignores(endpoint("acme/fp8"), poll)
        assert 0 <= counts.ignoring <= counts.tenants
