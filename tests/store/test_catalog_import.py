"""Imports of catalogs: repeatable, separate for each source, with ids that all sources share."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from tests.support.catalog_entries import list_endpoints, list_models, list_providers

from assay.engine.errors import BadData
from assay.engine.world.catalog import Endpoint, Model, Percentiles, PriceOverride, Prices, Provider
from assay.engine.world.identity import provisional_ids
from assay.importers.documents import CatalogDocument, ImportCounts, Rejection
from assay.store.imports.catalog import apply_catalog
from assay.store.world import WorldRevision, load_world, world_revision

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MODEL = "moonshotai/kimi-k2-0905"


def offer(tag: str, model: str = MODEL, **facts: object) -> Endpoint:
    bare = Endpoint(f"{model}@{tag}", model, tag.partition("/")[0], tag)
    return replace(bare, **facts)  # type: ignore[arg-type]  # tests pass any field


def price(prompt: float) -> Prices:
    return Prices(prompt=prompt, completion=4 * prompt)


def document(
    *offers: Endpoint, source: str = "ours", at: datetime | None = None, digest: str = ""
) -> CatalogDocument:
    return CatalogDocument(
        source=source,
        digest=digest or f"{source} {at} {offers}",
        generated_at=at,
        models=tuple(Model(name) for name in dict.fromkeys(each.model for each in offers)),
        endpoints=provisional_ids(offers),
    )


FULL = Endpoint(
    endpoint_id=f"{MODEL}@novita/fp8",
    model=MODEL,
    provider="novita",
    tag="novita/fp8",
    quantization="fp8",
    context_length=262_144,
    max_completion_tokens=100_352,
    max_prompt_tokens=200_000,
    supported_parameters=("tools", "temperature"),
    prices=Prices(0.6, 2.5, 0.1, 0.2, 1e-9, 0.1 + 0.2, 1e22),
    overrides=(
        PriceOverride(Prices(prompt=1.0), min_prompt_tokens=200_000),
        PriceOverride(Prices(completion=0.3), utc_start=990, utc_end=30, utc_days=(1, 7)),
    ),
    status=-2,
    uptime_30m_percent=99.509,
    uptime_1d_percent=100.0,
    latency_s=Percentiles(0.3, 0.5, 0.9, 2.5),
    throughput_tps=Percentiles(90.0, 60.0, 30.0, 10.0),
    zdr=True,
    collects_data=False,
    implicit_caching=False,
)


def test_every_fact_is_read_back_equal(store: Engine) -> None:
    bare = offer("groq")
    model = Model(MODEL, "Kimi K2", 262_144, ("text", "image"), ("text",), distillable=False)
    bare_model = Model("z-ai/glm-4.6")
    whole = CatalogDocument(
        "ours",
        "d",
        NOON,
        (Provider("novita", "Novita"), Provider("unused", "Unused")),
        (model, bare_model),
        (FULL, bare),
    )
    apply_catalog(store, whole, now=NOON)
    world = load_world(store)
    assert world.endpoints == (bare, FULL)
    assert world.models == (model, bare_model)
    assert list_providers(store) == (
        Provider("groq"),
        Provider("novita", "Novita"),
        Provider("unused", "Unused"),
    )


def test_a_repeated_import_changes_nothing(store: Engine) -> None:
    once = document(offer("groq"), offer("novita"))
    first = apply_catalog(store, once, now=NOON)
    assert first.counts["models"] == ImportCounts(added=(MODEL,))
    assert first.counts["endpoints"] == ImportCounts(added=(f"{MODEL}@groq", f"{MODEL}@novita"))
    assert world_revision(store) == WorldRevision(catalog=1, evidence=0, preferences=0)
    second = apply_catalog(store, once, now=NOON + DAY)
    assert second.counts == {
        "providers": ImportCounts(unchanged=2),
        "models": ImportCounts(unchanged=1),
        "endpoints": ImportCounts(unchanged=2),
    }
    assert world_revision(store) == WorldRevision(catalog=1, evidence=0, preferences=0)


def test_changes_departures_and_returns_are_counted(store: Engine) -> None:
    other = "z-ai/glm-4.6"
    apply_catalog(
        store, document(offer("groq"), offer("novita"), offer("z-ai", other), at=NOON), now=NOON
    )
    cheaper = offer("novita", prices=price(0.1))
    report = apply_catalog(store, document(offer("baseten"), cheaper, at=NOON + DAY), now=NOON)
    assert report.counts["models"] == ImportCounts(gone=(other,), unchanged=1)
    assert report.counts["endpoints"] == ImportCounts(
        added=(f"{MODEL}@baseten",),
        changed=(f"{MODEL}@novita",),
        gone=(f"{MODEL}@groq", f"{other}@z-ai"),
    )
    assert [each.endpoint_id for each in load_world(store).endpoints] == [
        f"{MODEL}@baseten",
        f"{MODEL}@novita",
    ]
    assert [each.model for each in load_world(store).models] == [MODEL]
    back = apply_catalog(store, document(offer("groq"), at=NOON + 2 * DAY), now=NOON)
    assert back.counts["endpoints"].added == (f"{MODEL}@groq",)
    (groq,) = list_endpoints(store, MODEL)
    assert (groq.first_seen_at, groq.last_seen_at, groq.gone_at) == (NOON, NOON + 2 * DAY, None)


def test_a_file_older_than_the_newest_of_its_source_is_rejected_as_a_whole(store: Engine) -> None:
    apply_catalog(store, document(offer("groq"), at=NOON), now=NOON)
    before = load_world(store)
    with pytest.raises(
        BadData, match=r"source 'ours': this file is of 2026-07-03T.*, one of 2026-07-04T"
    ) as caught:
        apply_catalog(store, document(offer("novita"), at=NOON - DAY), now=NOON)
    assert "\n" not in str(caught.value)
    assert load_world(store) == before
    apply_catalog(
        store, document(offer("novita"), source="theirs", at=NOON - DAY), now=NOON
    )  # another source's time


def test_an_endpoint_is_gone_only_if_no_source_lists_it(store: Engine) -> None:
    apply_catalog(store, document(offer("groq"), offer("novita"), at=NOON), now=NOON)
    apply_catalog(store, document(offer("novita"), source="theirs", at=NOON), now=NOON)
    apply_catalog(store, document(offer("groq"), at=NOON + DAY), now=NOON)
    listed = {each.value.tag: each.sources for each in list_endpoints(store, MODEL)}
    assert listed == {"groq": ("ours",), "novita": ("theirs",)}
    apply_catalog(store, document(offer("baseten"), source="theirs", at=NOON + DAY), now=NOON)
    assert [each.tag for each in load_world(store).endpoints] == ["baseten", "groq"]
    gone = {
        each.value.tag: each.gone_at for each in list_endpoints(store, MODEL, include_gone=True)
    }
    assert gone == {"baseten": None, "groq": None, "novita": NOON + DAY}


@pytest.mark.parametrize(
    ("ours", "theirs", "prompt"),
    [
        pytest.param(NOON, NOON + DAY, 2.0, id="the newer one"),
        pytest.param(NOON + DAY, NOON, 1.0, id="the newer one, other way round"),
        pytest.param(NOON, NOON, 1.0, id="the first by name at a tie"),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_one_of_several_catalogs_is_used(
    store: Engine, ours: datetime, theirs: datetime, prompt: float, *, reverse: bool
) -> None:
    first = document(offer("groq", prices=price(1.0)), at=ours)
    second = document(offer("groq", prices=price(2.0)), source="theirs", at=theirs)
    for each in (second, first) if reverse else (first, second):
        apply_catalog(store, each, now=NOON)
    (groq,) = load_world(store).endpoints
    assert groq.prices.prompt == prompt


def test_a_newer_file_with_equal_content_can_change_the_world(store: Engine) -> None:
    apply_catalog(store, document(offer("groq", prices=price(1.0)), at=NOON), now=NOON)
    apply_catalog(
        store, document(offer("groq", prices=price(2.0)), source="theirs", at=NOON + DAY), now=NOON
    )
    before = world_revision(store).catalog
    report = apply_catalog(
        store, document(offer("groq", prices=price(1.0)), at=NOON + 2 * DAY), now=NOON
    )
    assert report.counts["endpoints"] == ImportCounts(unchanged=1)
    assert load_world(store).endpoints[0].prices.prompt == 1.0
    assert world_revision(store).catalog == before + 1


def test_endpoints_with_one_tag_keep_their_ids_in_any_order_and_with_a_newer_source(
    store: Engine,
) -> None:
    small, large = offer("groq", quantization="fp4"), offer("groq", quantization="fp8")
    apply_catalog(store, document(small, large, at=NOON), now=NOON)
    apply_catalog(
        store,
        document(offer("groq", quantization="bf16"), source="theirs", at=NOON + 2 * DAY),
        now=NOON,
    )
    report = apply_catalog(store, document(large, small, at=NOON + DAY), now=NOON)
    assert report.counts["endpoints"] == ImportCounts(unchanged=2)
    apply_catalog(store, document(large, at=NOON + 3 * DAY), now=NOON)
    found = {each.value.endpoint_id: each.sources for each in list_endpoints(store, MODEL)}
    assert found == {f"{MODEL}@groq": ("theirs",), f"{MODEL}@groq~2": ("ours",)}


def test_rejections_of_the_importer_are_reported(store: Engine) -> None:
    rejected = (Rejection("line 3", "prompt price 'x' is not a number"),)
    report = apply_catalog(store, replace(document(offer("groq")), rejected=rejected), now=NOON)
    assert report.rejected == rejected


def test_models_are_listed_in_pages(store: Engine) -> None:
    names = [f"author/m{number}" for number in range(5)]
    apply_catalog(store, document(*(offer("groq", name) for name in names), at=NOON), now=NOON)
    apply_catalog(
        store, document(*(offer("groq", name) for name in names[1:]), at=NOON + DAY), now=NOON
    )
    first = list_models(store, limit=2)
    assert [each.value.model for each in first] == names[1:3]
    assert [each.value.model for each in list_models(store, after=names[2], limit=9)] == names[3:]
    (gone, *_) = list_models(store, include_gone=True)
    assert (gone.value.model, gone.gone_at, gone.sources) == (names[0], NOON + DAY, ())
    assert list_endpoints(store, "author/unknown") == ()
