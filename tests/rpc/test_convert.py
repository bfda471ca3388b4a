"""Conversion between messages and engine values: requests in, decisions and catalog out."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st
from tests.support.messages import message_from

from assay.engine.decide.explanation import Explanation
from assay.engine.decide.plan import Decision, Moment, Plan, PlannedAttempt
from assay.engine.errors import InvalidField
from assay.engine.policy.verdict import RuleFinding, Verdict
from assay.engine.pool.report import PoolEndpoint, PoolReport
from assay.engine.world.catalog import Endpoint, Percentiles, PriceOverride, Prices
from assay.engine.world.request import (
    MAX_LIST,
    MAX_MODELS,
    PARTITIONS,
    QUANTIZATIONS,
    SERVICE_TIERS,
    SORTS,
    TOOL_CHOICES,
    MaxPrice,
    ProviderPreferences,
    Request,
)
from assay.rpc.convert import catalog as catalog_convert
from assay.rpc.convert.plan import decide_response, explain_response, fact_value
from assay.rpc.routing import request_from
from assay.v1 import catalog_pb2, routing_pb2 as pb

names = st.text(st.characters(exclude_categories=("C", "Z")), max_size=12)
lists = st.lists(names.filter(bool), max_size=3).map(tuple)
counts = st.integers(0, 2**63 - 1)
amounts = st.none() | st.floats(0, 1e18)
percentiles = st.builds(Percentiles, p50=amounts, p75=amounts, p90=amounts, p99=amounts)
preferences = st.builds(
    ProviderPreferences,
    order=lists,
    only=lists,
    ignore=lists,
    allow_fallbacks=st.booleans(),
    require_parameters=st.booleans(),
    data_collection=st.sampled_from(("allow", "deny")),
    zdr=st.booleans(),
    enforce_distillable_text=st.booleans(),
    quantizations=st.lists(st.sampled_from(QUANTIZATIONS), max_size=3).map(tuple),
    sort=st.none() | st.sampled_from(SORTS),
    partition=st.sampled_from(PARTITIONS),
    max_price=st.builds(MaxPrice, *[amounts] * 5),
    preferred_min_throughput=percentiles,
    preferred_max_latency=percentiles,
)
requests = st.builds(
    Request,
    model=names.filter(bool),
    models=lists,
    tenant=names,
    request_id=names,
    tools=st.integers(0, 2**31 - 1),
    tool_choice=st.none() | st.sampled_from(TOOL_CHOICES),
    parameters=lists,
    max_tokens=st.none() | counts,
    prompt_tokens=st.none() | counts,
    input_modalities=lists,
    provider=preferences,
    service_tier=st.none() | st.sampled_from(SERVICE_TIERS),
    session_id=names,
    seed=st.just(b"") | st.binary(min_size=16, max_size=16) | st.binary(min_size=32, max_size=32),
    min_policy_revision=counts,
)


@given(requests)
def test_every_request_round_trips(request: Request) -> None:
    data = message_from(request).SerializeToString()

    assert request_from(pb.DecideRequest.FromString(data)) == request


def test_an_unset_field_takes_the_documented_default() -> None:
    assert request_from(pb.DecideRequest(model="a/b")) == Request(model="a/b")
    assert request_from(
        pb.DecideRequest(model="a/b", provider=pb.ProviderPreferences())
    ) == Request(model="a/b")


def test_contract_and_engine_have_the_same_request_fields() -> None:
    preferences = {f.name for f in fields(ProviderPreferences)} - {"partition"}  # travels in `sort`

    assert {f.name for f in fields(Request)} == set(pb.DecideRequest.DESCRIPTOR.fields_by_name)
    assert preferences == set(pb.ProviderPreferences.DESCRIPTOR.fields_by_name)
    assert {f.name for f in fields(MaxPrice)} == set(pb.MaxPrice.DESCRIPTOR.fields_by_name)
    assert {f.name for f in fields(Percentiles)} == set(pb.Percentiles.DESCRIPTOR.fields_by_name)


def test_contract_and_engine_have_the_same_catalog_fields() -> None:
    as_capabilities = {"tool_choices", "input_modalities"}
    computed = {"service_tier", "facts", "capabilities"}
    assert {f.name for f in fields(Endpoint)} - as_capabilities | computed == set(
        catalog_pb2.Endpoint.DESCRIPTOR.fields_by_name
    )
    assert {f.name for f in fields(Prices)} == set(catalog_pb2.Prices.DESCRIPTOR.fields_by_name)


def provider(**given: object) -> pb.DecideRequest:
    preferences = pb.ProviderPreferences(**given)  # type: ignore[arg-type] # invalid values too
    return pb.DecideRequest(model="a/b", provider=preferences)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        pytest.param(pb.DecideRequest(), "model", id="no model"),
        pytest.param(
            pb.DecideRequest(model="a/" + "b" * 1_000_000), "model", id="a megabyte of model"
        ),
        pytest.param(
            pb.DecideRequest(model="a/b\u202e"), "model", id="a direction override in the model"
        ),
        pytest.param(pb.DecideRequest(model="a/b\x00"), "model", id="a zero byte in the model"),
        pytest.param(
            pb.DecideRequest(model="a/b", models=[""]), "models[0]", id="an empty fallback model"
        ),
        pytest.param(
            pb.DecideRequest(model="a/b", models=["c"] * (MAX_MODELS + 1)),
            "models",
            id="too many models",
        ),
        pytest.param(pb.DecideRequest(model="a/b", tools=-1), "tools", id="negative tools"),
        pytest.param(
            pb.DecideRequest(model="a/b", tool_choice=""), "tool_choice", id="empty is not absent"
        ),
        pytest.param(
            pb.DecideRequest(model="a/b", tool_choice="Auto"), "tool_choice", id="words are exact"
        ),
        pytest.param(
            pb.DecideRequest(model="a/b", max_tokens=-1), "max_tokens", id="negative tokens"
        ),
        pytest.param(
            pb.DecideRequest(model="a/b", service_tier="gold"), "service_tier", id="unknown tier"
        ),
        pytest.param(
            pb.DecideRequest(model="a/b", seed=b""), "seed", id="an empty seed is not an absent one"
        ),
        pytest.param(pb.DecideRequest(model="a/b", seed=b"short"), "seed", id="a short seed"),
        pytest.param(
            pb.DecideRequest(model="a/b", min_policy_revision=-1),
            "min_policy_revision",
            id="revision",
        ),
        pytest.param(
            provider(only=["x"] * (MAX_LIST + 1)), "provider.only", id="too many providers"
        ),
        pytest.param(provider(order=["x", ""]), "provider.order[1]", id="an empty provider"),
        pytest.param(
            provider(quantizations=["int3"]), "provider.quantizations", id="unknown quantization"
        ),
        pytest.param(
            provider(data_collection=""), "provider.data_collection", id="empty data collection"
        ),
        pytest.param(provider(sort=pb.Sort(by="speed")), "provider.sort.by", id="unknown sort"),
        pytest.param(
            provider(sort=pb.Sort(partition="all")),
            "provider.sort.partition",
            id="unknown partition",
        ),
        pytest.param(
            provider(max_price=pb.MaxPrice(prompt=NAN)), "provider.max_price.prompt", id="NaN price"
        ),
        pytest.param(
            provider(max_price=pb.MaxPrice(image=-1)),
            "provider.max_price.image",
            id="negative price",
        ),
        pytest.param(
            provider(preferred_max_latency=pb.Percentiles(p99=INFINITE)),
            "provider.preferred_max_latency.p99",
            id="endless latency",
        ),
    ],
)
def test_an_invalid_value_is_rejected_with_the_path_of_its_field(
    message: pb.DecideRequest, field: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        request_from(message)

    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


ACCURACY = RuleFinding(
    "tool_accuracy", "ACCURACY", "too many bad calls", "false", "exacto", (("b", 0.5), ("a", 60))
)
PRICE = RuleFinding("price", "max_price", "dear", "false", "default")
SPREAD = RuleFinding(
    "propensity_in_band", "PROPENSITY", "too few peers", "absent", "exacto", (("peers", None),)
)
GOOD = Verdict("a/b@good", "a/b", "good", "good", abstained=(SPREAD,))
BAD = Verdict("a/b@bad/fp8", "a/b", "bad", "bad/fp8", broken=(ACCURACY, PRICE))
DEAR = Verdict("a/b@dear", "a/b", "dear", "dear", broken=(PRICE,))
SERVED = Plan(
    (PlannedAttempt(1, "a/b", "a/b@good", "good", "good", "default"),), (GOOD, BAD), "", "snap", 7
)
NO_ATTEMPTS = Plan((), (BAD, DEAR), "constraint_filtered", "snap", 7)


def decision(plan: Plan) -> Decision:
    moment = Moment(datetime(2026, 7, 4, tzinfo=UTC), bytes(16))
    return Decision("id", Request(model="a/b"), moment, plan, "digest")


def test_a_decision_lists_attempts_and_the_reasons_of_the_others() -> None:
    answer = decide_response(decision(SERVED))

    assert answer == pb.DecideResponse(
        decision_id="id",
        snapshot_id="snap",
        policy_revision=pb.PolicyRevision(number=7, digest="digest"),
        attempts=[
            pb.Attempt(
                rank=1,
                model="a/b",
                endpoint_id="a/b@good",
                provider="good",
                tag="good",
                rule_set="default",
            )
        ],
        excluded=[
            pb.Findings(
                model="a/b",
                endpoint_id="a/b@bad/fp8",
                provider="bad",
                tag="bad/fp8",
                reasons=[
                    pb.Finding(
                        rule="tool_accuracy",
                        rule_set="exacto",
                        reason="ACCURACY",
                        message="too many bad calls",
                        outcome="false",
                    ),
                    pb.Finding(
                        rule="price",
                        rule_set="default",
                        reason="max_price",
                        message="dear",
                        outcome="false",
                    ),
                ],
            )
        ],
        abstained=[
            pb.Findings(
                model="a/b",
                endpoint_id="a/b@good",
                provider="good",
                tag="good",
                reasons=[
                    pb.Finding(
                        rule="propensity_in_band",
                        rule_set="exacto",
                        reason="PROPENSITY",
                        message="too few peers",
                        outcome="absent",
                    )
                ],
            )
        ],
    )


def test_a_decision_without_attempts_counts_the_endpoints_of_each_reason() -> None:
    answer = decide_response(decision(NO_ATTEMPTS))

    assert answer.availability == "constraint_filtered"
    assert [(r.reason, r.endpoints) for r in answer.availability_reasons] == [
        ("max_price", 2),
        ("ACCURACY", 1),
    ]


def test_an_explanation_shows_the_values_that_each_rule_read() -> None:
    answer = explain_response(Explanation(SERVED, ((("endpoint.zdr", True),), ()), "digest"))
    good, bad = answer.verdicts

    assert answer.policy_revision == pb.PolicyRevision(number=7, digest="digest")
    assert (good.admitted, bad.admitted) == (True, False)
    assert good.seen == [pb.Fact(name="endpoint.zdr", value=pb.FactValue(bool_value=True))]
    assert bad.broken[0].seen == [
        pb.Fact(name="a", value=pb.FactValue(int_value=60)),
        pb.Fact(name="b", value=pb.FactValue(double_value=0.5)),
    ]
    assert [(f.name, f.HasField("value")) for f in good.abstained[0].seen] == [("peers", False)]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        pytest.param(True, "bool_value", id="a bool is not a number"),
        pytest.param(1, "int_value", id="a whole number"),
        pytest.param(1.0, "double_value", id="a whole double stays a double"),
        pytest.param("", "string_value", id="empty text is a value"),
        pytest.param((), "list_value", id="an empty list is a value"),
    ],
)
def test_values_keep_their_type(value: object, kind: str) -> None:
    message = fact_value(value)

    assert message is not None
    assert message.WhichOneof("kind") == kind


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
        lambda v: st.lists(v).map(tuple),
    )
)
def test_values_round_trip(value: object) -> None:
    def read(message: pb.FactValue) -> object:
        if message.WhichOneof("kind") == "list_value":
            return tuple(map(read, message.list_value.values))
        return getattr(message, message.WhichOneof("kind") or "")

    message = fact_value(value)

    assert message is not None
    assert read(message) == value


def test_unknown_fields_of_an_endpoint_are_unset() -> None:
    bare = catalog_convert.endpoint(Endpoint("a/b@p/flex", "a/b", "p", "p/flex"))
    full = catalog_convert.endpoint(
        Endpoint(
            "a/b@p",
            "a/b",
            "p",
            "p",
            prices=Prices(prompt=0.0),
            overrides=(PriceOverride(Prices(prompt=1.0), utc_start=0, utc_days=(1, 7)),),
            zdr=False,
        )
    )

    assert bare.service_tier == "flex"
    assert not bare.HasField("zdr")
    assert not bare.HasField("status")
    assert not bare.HasField("max_completion_tokens")
    assert not bare.prices.HasField("prompt")
    assert full.HasField("zdr")
    assert full.prices.HasField("prompt")
    assert full.overrides[0].HasField("utc_start_minute")
    assert list(full.overrides[0].utc_days) == [1, 7]


def test_a_pool_has_members_and_others_with_facts() -> None:
    def shown(verdict: Verdict) -> PoolEndpoint:
        return PoolEndpoint(verdict, (("endpoint.tools.tool_call_requests", 61.5),))

    as_of = datetime(2025, 9, 23, 12, tzinfo=UTC)
    message = catalog_convert.pool(
        PoolReport(
            "a/b",
            "exacto",
            "exacto",
            "exacto",
            as_of,
            "snap",
            members=(shown(GOOD),),
            others=(shown(BAD),),
        )
    )

    assert message.as_of.ToDatetime(UTC) == as_of
    assert [m.tag for m in message.members] == ["good"]
    assert [(f.name, f.value.double_value) for f in message.members[0].facts] == [
        ("endpoint.tools.tool_call_requests", 61.5)
    ]
    assert [f.reason for f in message.others[0].broken] == ["ACCURACY", "max_price"]
