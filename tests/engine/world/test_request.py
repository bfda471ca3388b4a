"""Validation of requests: every error names the field and shows the value."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from assay.engine.errors import InvalidField
from assay.engine.world.catalog import Percentiles
from assay.engine.world.request import (
    INT64_MAX,
    MAX_LIST,
    MAX_MODELS,
    MAX_TEXT,
    QUANTIZATIONS,
    SERVICE_TIERS,
    SORTS,
    TOOL_CHOICES,
    MaxPrice,
    ProviderPreferences,
    Request,
)

NAN, INF = math.nan, math.inf
LONG = "x" * (MAX_TEXT + 1)
HIDDEN = "acme\u200b"


@pytest.mark.parametrize(
    ("given_fields", "field", "shown"),
    [
        pytest.param({"model": ""}, "model", "''", id="no model"),
        pytest.param({"model": LONG}, "model", "characters)", id="a long model"),
        pytest.param({"model": "a/b\n"}, "model", r"'a/b\n'", id="a model over two lines"),
        pytest.param(
            {"models": ("a/b",) * (MAX_MODELS + 1)}, "models", "33 items", id="many models"
        ),
        pytest.param(
            {"models": ("a/b", "")}, "models[1]", "''", id="an empty one among the models"
        ),
        pytest.param(
            {"models": ("\u202ea/b",)}, "models[0]", r"\u202e", id="a model from right to left"
        ),
        pytest.param({"tenant": LONG}, "tenant", "characters", id="a long tenant"),
        pytest.param({"tenant": HIDDEN}, "tenant", r"\u200b", id="a tenant with hidden characters"),
        pytest.param({"request_id": "\x00"}, "request_id", r"\x00", id="a request id of null"),
        pytest.param({"session_id": LONG}, "session_id", "characters", id="a long session id"),
        pytest.param(
            {"session_id": "\udc80"},
            "session_id",
            r"\udc80",
            id="a session id with half a surrogate",
        ),
        pytest.param({"parameters": ("tools", "")}, "parameters[1]", "''", id="an empty parameter"),
        pytest.param(
            {"parameters": ("p",) * (MAX_LIST + 1)}, "parameters", "257 items", id="many parameters"
        ),
        pytest.param({"parameters": (LONG,)}, "parameters[0]", "characters", id="a long parameter"),
        pytest.param(
            {"input_modalities": ("",)}, "input_modalities[0]", "''", id="an empty modality"
        ),
        pytest.param({"tools": -1}, "tools", "-1", id="fewer than no tools"),
        pytest.param(
            {"tools": INT64_MAX + 1},
            "tools",
            "9223372036854775808",
            id="more tools than 64 bits count",
        ),
        pytest.param({"max_tokens": -1}, "max_tokens", "-1", id="negative max_tokens"),
        pytest.param({"prompt_tokens": -5}, "prompt_tokens", "-5", id="negative prompt"),
        pytest.param(
            {"min_policy_revision": -1}, "min_policy_revision", "-1", id="negative revision"
        ),
        pytest.param({"tool_choice": "any"}, "tool_choice", "'any'", id="another tool choice"),
        pytest.param({"tool_choice": ""}, "tool_choice", "''", id="an empty tool choice"),
        pytest.param({"service_tier": "gold"}, "service_tier", "'gold'", id="another tier"),
        pytest.param({"seed": b"\x01"}, "seed", "'01'", id="a short seed"),
        pytest.param({"seed": bytes(33)}, "seed", "00", id="a long seed"),
    ],
)
def test_an_invalid_request_is_rejected(
    given_fields: dict[str, Any], field: str, shown: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        Request(**{"model": "lab/one", **given_fields})
    check(caught.value, field, shown)


@pytest.mark.parametrize(
    ("given_fields", "field", "shown"),
    [
        pytest.param({"order": ("",)}, "provider.order[0]", "''", id="an empty name in order"),
        pytest.param(
            {"only": (HIDDEN,)}, "provider.only[0]", r"\u200b", id="a hidden character in only"
        ),
        pytest.param(
            {"ignore": ("p",) * 257}, "provider.ignore", "257 items", id="a long list to ignore"
        ),
        pytest.param(
            {"ignore": (LONG,)}, "provider.ignore[0]", "characters", id="a long name to ignore"
        ),
        pytest.param(
            {"quantizations": ("fp7",)},
            "provider.quantizations",
            "'fp7'",
            id="another quantization",
        ),
        pytest.param(
            {"data_collection": "maybe"},
            "provider.data_collection",
            "'maybe'",
            id="another data policy",
        ),
        pytest.param({"sort": "cheapest"}, "provider.sort", "'cheapest'", id="another sort"),
        pytest.param(
            {"partition": "all"}, "provider.sort.partition", "'all'", id="another partition"
        ),
        pytest.param(
            {"max_price": MaxPrice(prompt=NAN)},
            "provider.max_price.prompt",
            "nan",
            id="a limit that is not a number",
        ),
        pytest.param(
            {"max_price": MaxPrice(image=INF)},
            "provider.max_price.image",
            "inf",
            id="an endless limit",
        ),
        pytest.param(
            {"max_price": MaxPrice(request=-0.1)},
            "provider.max_price.request",
            "-0.1",
            id="a negative limit",
        ),
        pytest.param(
            {"preferred_min_throughput": Percentiles(p90=NAN)},
            "provider.preferred_min_throughput.p90",
            "nan",
            id="a throughput that is not a number",
        ),
        pytest.param(
            {"preferred_max_latency": Percentiles(p50=-1.0)},
            "provider.preferred_max_latency.p50",
            "-1.0",
            id="a negative latency",
        ),
    ],
)
def test_invalid_provider_preferences_are_rejected(
    given_fields: dict[str, Any], field: str, shown: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        ProviderPreferences(**given_fields)
    check(caught.value, field, shown)


def check(error: InvalidField, field: str, shown: str) -> None:
    assert error.field == field
    message = str(error)
    assert message.startswith(f"{field}: ")
    assert shown in message
    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize(
    "given_fields",
    [
        pytest.param({"models": ("a/b",) * MAX_MODELS}, id="the maximum number of models"),
        pytest.param({"tenant": "x" * MAX_TEXT}, id="a tenant of the maximum length"),
        pytest.param({"tenant": "Müller & Söhne"}, id="a tenant in any language"),
        pytest.param({"seed": bytes(16)}, id="a seed of 16 bytes"),
        pytest.param({"tools": INT64_MAX}, id="tools up to 64 bits"),
        pytest.param({"max_tokens": 0}, id="no tokens"),
        *(pytest.param({"tool_choice": word}, id=f"tool choice {word}") for word in TOOL_CHOICES),
        *(pytest.param({"service_tier": word}, id=f"tier {word}") for word in SERVICE_TIERS),
        *(
            pytest.param({"provider": ProviderPreferences(sort=word)}, id=f"sort {word}")
            for word in SORTS
        ),
        pytest.param(
            {"provider": ProviderPreferences(quantizations=QUANTIZATIONS)}, id="every quantization"
        ),
        pytest.param(
            {"provider": ProviderPreferences(max_price=MaxPrice(prompt=0.0))},
            id="an empty limit",
        ),
    ],
)
def test_a_request_within_limits_is_accepted(given_fields: dict[str, Any]) -> None:
    request = Request("lab/one", **given_fields)
    assert all(getattr(request, name) == value for name, value in given_fields.items())


@given(st.text(max_size=300))
def test_any_text_is_accepted_or_rejected_in_one_line(text: str) -> None:
    message = ""
    try:
        Request(text, (text,), tenant=text, parameters=(text,))
    except InvalidField as error:
        message = str(error)
    assert message.isprintable()
    assert bool(message) is not (0 < len(text) <= MAX_TEXT and text.isprintable())
