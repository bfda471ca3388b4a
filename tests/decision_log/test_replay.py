"""Replay: another process recomputes logged decisions to the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete
from tests.support.catalogs import KIMI
from tests.support.mixed_decisions import VARIANTS, Producer, prepare_database, record_decisions
from tests.support.processes import environment

from assay.decision_log.auditor import Auditor, DecisionQuery
from assay.decision_log.record import DecisionRecord, decode_record, encode_record
from assay.decision_log.replay import logged_plan
from assay.decision_log.retention import erase_tenant
from assay.decision_log.streams import records_of
from assay.engine.decide.plan import Moment, plan
from assay.rule_files.compile import compile_source
from assay.server.settings import engine_version
from assay.store.database import open_database, writing
from assay.store.tables import snapshot, snapshot_part

MANY = {"sqlite": 10_000, "postgresql": 1000}
FEW = 300
REPLAY_SCRIPT = """
import json, sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from assay.decision_log.auditor import Auditor, DecisionQuery
from assay.rule_files.compile import compile_source
from assay.server.settings import engine_version
from assay.store.database import open_database
auditor = Auditor(open_database(sys.argv[1]), engine_version(), compile_source)
query = DecisionQuery(datetime.now(UTC) + timedelta(hours=1))
found = list(auditor.replay(auditor.records(query)))
outcomes = Counter(replayed.outcome for replayed in found)
ids = {replayed.decision_id for replayed in found}
details = [replayed.detail for replayed in found if replayed.detail]
print(json.dumps([outcomes, len(ids), details[:3]]))
"""


@pytest.mark.slow
def test_thousands_of_mixed_decisions_replay_to_the_same_bytes_in_another_process(
    backend: str, database_url: str, tmp_path: Path
) -> None:
    count = MANY[backend]
    policy = prepare_database(database_url, tmp_path)
    database = open_database(database_url)
    producer = record_decisions(database, policy, tmp_path / "journal", count)
    rows = Auditor(database, engine_version(), compile_source).find(everything(), limit=count + 1)
    database.dispose()
    assert len(rows) == count
    assert {row.variant for row in rows} == {variant.removeprefix(":") for variant in VARIANTS}
    assert len({row.snapshot_id for row in rows}) == 3
    assert len({row.policy_revision for row in rows}) == 2
    assert len({row.tenant for row in rows}) == 5  # four tenants, and none
    assert any(row.demoted for row in rows)
    assert {row.availability for row in rows} >= {"", "constraint_filtered"}

    ran = subprocess.run(
        [sys.executable, "-c", REPLAY_SCRIPT, database_url],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(PYTHONHASHSEED="7"),
    )
    assert json.loads(ran.stdout) == [{"identical": count}, len(set(producer.ids)), []]


@dataclass(frozen=True)
class Log:
    """A short log that a test changes."""

    database: Engine
    producer: Producer

    def auditor(self, version: str | None = None) -> Auditor:
        return Auditor(self.database, version or engine_version(), compile_source)

    def outcomes(self) -> Counter[str]:
        auditor = self.auditor()
        return Counter(
            replayed.outcome for replayed in auditor.replay(auditor.records(everything()))
        )

    def records(self) -> list[DecisionRecord]:
        return [
            decode_record(record.payload) for record in records_of(self.database, self.producer.ids)
        ]


@pytest.fixture
def short_log(database_url: str, tmp_path: Path) -> Iterator[Log]:
    policy = prepare_database(database_url, tmp_path)
    database = open_database(database_url)
    yield Log(database, record_decisions(database, policy, tmp_path / "journal", FEW))
    database.dispose()


def everything() -> DecisionQuery:
    return DecisionQuery(datetime.now(UTC) + timedelta(hours=1))


def test_decisions_that_cannot_be_replayed_are_distinguished_from_different_ones(
    short_log: Log,
) -> None:
    database, logged = short_log.database, short_log.records()
    assert short_log.outcomes() == {"identical": FEW}

    auditor = short_log.auditor()
    acme = {pseudonym for pseudonym, tenant in auditor.tenants().items() if tenant == "acme"}
    of_acme = sum(record.tenant in acme for record in logged)
    assert of_acme
    assert erase_tenant(database, "acme")
    assert short_log.outcomes() == {"identical": FEW - of_acme, "tenant_erased": of_acme}

    gone = logged[0].snapshot_id
    with writing(database) as connection:
        connection.execute(delete(snapshot_part).where(snapshot_part.c.snapshot_id == gone))
        connection.execute(delete(snapshot).where(snapshot.c.snapshot_id == gone))
    missing = sum(record.snapshot_id == gone for record in logged)
    found = short_log.outcomes()
    assert found["snapshot_missing"] == missing
    assert found["identical"] + found["tenant_erased"] == FEW - missing
    (unknown,) = auditor.replay_ids(["no-such-id"])
    assert (unknown.outcome, unknown.detail) == ("not_found", "the log has no such decision")


def test_a_decision_with_a_demoted_endpoint_is_replayed_with_the_demotion(
    short_log: Log,
) -> None:
    auditor = short_log.auditor()
    replay, tenants = auditor.replayer(), auditor.tenants()
    mattered = 0
    for record in short_log.records():
        if not record.moment.health:
            continue
        before = auditor.snapshots(record.snapshot_id)
        assert before is not None
        request = replace(record.request, tenant=tenants.get(record.tenant, ""))
        well = plan(request, before, Moment(record.moment.now, record.moment.seed))
        mattered += well.canonical() != record.plan
        assert replay(record.decision_id, encode_record(record)).outcome == "identical"
    assert mattered


@pytest.mark.parametrize(
    ("version", "outcome", "words"),
    [
        pytest.param(engine_version(), "differs", "attempts were", id="this version"),
        pytest.param(
            "0.0.9", "engine_differs", "decided by Assay 0.0.9, replayed by", id="another version"
        ),
    ],
)
def test_a_difference_is_attributed_to_another_engine_version_if_it_decided(
    version: str, outcome: str, words: str, short_log: Log
) -> None:
    replay = short_log.auditor().replayer()
    one, other = two_unlike(short_log.records())
    replayed = replay(
        one.decision_id, encode_record(replace(one, plan=other.plan, engine_version=version))
    )
    assert replayed.outcome == outcome
    assert words in replayed.detail
    attempts = logged_plan(one).attempts
    assert [attempt.rank for attempt in attempts] == list(range(1, len(attempts) + 1))
    same = replay(one.decision_id, encode_record(replace(one, engine_version=version)))
    assert same.outcome == "identical"
    assert same.detail == ("" if version == engine_version() else f"decided by Assay {version}")


def two_unlike(logged: list[DecisionRecord]) -> tuple[DecisionRecord, DecisionRecord]:
    """Return two decisions of one snapshot with different attempts."""
    one = next(r for r in logged if r.decoded_plan["attempts"] and r.request.model.startswith(KIMI))
    other = next(
        r for r in logged if r.snapshot_id == one.snapshot_id and not r.decoded_plan["attempts"]
    )
    return one, other
