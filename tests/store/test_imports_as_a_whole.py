"""Properties of every import: it is atomic, idempotent, and independent of other sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import Engine, event, select

from assay.engine.errors import BadData
from assay.engine.world.catalog import Endpoint, Model, Prices
from assay.engine.world.identity import provisional_ids
from assay.engine.world.measurements import Observation
from assay.engine.world.world import Preference, TenantSettings
from assay.importers.documents import (
    CatalogDocument,
    ImportReport,
    ObservationDocument,
    ObservedRow,
    PreferenceDocument,
    TenantDocument,
)
from assay.importers.observations import read_observations
from assay.importers.openrouter import read_openrouter
from assay.store.database import open_database, reading
from assay.store.imports.catalog import apply_catalog
from assay.store.imports.observations import apply_observations
from assay.store.imports.tenants import apply_preferences, apply_tenants
from assay.store.tables import metadata
from assay.store.world import load_world, world_revision

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHARED = Path(__file__).parents[3] / "shared" / "data"
EARLY, LATE = (
    SHARED / "catalog" / f"openrouter_{day}.json.gz"
    for day in ("2026-07-04T140407", "2026-08-07T000104")
)

Document = CatalogDocument | ObservationDocument | PreferenceDocument | TenantDocument
NewDatabase = Callable[[], AbstractContextManager[str]]


def take(store: Engine, document: Document, now: datetime = NOON) -> ImportReport:
    match document:
        case CatalogDocument():
            return apply_catalog(store, document, now=now)
        case ObservationDocument():
            return apply_observations(store, document, create_endpoints=True, now=now)
        case PreferenceDocument():
            return apply_preferences(store, document, now=now)
        case TenantDocument():
            return apply_tenants(store, document, now=now)


def content(store: Engine) -> dict[str, list[tuple[object, ...]]]:
    with reading(store) as connection:
        tables = metadata.sorted_tables
        return {
            each.name: sorted(map(tuple, connection.execute(select(each))), key=repr)
            for each in tables
        }


@contextmanager
def opened(new_database: NewDatabase) -> Iterator[Engine]:
    with new_database() as url:
        database = open_database(url)
        yield database
        database.dispose()


@dataclass
class Poison:
    """Lets `left` statements run and fails the next one."""

    left: int

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise InterruptedError


def offers(*tags: str, price: float = 1.0, model: str = "a/m") -> tuple[Endpoint, ...]:
    prices = Prices(prompt=price, completion=price)
    return provisional_ids(
        [Endpoint("", model, tag.split("/")[0], tag, prices=prices) for tag in tags]
    )


def seen(
    *tags: str, errored: int = 0, source: str = "verifier", model: str = "a/m"
) -> tuple[ObservedRow, ...]:
    return tuple(
        ObservedRow(
            f"line {line}",
            model,
            tag,
            tag,
            Observation(f"{model}@{tag}", source, NOON, NOON + HOUR, 100, 50, errored),
        )
        for line, tag in enumerate(tags, 2)
    )


BEFORE: tuple[Document, ...] = (
    CatalogDocument("ours", "1", NOON, endpoints=offers("x", "y", "y")),
    ObservationDocument("2", seen("x", "z")),
    PreferenceDocument("3", (Preference("acme", "pin", "x"),)),
    TenantDocument("4", (TenantSettings("acme", ("x",)),)),
)
AFTER: tuple[Document, ...] = (
    CatalogDocument("ours", "5", NOON + HOUR, endpoints=offers("y", "z", "new", price=2.0)),
    ObservationDocument("6", seen("x", "z", "other", errored=1)),
    PreferenceDocument("7", (Preference("acme", "ignore", "x"),)),
    TenantDocument("8", (TenantSettings("acme", ("y",)), TenantSettings("zeta"))),
)


@pytest.mark.parametrize("document", AFTER, ids=lambda document: type(document).__name__)
def test_an_import_leaves_nothing_whichever_statement_fails(
    store: Engine, document: Document
) -> None:
    for each in BEFORE:
        take(store, each)
    before = content(store)
    needed = next(allowed for allowed in count() if survives(store, document, allowed, before))
    assert needed >= 5
    assert content(store) != before


def survives(store: Engine, document: Document, allowed: int, before: object) -> bool:
    poison = Poison(allowed)
    event.listen(store, "before_cursor_execute", poison)
    try:
        take(store, document)
    except InterruptedError:
        event.remove(store, "before_cursor_execute", poison)
        assert content(store) == before, f"after {allowed} statements"
        return False
    event.remove(store, "before_cursor_execute", poison)
    return True


def test_concurrent_imports_run_one_after_another(database_url: str) -> None:
    documents = [
        *BEFORE[:2],
        CatalogDocument("theirs", "9", NOON, endpoints=offers("x", "z", price=2.0)),
        BEFORE[0],
    ] * 2

    def work(document: Document) -> None:
        database = open_database(database_url)
        take(database, document)
        database.dispose()

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(work, documents))
    database = open_database(database_url)
    found = load_world(database)
    database.dispose()
    assert [each.endpoint_id for each in found.endpoints] == ["a/m@x", "a/m@y", "a/m@y~2", "a/m@z"]
    assert len(found.observations) == 2


# One source states each tag once. Two sources never state the same instant, so one of two is always
# the newer.
tags = st.lists(st.sampled_from(("x", "y", "z")), max_size=4).map(sorted)
sources = st.sampled_from(("ours", "theirs"))


def catalogs(source: st.SearchStrategy[str] = sources) -> st.SearchStrategy[CatalogDocument]:
    def build(
        source: str, hour: int, names: Sequence[str], price: float, model: str
    ) -> CatalogDocument:
        at = NOON + hour * HOUR + (source == "theirs") * HOUR / 2
        listed = offers(*names, price=price, model=model)
        return CatalogDocument(
            source, f"{source}{hour}{names}{price}{model}", at, (), (Model("a/n"),), listed
        )

    prices = st.sampled_from((1.0, 2.0))
    return st.builds(
        build, source, st.integers(0, 5), tags, prices, st.sampled_from(("a/m", "a/n"))
    )


def observed() -> st.SearchStrategy[ObservationDocument]:
    def build(names: Sequence[str], errored: int, source: str) -> ObservationDocument:
        return ObservationDocument(
            f"{names}{errored}{source}", seen(*names, errored=errored, source=source)
        )

    return st.builds(build, tags, st.integers(0, 2), st.sampled_from(("verifier", "ours")))


def preferred() -> st.SearchStrategy[PreferenceDocument]:
    each = st.builds(
        Preference,
        st.sampled_from(("acme", "zeta")),
        st.sampled_from(("pin", "ignore")),
        st.sampled_from("xyz"),
    )
    return st.lists(each, max_size=3).map(
        lambda found: PreferenceDocument(repr(found), tuple(found))
    )


def settled() -> st.SearchStrategy[TenantDocument]:
    each = st.builds(
        TenantSettings,
        st.sampled_from(("acme", "zeta")),
        st.lists(st.sampled_from("xy")).map(tuple),
    )
    return st.lists(each, max_size=2, unique_by=lambda t: t.tenant).map(
        lambda found: TenantDocument(repr(found), tuple(found))
    )


def few(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@few(25)
@given(documents=st.lists(st.one_of(catalogs(), observed(), preferred(), settled()), max_size=8))
def test_a_repeated_import_writes_nothing(
    new_database: NewDatabase, documents: list[Document]
) -> None:
    with opened(new_database) as store:
        for hour, document in enumerate(documents):
            try:
                take(store, document, NOON + hour * HOUR)
            except BadData:
                continue
            before = content(store)
            report = take(store, document, NOON + (hour + 1) * HOUR)
            assert content(store) == before
            assert not any(
                each.added or each.changed or each.gone for each in report.counts.values()
            )


@few(15)
@given(
    ours=st.lists(catalogs(st.just("ours")), max_size=3),
    theirs=st.lists(catalogs(st.just("theirs")), max_size=3),
    choices=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_the_order_of_sources_makes_no_difference(
    new_database: NewDatabase,
    ours: list[CatalogDocument],
    theirs: list[CatalogDocument],
    choices: list[bool],
) -> None:
    def in_time(documents: list[CatalogDocument]) -> list[CatalogDocument]:
        once = {each.generated_at: single(each) for each in documents}
        return [once[at] for at in sorted(once, key=str)]

    mixed, left, right = [], in_time(ours), in_time(theirs)
    for choice in choices:
        queue = (left if choice else right) or left or right
        mixed += [queue.pop(0)] if queue else []
    counts = ObservationDocument("counts", seen("w"))
    orders: tuple[list[Document], ...] = (
        [counts, *in_time(ours), *in_time(theirs)],
        [*in_time(theirs), *in_time(ours), counts],
        [*mixed, counts],
    )
    worlds = []
    for order in orders:
        with opened(new_database) as store:
            for each in order:
                take(store, each)
            worlds.append(load_world(store))
    assert worlds[0] == worlds[1] == worlds[2]


def single(document: CatalogDocument) -> CatalogDocument:
    """Keep one endpoint per tag.

    Endpoints with one tag are distinguished by their facts, which sources may spell differently.
    """
    return replace(
        document,
        endpoints=tuple({each.tag: each for each in reversed(document.endpoints)}.values()),
    )


@pytest.mark.skipif(not EARLY.exists(), reason="the shared data is not on this machine")
def test_real_catalogs_are_repeatable_and_an_older_one_is_rejected(store: Engine) -> None:
    early, late = (read_openrouter(path.read_bytes()) for path in (EARLY, LATE))
    first = take(store, early)
    assert [len(first.counts[name].added) for name in ("models", "endpoints")] == [340, 852]
    before = content(store)
    second = take(store, early, NOON + HOUR)
    assert [second.counts[name].unchanged for name in ("models", "endpoints")] == [340, 852]
    assert content(store) == before
    third = take(store, late).counts["endpoints"]
    assert third.added
    assert third.changed
    assert third.gone
    assert len(third.changed) + len(third.gone) + third.unchanged == 852
    after = content(store)
    with pytest.raises(BadData, match="source 'openrouter': this file is of 2026-07-04"):
        take(store, early)
    assert content(store) == after


@pytest.mark.skipif(not EARLY.exists(), reason="the shared data is not on this machine")
def test_real_observations_of_unlisted_endpoints_need_create_endpoints(store: Engine) -> None:
    take(store, read_openrouter(EARLY.read_bytes()))
    document = read_observations(
        (SHARED / "observations" / "kimi-k2-0905_2025-09-22.csv").read_bytes()
    )
    without = apply_observations(store, document, create_endpoints=False, now=NOON)
    assert len(without.rejected) == 11
    assert world_revision(store).evidence == 0
    report = take(store, document)
    assert len(report.counts["observations"].added) == len(report.counts["endpoints"].added) == 11
    world = load_world(store)
    assert (len(world.endpoints), len(world.observations)) == (863, 11)
    assert sum(each.tool_call_requests for each in world.observations) == 4586
