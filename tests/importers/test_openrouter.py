"""The importer of OpenRouter snapshots: each irregularity of the catalog has a small file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from assay.engine.errors import BadData
from assay.engine.world.catalog import Endpoint, Percentiles, PriceOverride, Prices
from assay.importers.documents import CatalogDocument
from assay.importers.openrouter import read_openrouter

FIXTURES = Path(__file__).parent / "fixtures" / "openrouter"


def read(name: str) -> CatalogDocument:
    return read_openrouter((FIXTURES / f"{name}.json").read_bytes())


def by_tag(name: str) -> dict[str, Endpoint]:
    return {endpoint.tag: endpoint for endpoint in read(name).endpoints}


def rejections(name: str) -> dict[str, str]:
    return {rejection.where: rejection.reason for rejection in read(name).rejected}


def test_every_fixture_is_read_by_some_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [path.stem for path in FIXTURES.iterdir() if f'"{path.stem}"' not in text] == []


def test_prices_per_token_become_exact_prices_per_million() -> None:
    found = by_tag("prices_per_token")
    assert found["acme"].prices == Prices(0.1495, 0.6, 0.03, 0.2, 1.0, request_usd=0.0)
    assert found["acme/numbers"].prices == Prices(prompt=0.1495, completion=0.0, request_usd=0.005)
    assert found["acme/null"].prices == Prices()


def test_a_discount_is_already_in_the_listed_price() -> None:
    assert by_tag("discount_already_off")["acme"].prices == Prices(
        prompt=0.3705, completion=1.1115, request_usd=0.0
    )


def test_a_price_of_minus_one_is_unknown() -> None:
    document = read("router_pseudo_model")
    assert [endpoint.prices for endpoint in document.endpoints] == [Prices(), Prices()]
    assert "openrouter/auto" in [model.model for model in document.models]
    assert document.rejected == ()


def test_an_image_price_equal_to_the_prompt_price_is_per_token() -> None:
    images = {
        tag: endpoint.prices.image_usd for tag, endpoint in by_tag("image_priced_per_token").items()
    }
    assert images == {"acme": None, "acme/own": 0.002, "acme/free": 0.0}


def test_overrides_keep_their_conditions() -> None:
    assert by_tag("overrides")["acme"].overrides == (
        PriceOverride(Prices(prompt=6.0), min_prompt_tokens=200_000),
        PriceOverride(
            Prices(completion=10.0), utc_start=22 * 60, utc_end=6 * 60 + 30, utc_days=(1, 6, 7)
        ),
    )
    assert rejections("overrides") == {}


def test_the_prices_of_a_rejected_override_are_unknown() -> None:
    found = by_tag("overrides_not_understood")
    moon = found["acme/moon"]
    assert moon.prices == Prices(completion=15.0, request_usd=0.0)
    assert moon.overrides == (PriceOverride(Prices(completion=20.0), min_prompt_tokens=10),)
    assert found["acme/always"].prices == Prices(prompt=3.0, request_usd=0.0)
    assert found["acme/half"].prices == Prices()
    assert found["acme/clock"].prices.prompt is None
    assert found["acme/router"].prices.prompt is None
    reasons = rejections("overrides_not_understood")
    assert len(reasons) == 5
    assert reasons["endpoints.lab/one[0].pricing.overrides[0]"] == (
        "override: 'moon_phase' is not a known key; prices now unknown: prompt"
    )


def test_a_listed_variant_does_not_inherit_the_list_of_its_base() -> None:
    document = read("free_variant_without_list")
    assert [model.model for model in document.models] == [
        "lab/one",
        "lab/one:free",
        "lab/small:free",
    ]
    assert [endpoint.endpoint_id for endpoint in document.endpoints] == ["lab/one@acme"]


def test_an_unlisted_id_with_endpoints_is_a_model_of_its_own() -> None:
    document = read("list_of_unlisted_model")
    assert [(model.model, model.name, model.input_modalities) for model in document.models] == [
        ("lab/one", None, None),
        ("lab/hidden", "Hidden", ("text", "image")),
    ]
    assert [endpoint.model for endpoint in document.endpoints] == ["lab/one", "lab/hidden"]


def test_the_list_of_an_alias_belongs_to_the_alias() -> None:
    assert [endpoint.endpoint_id for endpoint in read("alias_body").endpoints] == [
        "lab/one@acme",
        "lab/one-preview@acme",
        "lab/one-preview@acme/b",
    ]


def test_a_row_of_another_model_is_rejected() -> None:
    assert [endpoint.tag for endpoint in read("row_of_another_model").endpoints] == ["acme/b"]
    assert rejections("row_of_another_model") == {
        "endpoints.lab/one[0]": "model_id: 'lab/two' is not the model of this list, lab/one"
    }


def test_a_repeated_tag_makes_two_endpoints() -> None:
    assert [
        (endpoint.endpoint_id, endpoint.quantization)
        for endpoint in read("duplicate_tags").endpoints
    ] == [
        ("lab/one@acme", "fp8"),
        ("lab/one@beta", "unknown"),
        ("lab/one@acme~2", "bf16"),
    ]


def test_the_display_name_determines_the_provider() -> None:
    assert {
        tag: endpoint.provider for tag, endpoint in by_tag("provider_by_display_name").items()
    } == {
        "sambanova": "sambanova",
        "sambanova-turbo": "sambanova",
        "anthropic": "anthropic",
        "anthropic/claude-on-aws": "amazon-bedrock",
        "amazon-bedrock/eu": "amazon-bedrock",
        "google-vertex/eu": "google-vertex",
        "google-ai-studio": "google-ai-studio",
    }


def test_listed_providers_take_precedence_over_tags() -> None:
    document = read("providers_part")
    assert [endpoint.provider for endpoint in document.endpoints] == ["acme", "amazon-bedrock"]
    assert [(provider.slug, provider.name) for provider in document.providers] == [
        ("acme", "Acme"),
        ("amazon-bedrock", "Amazon Bedrock"),
        ("idle", "Idle"),
    ]


def test_a_provider_whose_only_tag_prefix_belongs_to_another_is_rejected() -> None:
    assert [endpoint.provider for endpoint in read("provider_without_slug").endpoints] == [
        "anthropic"
    ]
    assert "'Amazon Bedrock'" in rejections("provider_without_slug")["endpoints.lab/one[1]"]


def test_null_means_unknown() -> None:
    (endpoint,) = read("nulls").endpoints
    priced = Prices(prompt=1.0, completion=2.0, request_usd=0.0)
    assert endpoint == Endpoint("lab/one@acme", "lab/one", "acme", "acme", "Acme", prices=priced)


def test_keys_may_be_missing_or_unknown() -> None:
    document = read("missing_and_unknown_keys")
    assert document.endpoints == (Endpoint("lab/one@acme", "lab/one", "acme", "acme", "Acme"),)
    assert document.rejected == ()


def test_supported_tool_choices_and_inputs_are_read_where_they_are_stated() -> None:
    found = by_tag("capabilities")
    assert found["acme"].tool_choices == ("none", "auto", "function")
    assert found["acme"].input_modalities == ("text", "image")
    assert found["acme/none"].tool_choices == ()
    assert found["acme/partly"].tool_choices is None
    assert found["acme/partly"].input_modalities is None


def test_a_limit_of_zero_means_no_stated_limit() -> None:
    (endpoint,) = read("zero_context").endpoints
    assert (endpoint.context_length, endpoint.max_completion_tokens) == (None, None)


def test_uptime_is_a_percentage_and_status_a_number() -> None:
    found = by_tag("percent_and_status")
    assert {
        tag: (e.status, e.uptime_30m_percent, e.uptime_1d_percent) for tag, e in found.items()
    } == {
        "acme/down": (-2, 72.7, 0.5),
        "acme/worse": (-5, 0.0, None),
        "acme/top": (0, None, 100.0),
    }
    assert rejections("percent_and_status") == {
        "endpoints.lab/one[2]": "uptime_last_30m: '100.1' is not a percentage from 0 to 100",
        "endpoints.lab/one[3]": "status: 'down' is not a whole number",
    }


def test_latency_is_in_seconds_and_percentiles_get_worse() -> None:
    found = by_tag("latency_and_throughput")
    assert found["acme/scalar"].latency_s == Percentiles(p50=0.85)
    assert found["acme/scalar"].throughput_tps == Percentiles(p50=42.5)
    assert found["acme/points"].latency_s == Percentiles(0.25, 0.4, 0.9, 2.0)
    assert found["acme/points"].throughput_tps == Percentiles(45.0, 38.0, 28.0, 15.0)
    assert found["acme/rising"].throughput_tps == Percentiles(p50=35.0)
    assert found["acme/some"].latency_s == Percentiles(p50=0.1)


def test_bodies_may_be_bare_and_times_are_in_utc() -> None:
    document = read("bare_bodies")
    assert len(document.endpoints) == 1
    assert document.generated_at == datetime(2026, 7, 4, 14, 4, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "accepted", "rejected"),
    [
        pytest.param("bad_prices", 7, 7, id="invalid prices"),
        pytest.param("wrong_types", 8, 8, id="fields of another type"),
        pytest.param("unicode_tricks", 4, 3, id="names with indistinguishable characters"),
    ],
)
def test_an_invalid_row_is_rejected_alone(name: str, accepted: int, rejected: int) -> None:
    document = read(name)
    assert len(document.endpoints) == accepted
    rows = [
        rejection.where
        for rejection in document.rejected
        if rejection.where.startswith("endpoints.lab/one[")
    ]
    assert rows == [f"endpoints.lab/one[{place}]" for place in range(rejected)]
    assert all(
        rejection.reason.isascii() and rejection.reason.isprintable()
        for rejection in document.rejected
    )


def test_a_model_id_with_hidden_characters_is_rejected() -> None:
    assert (
        rejections("unicode_tricks")["models[1]"]
        == r"id: 'lab/one\u202e' is not a model id such as author/slug"
    )
    assert r"endpoints.lab/\u043ene" in rejections("unicode_tricks")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"{", "not JSON", id="cut off"),
        pytest.param(b'{"generated": NaN}', "not JSON", id="a bare NaN"),
        pytest.param(b"[]", "file: 'a list' is not an object", id="a list"),
        pytest.param(b"{}", "generated: 'null' is not text", id="no time"),
        pytest.param(
            b'{"generated": "2026-07-04T14:04:07"}',
            "ISO time with a zone",
            id="a time without a zone",
        ),
        pytest.param(
            b'{"generated": "2026-07-04T00:00:00Z"}', "models: 'null' is not a list", id="no models"
        ),
        pytest.param(
            b'{"generated": "2026-07-04T00:00:00Z", "models": []}',
            "endpoints: 'null'",
            id="no endpoints",
        ),
        pytest.param(
            b'{"generated": "2026-07-04T00:00:00Z", "models": [], "endpoints": {}}',
            "holds no valid model",
            id="empty lists",
        ),
        pytest.param(
            b'{"generated": "2026-07-04T00:00:00Z", "models": [{"id": "a/b"}],'
            b' "endpoints": {"a/b": 1, "c/d": []}}',
            "endpoints: 2 of 2 are not valid, first endpoints.a/b: body: 1 is not an object",
            id="more than half rejected",
        ),
        pytest.param(
            b'{"generated": "2026-07-04T00:00:00Z", "models": [{"id": "a/b"}, {"id": "a/b"}, 7],'
            b' "endpoints": {}}',
            "models: 2 of 3 are not valid, first models[1]: id: 'a/b' is not new",
            id="repeated models",
        ),
    ],
)
def test_a_file_that_is_not_a_snapshot_is_rejected_as_a_whole(body: bytes, message: str) -> None:
    with pytest.raises(BadData) as caught:
        read_openrouter(body)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
