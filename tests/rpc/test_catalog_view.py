"""The catalog of a world that the shipped rule files judge, and explanations of a real decider."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.support.worlds import endpoint, judge_world, world

from assay.engine.errors import InvalidField, UnknownEndpoint, UnknownModel, UnknownVariant
from assay.engine.policy.policy import compile_policy
from assay.engine.pool.judge import judge
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.measurements import Observation
from assay.engine.world.request import Request
from assay.engine.world.world import World
from assay.rpc.catalog import CatalogView
from assay.rpc.convert import catalog as to
from assay.rpc.convert.plan import decide_response, explain_response
from assay.rule_files.directory import read_directory
from assay.rule_files.read import read_policy
from assay.server.decider import Decider
from assay.server.settings import policy_dir
from assay.v1 import catalog_pb2 as pb

NOON = datetime(2025, 9, 23, 12, tzinfo=UTC)
GOOD, BAD = "a/b@good", "a/b@bad/fp8"
WORLD = World(
    models=(Model("a/c"), Model("a/b", context_length=1000)),
    endpoints=(Endpoint(GOOD, "a/b", "good", "good"), Endpoint(BAD, "a/b", "bad", "bad/fp8")),
    observations=tuple(
        Observation(
            e,
            "probe",
            datetime(2025, 9, 22, tzinfo=UTC),
            datetime(2025, 9, 23, tzinfo=UTC),
            2000,
            1000,
            errors,
        )
        for e, errors in ((GOOD, 0), (BAD, 400))
    ),
)


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    source = read_directory(policy_dir())
    return judge(WORLD, compile_policy(*read_policy(source.files), source, 1), NOON).snapshot


@pytest.fixture(scope="module")
def view(snapshot: Snapshot) -> CatalogView:
    return CatalogView(WORLD, snapshot)


def test_lists_are_sorted_by_key(view: CatalogView) -> None:
    assert [m.model for m in view.models()] == ["a/b", "a/c"]
    assert [e.endpoint_id for e in view.endpoints(None)] == [BAD, GOOD]
    assert list(view.endpoints("a/c")) == []
    assert view.endpoint(GOOD).provider == "good"
    bindings = [p.binding for p in view.pools("a/b")]
    assert "exacto" in bindings
    assert bindings == sorted(bindings)


def test_a_pool_lists_members_others_and_facts(view: CatalogView, snapshot: Snapshot) -> None:
    pool = to.pool(view.pool("a/b", "exacto", "acme"))

    assert (pool.model, pool.variant, pool.rule_set) == ("a/b", "exacto", "exacto")
    assert pool.snapshot_id == snapshot.snapshot_id
    assert [e.endpoint_id for e in pool.members] == [GOOD]
    assert [(e.endpoint_id, [f.reason for f in e.broken]) for e in pool.others] == [
        (BAD, ["ACCURACY"])
    ]
    facts = {f.name: f.value for f in pool.others[0].facts}
    assert {
        name.rpartition(".")[2]: v.int_value
        for name, v in facts.items()
        if name in {"observed.tool_call_requests", "observed.errored_requests"}
    } == {
        "tool_call_requests": 1000,
        "errored_requests": 400,
    }


def test_an_unknown_name_is_reported(view: CatalogView) -> None:
    with pytest.raises(UnknownModel):
        view.model("no/such")
    with pytest.raises(UnknownModel):
        view.endpoints("no/such")
    with pytest.raises(UnknownModel):
        view.pools("no/such")
    with pytest.raises(UnknownEndpoint, match="no/such@p"):
        view.endpoint("no/such@p")
    with pytest.raises(UnknownVariant):
        view.pool("a/b", "nope", "")
    with pytest.raises(InvalidField, match="nitro"):
        view.pool("a/b", "nitro", "")


def test_an_explanation_shows_the_facts_that_rules_read(snapshot: Snapshot) -> None:
    decider = Decider(clock=lambda: NOON, snapshot=snapshot)
    request = Request("a/b:exacto", tools=2, parameters=("temperature",), prompt_tokens=10)
    explained = explain_response(decider.explain(request))
    answer = decide_response(decider.decide(request))

    assert [a.endpoint_id for a in explained.attempts] == [a.endpoint_id for a in answer.attempts]
    assert explained.policy_revision == answer.policy_revision
    assert [v.endpoint_id for v in explained.verdicts] == [BAD, GOOD]
    assert all(v.seen for v in explained.verdicts)
    (bad,) = (f for f in explained.verdicts[0].broken if f.reason == "ACCURACY")
    assert bad.seen
    assert BAD in {f.endpoint_id for f in answer.excluded}


def test_an_endpoint_shows_what_is_known_of_its_capabilities() -> None:
    offer = endpoint("a", supported_parameters=("tools", "seed"))
    offers = world(offer)
    learned = replace(offers, refused={offer.endpoint_id: ("parameters.seed",)})
    view = CatalogView(learned, judge_world(learned))
    message = to.endpoint(offer, view.refused(offer))
    shown = {c.path: (pb.Support.Name(c.support), c.source) for c in message.capabilities}
    assert shown["parameters.tools"] == ("SUPPORT_YES", "catalog")
    assert shown["parameters.seed"] == ("SUPPORT_NO", "refusals")
    assert shown["tool_choice.required"] == ("SUPPORT_NO", "catalog")
    assert "tool_choice.auto" not in shown
    facts = {fact.name: fact.value for fact in message.facts}
    assert [each.string_value for each in facts["refused_parameters"].list_value.values] == ["seed"]
