"""Records: they round-trip, equal decisions have equal bytes, and only listed fields are logged."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from assay.decision_log.decision_row import derive_row
from assay.decision_log.record import (
    UNLOGGED,
    DecisionRecord,
    decode_record,
    encode_record,
    value_of,
)
from assay.engine.decide.plan import Moment
from assay.engine.errors import InvalidField
from assay.engine.world.catalog import Percentiles
from assay.engine.world.request import QUANTIZATIONS, SORTS, MaxPrice, ProviderPreferences, Request
from assay.store.outcome_counters import ToolActivity

PLAN = (
    b'{"attempts":[[0,"default"]],"availability":"","snapshot":"s","verdicts":'
    b'[["lab/one","lab/one@a","a",[],[],[]],'
    b'["lab/one","lab/one@b","b",[["default","tools","tools","false"]],[],[]]]}'
)
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
lists = st.lists(names, max_size=3).map(tuple)
amounts = st.none() | st.floats(0, 1e9) | st.integers(0, 2**53)
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
    quantizations=st.lists(st.sampled_from(QUANTIZATIONS)).map(tuple),
    sort=st.none() | st.sampled_from(SORTS),
    partition=st.sampled_from(("model", "none")),
    max_price=st.builds(MaxPrice, prompt=amounts, image=amounts),
    preferred_min_throughput=st.builds(Percentiles, amounts, amounts, amounts, amounts),
    preferred_max_latency=st.builds(Percentiles, amounts, amounts, amounts, amounts),
)
counts = st.integers(0, 2**63 - 1)
requests = st.builds(
    Request,
    model=names,
    models=lists,
    tenant=names,
    request_id=st.just("") | names,
    tools=counts,
    tool_choice=st.none() | st.just("auto"),
    parameters=lists,
    max_tokens=st.none() | counts,
    prompt_tokens=st.none() | counts,
    input_modalities=lists,
    provider=preferences,
    service_tier=st.none() | st.just("flex"),
    session_id=names,
    seed=st.sampled_from((b"", b"s" * 16)),
    min_policy_revision=counts,
)
moments = st.builds(
    Moment,
    st.datetimes(
        datetime(1970, 1, 1),  # noqa: DTZ001 - timezones= adds the zone
        datetime(2200, 1, 1),  # noqa: DTZ001 - timezones= adds the zone
        timezones=st.just(UTC),
    ),
    st.binary(min_size=32, max_size=32),
    st.dictionaries(names, names, max_size=3),
)
records = st.builds(
    DecisionRecord,
    decision_id=names,
    at_us=st.integers(0, 2**52),
    moment=moments,
    tenant=names,
    request=requests,
    snapshot_id=names,
    policy_revision=counts,
    policy_digest=names,
    engine_version=names,
    plan_ns=counts,
    plan=st.just(PLAN),
)


def kept(request: Request) -> Request:
    """Return the request with the fields that a record has."""
    return replace(request, tenant="", session_id="", seed=b"", min_policy_revision=0)


@given(records)
def test_a_record_is_read_back_as_it_was_and_spelled_the_same_again(record: DecisionRecord) -> None:
    read = decode_record(encode_record(record))
    assert read == replace(record, request=kept(record.request))
    assert encode_record(read) == encode_record(record)


@given(records, requests)
def test_equal_decisions_have_equal_bytes(record: DecisionRecord, other: Request) -> None:
    turned = dict(reversed(list(record.moment.health.items())))
    assert encode_record(
        replace(record, moment=replace(record.moment, health=turned))
    ) == encode_record(record)
    elsewhere = replace(
        record.request,
        tenant=other.tenant,
        session_id=other.session_id,
        seed=other.seed,
        min_policy_revision=other.min_policy_revision,
    )
    assert encode_record(replace(record, request=elsewhere)) == encode_record(record)


@given(records)
def test_only_listed_fields_are_written(record: DecisionRecord) -> None:
    read = json.loads(encode_record(record))
    assert set(read) == {
        *(
            "v",
            "id",
            "at_us",
            "now_us",
            "tenant",
            "seed",
            "health",
            "snapshot",
            "policy_revision",
            "policy_digest",
        ),
        *("engine", "plan_ns", "request", "plan"),
    }
    assert set(read["request"]) <= {field.name for field in fields(Request)} - UNLOGGED


def test_who_adds_a_field_to_requests_decides_whether_it_is_logged() -> None:
    assert {field.name for field in fields(Request)} == UNLOGGED | {
        *(
            "model",
            "models",
            "request_id",
            "tools",
            "tool_choice",
            "parameters",
            "max_tokens",
            "prompt_tokens",
        ),
        *("input_modalities", "provider", "service_tier"),
        *("previous_endpoint_id", "previous_decision_id"),
    }


@given(records.filter(lambda record: record.request.request_id))
def test_a_plan_is_found_after_texts_that_look_like_one(record: DecisionRecord) -> None:
    health = {"plan": "plan", "zzz": ',"plan":{}'}
    odd = replace(record, moment=replace(record.moment, health=health), engine_version=',"plan":')
    assert decode_record(encode_record(odd)).plan == PLAN


SAMPLE = DecisionRecord(
    "0199-id",
    1_783_175_400_123_456,
    Moment(datetime(2026, 7, 4, 14, 30, tzinfo=UTC), b"\x01" * 32, {"lab/one@a": "errors"}),
    "p" * 32,
    Request("lab/one:exacto", provider=ProviderPreferences(max_price=MaxPrice(prompt=1.0))),
    "s" * 64,
    3,
    "d" * 64,
    "0.1.0",
    5,
    PLAN,
)


@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_altered_bytes_are_read_or_rejected(data: st.DataObject) -> None:
    whole = encode_record(SAMPLE)
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 20)))
    put = data.draw(
        st.binary(max_size=3)
        | st.sampled_from([b"null", b"[]", b"{}", b"-1", b'""', b"1e99", b"9" * 30])
    )
    with suppress(ValueError):
        derive_row(whole[:begin] + put + whole[end:])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"[" * 100_000, id="deeply nested"),
        pytest.param(encode_record(SAMPLE).replace(b'"v":1', b'"v":2'), id="another version"),
        pytest.param(
            encode_record(SAMPLE).replace(b'"verdicts"', b'"others"'), id="a plan without verdicts"
        ),
    ],
)
def test_an_invalid_record_is_rejected(data: bytes) -> None:
    with pytest.raises(ValueError, match="record"):
        derive_row(data)


def test_a_record_with_an_invalid_seed_has_a_row_but_cannot_be_replayed() -> None:
    data = encode_record(SAMPLE).replace(b'"seed":"', b'"seed":"x')
    with pytest.raises(ValueError, match="record"):
        decode_record(data)
    assert derive_row(data) == derive_row(encode_record(SAMPLE))


def test_a_logged_request_is_validated() -> None:
    with pytest.raises(InvalidField):
        value_of(Request, {"model": ""})


@pytest.mark.parametrize(
    ("request_", "activity"),
    [
        pytest.param(
            Request("lab/one:exacto", tools=2),
            ToolActivity(("lab/one",), ()),
            id="without the routing variant",
        ),
        pytest.param(
            Request("lab/one:free:exacto", models=("lab/two:nitro", "lab/one:free"), tools=1),
            ToolActivity(("lab/one:free", "lab/two"), ()),
            id="every model once, with its catalog variant",
        ),
        pytest.param(
            Request("lab/one", tools=1, provider=ProviderPreferences(ignore=("a", "b/fp8", "a"))),
            ToolActivity(("lab/one",), ("a", "b/fp8")),
            id="the providers that it ignores",
        ),
        pytest.param(
            Request("lab/one", tools=1, provider=ProviderPreferences(only=("a",), order=("b",))),
            ToolActivity(("lab/one",), ()),
            id="only and order name no ignored provider",
        ),
        pytest.param(
            Request("lab/one", provider=ProviderPreferences(ignore=("a",))), None, id="no tools"
        ),
    ],
)
def test_the_tool_activity_of_a_tenant_follows_from_its_request(
    request_: Request, activity: ToolActivity | None
) -> None:
    assert derive_row(encode_record(replace(SAMPLE, request=request_))).activity == activity
    assert derive_row(encode_record(replace(SAMPLE, request=request_, tenant=""))).activity is None
