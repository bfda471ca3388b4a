"""Imports of observations: endpoints are resolved, windows never overlap, counts are revised."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select
from tests.support.catalog_entries import list_endpoints

from assay.engine.world.catalog import Endpoint
from assay.engine.world.identity import provisional_ids
from assay.engine.world.measurements import Observation
from assay.importers.documents import (
    CatalogDocument,
    ImportCounts,
    ImportReport,
    ObservationDocument,
    ObservedRow,
    Rejection,
)
from assay.store.database import reading
from assay.store.imports.catalog import apply_catalog
from assay.store.imports.observations import apply_observations
from assay.store.tables import observation
from assay.store.world import WorldRevision, load_world, world_revision

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = 24 * HOUR
MODEL = "moonshotai/kimi-k2-0905"


def row(
    tag: str = "groq",
    *,
    start: datetime = NOON,
    end: datetime | None = None,
    errored: int = 0,
    source: str = "verifier",
    line: int = 2,
) -> ObservedRow:
    seen = Observation(f"{MODEL}@{tag}", source, start, end or start + HOUR, 2000, 500, errored)
    return ObservedRow(f"line {line}", MODEL, tag.partition("/")[0], tag, seen)


def take(
    store: Engine, *rows: ObservedRow, create: bool = False, now: datetime = NOON
) -> ImportReport:
    document = ObservationDocument(digest=repr(rows), rows=rows)
    return apply_observations(store, document, create_endpoints=create, now=now)


def catalog(store: Engine, *tags: str, at: datetime = NOON) -> None:
    offers = provisional_ids(
        [
            Endpoint("", MODEL, tag.partition("/")[0], tag, quantization=f"q{n}")
            for n, tag in enumerate(tags)
        ]
    )
    apply_catalog(store, CatalogDocument("ours", f"{at}{tags}", at, endpoints=offers), now=NOON)


def reasons(report: ImportReport) -> list[str]:
    return [f"{each.where}: {each.reason}" for each in report.rejected]


def errored_of(store: Engine) -> list[int]:
    return [each.errored_requests for each in load_world(store).observations]


def test_counts_are_read_back_equal_and_a_repeated_import_changes_nothing(store: Engine) -> None:
    catalog(store, "groq")
    first = take(store, row(errored=3))
    assert len(first.counts["observations"].added) == 1
    assert load_world(store).observations == (row(errored=3).observation,)
    assert world_revision(store) == WorldRevision(catalog=1, evidence=1, preferences=0)
    second = take(store, row(errored=3), now=NOON + DAY)
    assert second.counts["observations"] == ImportCounts(unchanged=1)
    assert world_revision(store) == WorldRevision(catalog=1, evidence=1, preferences=0)


def test_an_unknown_endpoint_is_rejected_by_name_and_the_rest_is_stored(store: Engine) -> None:
    catalog(store, "groq")
    report = take(store, row("x", line=2), row(line=3))
    reason = (
        f"line 2: endpoint {MODEL}@x is unknown; import the catalog first or use --create-endpoints"
    )
    assert reasons(report) == [reason]
    assert len(report.counts["observations"].added) == 1


def test_an_endpoint_can_be_created_from_an_observation(store: Engine) -> None:
    report = take(store, row("novita/fp8"), create=True)
    assert report.counts["endpoints"] == ImportCounts(added=(f"{MODEL}@novita/fp8",))
    assert report.counts["models"] == ImportCounts(added=(MODEL,))
    assert report.counts["providers"] == ImportCounts(added=("novita",))
    world = load_world(store)
    assert [each.model for each in world.models] == [MODEL]
    (made,) = world.endpoints
    assert made == Endpoint(
        f"{MODEL}@novita/fp8",
        MODEL,
        "novita",
        "novita/fp8",
        supported_parameters=("tools", "tool_choice"),
    )
    (listed,) = list_endpoints(store, MODEL)
    assert (listed.sources, listed.first_seen_at, listed.last_seen_at) == (
        ("verifier",),
        NOON,
        NOON + HOUR,
    )
    again = take(store, row("novita/fp8"), create=True, now=NOON + DAY)
    assert all(not (each.added or each.changed) for each in again.counts.values())
    assert world_revision(store) == WorldRevision(catalog=1, evidence=1, preferences=0)


@pytest.mark.parametrize("catalog_first", [True, False])
def test_catalog_and_observation_of_one_tag_are_one_endpoint(
    store: Engine, *, catalog_first: bool
) -> None:
    if catalog_first:
        catalog(store, "groq")
    take(store, row(), create=True)
    if not catalog_first:
        catalog(store, "groq")
    (found,) = load_world(store).endpoints
    assert (found.endpoint_id, found.quantization) == (f"{MODEL}@groq", "q0")
    catalog(store, "novita", at=NOON + DAY)
    assert [each.tag for each in load_world(store).endpoints] == ["novita"]


def test_observation_files_and_catalog_files_do_not_unlist_each_others_endpoints(
    store: Engine,
) -> None:
    take(store, row("novita"), row("groq", line=3), create=True)
    take(store, row("groq", start=NOON + DAY), create=True)
    catalog(store, "baseten")
    catalog(store, "together", at=NOON + DAY)
    assert [each.tag for each in load_world(store).endpoints] == ["groq", "novita", "together"]


def test_counts_of_an_endpoint_that_is_gone_are_not_in_the_world(store: Engine) -> None:
    catalog(store, "groq", "novita")
    take(store, row())
    catalog(store, "novita", at=NOON + DAY)
    report = take(store, row(start=NOON + DAY))
    assert report.rejected == ()
    assert load_world(store).observations == ()
    catalog(store, "groq", at=NOON + 2 * DAY)
    assert len(load_world(store).observations) == 2


@pytest.mark.parametrize(
    ("tag", "meant"),
    [
        pytest.param("groq", None, id="a tag alone is ambiguous"),
        pytest.param("groq~2", f"{MODEL}@groq~2", id="the id without its model"),
        pytest.param(f"{MODEL}@groq", f"{MODEL}@groq", id="the full id of the first"),
        pytest.param(f"{MODEL}@groq~2", f"{MODEL}@groq~2", id="the full id of the second"),
    ],
)
@pytest.mark.parametrize("create", [False, True])
def test_a_row_must_give_the_id_if_its_tag_repeats(
    store: Engine, tag: str, meant: str | None, *, create: bool
) -> None:
    catalog(store, "groq", "groq")
    report = take(store, row(tag), create=create)
    assert [each.endpoint_id for each in load_world(store).observations] == [meant] * (
        meant is not None
    )
    if meant is None:
        expected = (
            f"line 2: tag groq of {MODEL} is ambiguous, "
            f"write one of {MODEL}@groq, {MODEL}@groq~2 as the tag"
        )
        assert reasons(report) == [expected]


@pytest.mark.parametrize("tag", ["groq~2", f"{MODEL}@groq"])
def test_no_endpoint_is_created_from_an_id(store: Engine, tag: str) -> None:
    report = take(store, row(tag), create=True)
    assert len(report.rejected) == 1
    assert load_world(store).endpoints == ()


def test_a_correction_supersedes_the_old_counts_which_stay_stored(store: Engine) -> None:
    catalog(store, "groq")
    take(store, row(errored=3))
    report = take(store, row(errored=4), now=NOON + DAY)
    assert len(report.counts["observations"].changed) == 1
    assert errored_of(store) == [4]
    take(store, row(errored=3), now=NOON + 2 * DAY)
    with reading(store) as connection:
        found = connection.execute(select(observation).order_by(observation.c.revision)).all()
    kept = [
        (each.revision, each.errored_requests, each.imported_at, each.superseded_at)
        for each in found
    ]
    assert kept == [
        (1, 3, NOON, NOON + DAY),
        (2, 4, NOON + DAY, NOON + 2 * DAY),
        (3, 3, NOON + 2 * DAY, None),
    ]
    assert world_revision(store).evidence == 3


@pytest.mark.parametrize(
    ("start", "end", "rejected"),
    [
        pytest.param(NOON - HOUR, NOON, False, id="before"),
        pytest.param(NOON + HOUR, NOON + 2 * HOUR, False, id="after"),
        pytest.param(NOON - HOUR, NOON + HOUR / 2, True, id="into it"),
        pytest.param(NOON + HOUR / 2, NOON + 2 * HOUR, True, id="out of it"),
        pytest.param(NOON - HOUR, NOON + 2 * HOUR, True, id="around it"),
        pytest.param(NOON + HOUR / 4, NOON + HOUR / 2, True, id="inside it"),
        pytest.param(NOON, NOON + HOUR / 2, True, id="its first half"),
        pytest.param(NOON, NOON + 2 * HOUR, True, id="it and more"),
    ],
)
@pytest.mark.parametrize("one_file", [True, False])
def test_a_window_that_overlaps_another_is_rejected(
    store: Engine, start: datetime, end: datetime, *, rejected: bool, one_file: bool
) -> None:
    catalog(store, "groq")
    far = [row(start=NOON + n * DAY, line=10 + n) for n in (-1, 1)]
    other = row(start=start, end=end, line=3)
    if one_file:
        report = take(store, *far, row(), other)
    else:
        take(store, *far, row())
        report = take(store, other)
    if rejected:
        (reason,) = reasons(report)
        assert reason.startswith("line 3: window 2026-07-04T")
        assert reason.endswith(
            f"overlaps 2026-07-04T12:00:00Z/2026-07-04T13:00:00Z of verifier for {MODEL}@groq "
            "and would count twice"
        )
    assert len(load_world(store).observations) == (3 if rejected else 4)
    elsewhere = row(start=start, end=end, source="another verifier")
    assert take(store, elsewhere).rejected == ()


def test_a_window_repeated_in_one_file_is_stored_once(store: Engine) -> None:
    catalog(store, "groq")
    for _ in range(2):
        report = take(store, row(errored=1, line=2), row(errored=2, line=3))
        assert report.rejected == (Rejection("line 3", "repeats the window of line 2"),)
        assert errored_of(store) == [1]
