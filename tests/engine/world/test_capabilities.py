"""Capabilities: yes, no or unknown; stated by the catalog or learned from refusals."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.worlds import MODEL, endpoint, judge_world, make_request, plan_for, tags, world

from assay.engine.policy.fact_values import needed_capabilities
from assay.engine.world.capabilities import (
    capabilities,
    capability_facts,
    refused_capabilities,
)
from assay.engine.world.catalog import Model


def support(path: str, *refused: str, **stated: Any) -> str:
    known = {c.path: c for c in capabilities(endpoint("a", **stated), refused)}
    if path not in known:
        return "unknown"
    return f"{'yes' if known[path].is_supported else 'no'} ({known[path].source})"


@pytest.mark.parametrize(
    ("path", "stated", "expected"),
    [
        pytest.param("parameters.seed", ("seed",), "yes (catalog)", id="listed"),
        pytest.param("parameters.seed", ("tools",), "no (catalog)", id="missing in a list"),
        pytest.param("parameters.seed", (), "unknown", id="an empty list says nothing"),
        pytest.param("parameters.odd", ("odd",), "yes (catalog)", id="an unusual name"),
        pytest.param("parameters.odd", ("seed",), "unknown", id="an unusual name is not counted"),
        pytest.param("parameters.reasoning_effort", ("reasoning",), "yes (catalog)", id="alias"),
        pytest.param("parameters.reasoning", ("reasoning_effort",), "yes (catalog)", id="back"),
        pytest.param(
            "parameters.max_tokens", ("max_completion_tokens",), "yes (catalog)", id="max"
        ),
        pytest.param(
            "parameters.max_completion_tokens", ("max_tokens",), "yes (catalog)", id="xam"
        ),
        pytest.param("structured_outputs", ("structured_outputs",), "yes (catalog)", id="schema"),
        pytest.param("structured_outputs", ("response_format",), "no (catalog)", id="JSON only"),
        pytest.param("structured_outputs", (), "unknown", id="schema unknown"),
        pytest.param("tool_choice.required", ("tools",), "no (catalog)", id="no tool_choice"),
        pytest.param(
            "tool_choice.function", ("tools",), "no (catalog)", id="no tool_choice at all"
        ),
        pytest.param("tool_choice.auto", ("tools",), "unknown", id="auto needs no parameter"),
        pytest.param("tool_choice.required", ("tool_choice",), "unknown", id="value not stated"),
        pytest.param("tool_choice.required", (), "unknown", id="nothing listed"),
    ],
)
def test_a_list_of_parameters_states_what_it_lacks(
    path: str, stated: tuple[str, ...], expected: str
) -> None:
    assert support(path, supported_parameters=stated) == expected


def test_stated_values_and_kinds_come_before_the_parameters() -> None:
    stated = {"supported_parameters": ("tools",), "tool_choices": ("auto", "required")}
    assert support("tool_choice.required", **stated) == "yes (catalog)"
    assert support("tool_choice.none", **stated) == "no (catalog)"
    assert support("input_modalities.image", input_modalities=("text",)) == "no (catalog)"
    assert support("input_modalities.image", input_modalities=("image",)) == "yes (catalog)"
    assert support("input_modalities.image") == "unknown"


def test_refusals_count_more_than_the_catalog() -> None:
    assert support("parameters.seed", "parameters.seed", supported_parameters=("seed",)) == (
        "no (refusals)"
    )
    assert support("tool_choice.auto", "tool_choice.auto") == "no (refusals)"


@pytest.mark.parametrize(
    ("listed", "refused", "dropped"),
    [
        pytest.param((), ("max_tokens",), ("max_tokens",), id="nothing listed"),
        pytest.param(("max_completion_tokens",), ("max_tokens",), (), id="sent by its other name"),
        pytest.param(("max_tokens",), ("max_tokens",), ("max_tokens",), id="listed and refused"),
        pytest.param(
            ("max_completion_tokens",),
            ("max_tokens", "max_completion_tokens"),
            ("max_completion_tokens", "max_tokens"),
            id="both names refused",
        ),
    ],
)
def test_a_parameter_that_can_be_sent_by_another_name_is_not_refused(
    listed: tuple[str, ...], refused: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    offer = endpoint("a", supported_parameters=listed)
    facts = capability_facts(offer, [f"parameters.{name}" for name in refused])
    assert facts.get("refused_parameters", ()) == dropped


@pytest.mark.parametrize(
    ("asked", "needed"),
    [
        pytest.param({}, (), id="nothing"),
        pytest.param({"tool_choice": "required"}, (), id="tool_choice without tools"),
        pytest.param(
            {"tools": 1, "tool_choice": "required"}, ("tool_choice.required",), id="with tools"
        ),
        pytest.param(
            {"parameters": ("response_format", "structured_outputs")},
            ("structured_outputs",),
            id="a JSON schema",
        ),
        pytest.param(
            {"input_modalities": ("text", "image")}, ("input_modalities.image",), id="an image"
        ),
    ],
)
def test_a_request_states_what_it_needs(asked: dict[str, Any], needed: tuple[str, ...]) -> None:
    assert needed_capabilities(make_request(**asked)) == needed


# --- in plans -------------------------------------------------------------------------------------


def test_a_refused_parameter_excludes_the_endpoint_for_requests_that_send_it() -> None:
    offers = world(endpoint("a"), endpoint("b", price=2.0))
    refused = {f"{MODEL}@a": ("parameters.seed", "tool_choice.auto")}
    snapshot = judge_world(type(offers)(offers.models, offers.endpoints, refused=refused))
    assert tags(plan_for(snapshot, parameters=("seed",))) == ["b"]
    assert tags(plan_for(snapshot, tools=1, tool_choice="auto")) == ["b"]
    assert sorted(tags(plan_for(snapshot, parameters=("top_p",)))) == ["a", "b"]
    excluded = plan_for(snapshot, parameters=("top_p", "seed")).excluded[0].broken[0]
    assert excluded.reason == "unsupported"
    assert excluded.message == "the endpoint refuses requests with seed"


def test_an_endpoint_may_accept_more_or_less_input_than_its_model() -> None:
    model = Model(MODEL, input_modalities=("text", "image"))
    offers = (
        endpoint("unstated", price=0.1),
        endpoint("blind", input_modalities=("text",)),
        endpoint("hears", input_modalities=("text", "image", "audio")),
    )
    snapshot = judge_world(world(*offers, models=(model,)))
    assert tags(plan_for(snapshot, input_modalities=("image",))) == ["hears", "unstated"]
    assert tags(plan_for(snapshot, input_modalities=("audio",))) == ["hears"]


def test_what_was_learned_is_read_back_from_the_facts_of_a_snapshot() -> None:
    offer = endpoint("a", supported_parameters=("tools", "structured_outputs"))
    learned = ("input_modalities.image", "parameters.tools", "structured_outputs")
    facts = capability_facts(offer, learned)
    assert refused_capabilities(offer, facts) == learned
    assert refused_capabilities(offer, capability_facts(offer)) == ()
