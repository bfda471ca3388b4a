"""The importer of OpenRouter snapshots, on real ones outside the repository."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from assay.engine.world.catalog import Endpoint
from assay.engine.world.identity import assign_ids
from assay.importers.catalog_csv import read_catalog
from assay.importers.documents import CatalogDocument
from assay.importers.openrouter import read_openrouter

CATALOG = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "catalog"
FACTS = (
    Path(__file__).resolve().parents[2] / "service" / "assay" / "demo" / "data" / "catalog_facts"
)
JULY = "openrouter_2026-07-04T140407.json.gz"
AUGUST = "openrouter_2026-08-07T000104.json.gz"

pytestmark = pytest.mark.skipif(
    not (CATALOG / JULY).exists(), reason="the shared data set is missing"
)


@cache
def read(name: str) -> CatalogDocument:
    return read_openrouter((CATALOG / name).read_bytes())


@pytest.mark.parametrize(
    ("name", "models", "endpoints", "served"),
    [
        pytest.param(JULY, 340, 852, 301, id="July"),
        pytest.param(AUGUST, 400, 1135, 382, id="August"),
    ],
)
def test_every_item_of_the_snapshots_is_accepted(
    name: str, models: int, endpoints: int, served: int
) -> None:
    document = read(name)
    assert len(document.models) == models
    assert (
        len(document.endpoints)
        == endpoints
        == len({endpoint.endpoint_id for endpoint in document.endpoints})
    )
    assert len({endpoint.model for endpoint in document.endpoints}) == served
    assert document.rejected == ()
    assert {endpoint.model for endpoint in document.endpoints} <= {
        model.model for model in document.models
    }


@pytest.mark.parametrize("name", [JULY, AUGUST])
def test_known_irregularities_are_read_correctly(name: str) -> None:
    endpoints = read(name).endpoints
    assert {
        endpoint.endpoint_id for endpoint in endpoints if endpoint.endpoint_id.endswith("~2")
    } == {
        "google/gemma-4-31b-it@together~2",
        "qwen/qwen3-235b-a22b-2507@google-vertex/us-south1~2",
    }
    assert sum("tools" not in endpoint.supported_parameters for endpoint in endpoints) == 159
    assert {endpoint.status for endpoint in endpoints} == {0, -2, -5}
    assert {endpoint.provider for endpoint in endpoints if endpoint.tag == "sambanova-turbo"} == {
        "sambanova"
    }
    on_aws = {
        endpoint.provider for endpoint in endpoints if endpoint.tag == "anthropic/claude-on-aws"
    }
    assert on_aws == {"amazon-bedrock"}
    assert all(endpoint.prices.prompt is not None for endpoint in endpoints)
    assert not any(model.model.endswith(":exacto") for model in read(name).models)


def test_slugs_from_tag_prefixes_agree_with_the_listed_providers() -> None:
    listed = {provider.name: provider.slug for provider in read(AUGUST).providers}
    assert {
        p.name: p.slug for p in read(JULY).providers if p.name in listed
    }.items() <= listed.items()


def test_the_five_models_of_july_have_their_endpoints() -> None:
    served = Counter(endpoint.model for endpoint in read(JULY).endpoints)
    five = (
        "openai/gpt-oss-120b",
        "qwen/qwen3-coder",
        "z-ai/glm-4.6",
        "deepseek/deepseek-v3.1-terminus",
    )
    assert [served[model] for model in (*five, "moonshotai/kimi-k2-0905")] == [20, 6, 5, 5, 2]


def test_every_price_override_is_accepted() -> None:
    overridden = [endpoint for endpoint in read(AUGUST).endpoints if endpoint.overrides]
    assert len(overridden) == 149
    assert all(
        override.min_prompt_tokens for endpoint in overridden for override in endpoint.overrides
    )


def test_the_table_of_facts_agrees_with_the_snapshot() -> None:
    table = read_catalog((FACTS / "endpoints_2026-07-04.csv").read_bytes(), source="facts")
    assert sorted(map(facts, table.endpoints)) == sorted(map(facts, read(JULY).endpoints))


def facts(e: Endpoint) -> tuple[str, ...]:
    prices = (e.prices.prompt, e.prices.completion, e.prices.cache_read)
    limits = (e.context_length, e.max_completion_tokens, e.max_prompt_tokens)
    terms = (sorted(e.supported_parameters), e.status, e.implicit_caching)
    return tuple(map(str, (e.model, e.tag, e.quantization, *prices, *limits, *terms)))


def test_endpoint_ids_persist_from_july_to_august() -> None:
    before = [
        endpoint for endpoint in read(JULY).endpoints if endpoint.model == "google/gemma-4-31b-it"
    ]
    now = [
        endpoint for endpoint in read(AUGUST).endpoints if endpoint.model == "google/gemma-4-31b-it"
    ]
    known = {endpoint.endpoint_id: endpoint.tag for endpoint in before}
    assigned = assign_ids(before, now)
    assert assign_ids(before, assign_ids((), before)) == tuple(before)
    assert all(
        known.get(endpoint.endpoint_id, endpoint.tag) == endpoint.tag for endpoint in assigned
    )
    assert {e.endpoint_id for e in assigned if e.tag == "together"} == {
        "google/gemma-4-31b-it@together",
        "google/gemma-4-31b-it@together~2",
    }
