"""Databases and journals of the released version still open, migrate, ship, verify and replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select
from tests.support.decide_load import NO_GRACE
from tests.support.released import COUNTS, REVISIONS, open_released, unpack

from assay.decision_log.auditor import Auditor
from assay.decision_log.schema import metadata
from assay.decision_log.streams import LoggedRecord, records, streams
from assay.decision_log.writer import DecisionLogWriter, read_verification_inputs
from assay.rule_files.compile import compile_stored
from assay.store.database import reading
from assay.store.evidence_tables import evidence_counter, outcome
from assay.store.migration import migrate
from assay.store.pools import list_pool_changes, load_memory
from assay.store.snapshots import latest_published
from assay.store.world import load_world

ENGINE_VERSION = "0.1.0"
SHIPPED, UNSHIPPED = 20, 4
ERASED = 1
"""Decisions of a tenant that was erased: they cannot be replayed."""

GLM = "z-ai/glm-4.6"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    unpack(tmp_path)
    return tmp_path


@pytest.fixture(params=REVISIONS)
def revision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def released(
    folder: Path, revision: str, empty_database_url: str, migrations: Path
) -> Iterator[Engine]:
    database = open_released(folder, revision, empty_database_url, migrations)
    newest = max(path.name for path in (migrations / "versions").glob("*.py"))[:4]
    assert migrate(database, migrations) == (revision, newest)
    yield database
    database.dispose()


def count_rows(database: Engine, revision: str) -> dict[str, int]:
    with reading(database) as connection:
        return {
            name: connection.scalar(select(func.count()).select_from(metadata.tables[name])) or 0
            for name in COUNTS[revision]
        }


def all_records(database: Engine) -> list[LoggedRecord]:
    return [record for state in streams(database) for record in records(database, state.stream)]


def test_a_database_of_every_revision_migrates_loads_verifies_and_replays(
    released: Engine, revision: str, folder: Path
) -> None:
    assert count_rows(released, revision) == COUNTS[revision]
    assert len(load_world(released).endpoints) == COUNTS[revision]["endpoint"]
    published = latest_published(released)
    assert published is not None
    auditor = Auditor(released, ENGINE_VERSION, compile_stored)
    snapshot = auditor.snapshots(published.snapshot_id)
    assert snapshot is not None
    assert snapshot.snapshot_id == published.snapshot_id
    assert ("exacto", GLM) in snapshot.pools
    if revision == "0001":
        return
    logged = all_records(released)
    assert len(logged) == SHIPPED
    outcomes = Counter(each.outcome for each in auditor.replay(logged))
    assert outcomes == {"identical": SHIPPED - ERASED, "tenant_erased": ERASED}
    witnesses = read_verification_inputs(folder / "journal")
    (report,) = auditor.verify(witnesses.public_keys, witnesses.heads())
    assert (report.fault, report.checked) == ("", SHIPPED)


@pytest.mark.parametrize("revision", ["0002", REVISIONS[-1]], indirect=True)
def test_the_unshipped_part_of_a_released_journal_is_shipped_and_replays(
    released: Engine, folder: Path
) -> None:
    before = count_requests(released)
    writer = DecisionLogWriter(folder / "journal", released, pace=NO_GRACE)
    assert writer.drain()
    writer.close()
    logged = all_records(released)
    assert len(logged) == SHIPPED + UNSHIPPED
    auditor = Auditor(released, ENGINE_VERSION, compile_stored)
    outcomes = Counter(each.outcome for each in auditor.replay(logged))
    assert outcomes == {"identical": SHIPPED + UNSHIPPED - ERASED, "tenant_erased": ERASED}
    reports = list(auditor.verify(writer.public_keys, writer.heads()))
    assert {report.fault for report in reports} == {""}
    assert sum(report.checked for report in reports) == SHIPPED + UNSHIPPED
    assert count_requests(released) == before + 40
    assert sorted(path.name for path in (folder / "journal").iterdir()) == [
        "heads.jsonl",
        "lock",
        "signing.key",
    ]


def count_requests(database: Engine) -> int:
    with reading(database) as connection:
        return connection.scalar(select(func.sum(evidence_counter.c.requests))) or 0


@pytest.mark.parametrize("revision", [REVISIONS[-1]], indirect=True)
def test_pools_and_outcomes_of_the_released_version_are_kept(released: Engine) -> None:
    states = Counter(each.state for each in load_memory(released).states.values())
    assert states["member"] >= 3
    assert states["evicted"] == 1
    (evicted,) = [c for c in list_pool_changes(released, "exacto", GLM) if c.after == "evicted"]
    assert (evicted.endpoint_id, evicted.cause) == (f"{GLM}@deepinfra/fp4", "fast")
    with reading(released) as connection:
        attempts = connection.scalar(select(func.count()).select_from(outcome))
    assert attempts == COUNTS["0005"]["outcome"] > 0
