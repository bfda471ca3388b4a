"""Importing a whole catalog of OpenRouter into a fresh database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.bench.ledger import Ledger
from tests.bench.measure import spread

from assay.importers.openrouter import read_openrouter
from assay.store.database import open_database
from assay.store.imports.catalog import apply_catalog

FILE = (
    Path(__file__).resolve().parents[3] / "shared/data/catalog/openrouter_2026-07-04T140407.json.gz"
)
NOW = datetime(2026, 7, 4, 14, 10, tzinfo=UTC)

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the shared data set is missing")


def seconds_to_import(database: Engine) -> float:
    start = time.perf_counter()
    document = read_openrouter(FILE.read_bytes())
    report = apply_catalog(database, document, now=NOW)
    taken = time.perf_counter() - start
    assert len(report.counts["endpoints"].added) == 852
    return taken


@pytest.fixture
def databases(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[list[Engine]]:
    with ExitStack() as made:
        databases = [open_database(made.enter_context(new_database())) for _ in range(5)]
        yield databases
        for database in databases:
            database.dispose()


def test_a_catalog_is_imported_in_less_than_ten_seconds(
    databases: list[Engine], backend: str, ledger: Ledger
) -> None:
    found = spread([seconds_to_import(database) for database in databases])
    ledger.took(f"importing the catalog of 2026-07-04 into {backend}", found, below=10.0)
