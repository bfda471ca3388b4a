"""A tenant whose calls fail everywhere is set aside, and finds out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Engine, insert
from tests.support.catalogs import NOW
from tests.support.commands import assay
from tests.support.curated_pool import FIRST, START, CuratorBench

from assay.engine.world.catalog import Endpoint, Model
from assay.importers.documents import CatalogDocument
from assay.outcomes.counting import ToolCounts
from assay.server.frontend import GrpcFrontend
from assay.server.service import ROLES, Service, ServiceSettings
from assay.server.settings import policy_dir
from assay.store.database import open_database, writing
from assay.store.evidence_tables import evidence_counter, evidence_day
from assay.store.imports.catalog import apply_catalog
from assay.store.outcome_counters import count_days
from assay.store.tables import tenant_pseudonym
from assay.store.upserts import add_up
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc as pb_grpc

MODEL, TAGS, TENANTS = "lab/used", "abcd", 40
BROKEN = "acme ü"  # its schema fits nothing


@pytest.fixture(scope="module")
def database(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Engine]]:
    path = tmp_path_factory.mktemp("aside") / "assay.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{path}"
    engine = open_database(url)
    endpoints = tuple(Endpoint(f"{MODEL}@{tag}", MODEL, tag, tag) for tag in TAGS)
    listed = CatalogDocument("test", "test", models=(Model(MODEL),), endpoints=endpoints)
    apply_catalog(engine, listed, now=START)
    rows = {
        (f"{MODEL}@{tag}", "gateway", f"p{number:02}", 0, FIRST + hour): list(
            ToolCounts(20, 10, 10 if number == 0 else hour % 2, 20, 10, 20)
        )
        for tag in TAGS
        for number in range(TENANTS)
        for hour in range(9)
    }
    with writing(engine) as connection:
        add_up(connection, evidence_counter, sorted((*cell, *n) for cell, n in rows.items()))
        add_up(connection, evidence_day, count_days(rows))
        names = {f"p{n:02}": BROKEN if n == 0 else f"tenant {n}" for n in range(TENANTS)}
        known = [
            {"pseudonym": pseudonym, "tenant": name, "created_at": START}
            for pseudonym, name in names.items()
        ]
        connection.execute(insert(tenant_pseudonym), known)
    CuratorBench(engine).work_until(9)
    yield url, engine
    engine.dispose()


def test_auditors_see_who_is_set_aside(database: tuple[str, Engine]) -> None:
    asked = assay("audit", "tenants", "--database", database[0], "--json")
    assert json.loads(asked.out) == [{"model": MODEL, "tenant": BROKEN}]
    assert BROKEN in assay("audit", "tenants", "--database", database[0]).out


def test_an_explanation_shows_what_each_group_contributed(database: tuple[str, Engine]) -> None:
    asked = ("pool", f"{MODEL}:exacto", "--now", "2026-07-04T09:00:00Z", "--explain")
    shown = assay(*asked, "a", "--database", database[0])
    assert "set aside: acme ü" in shown.out
    assert "with the mix of requests of the whole pool" in " ".join(shown.out.split()).lower()
    found = json.loads(assay(*asked, f"{MODEL}@a", "--database", database[0], "--json").out)
    groups = {each["group"]: each for each in found["contributions"]}
    assert groups["set aside: fail everywhere"]["tenants"] == 1
    assert groups["set aside: fail everywhere"]["counted_calls"] == 0
    assert groups["counted wholly"]["tenants"] == TENANTS - 1
    assert found["aside"] == [BROKEN]
    assert found["factor"] == pytest.approx(1.0, abs=0.01)
    wrong = assay(*asked, "unknown", "--database", database[0])
    assert wrong.code == 2
    assert "a, b, c, d" in wrong.err


def test_without_reports_there_is_nothing_to_explain(kimi: str) -> None:
    asked = ("pool", "moonshotai/kimi-k2-0905:exacto", "--now", NOW)
    shown = assay(*asked, "--explain", "novita", "--database", kimi)
    assert (shown.code, shown.out.strip()[:29]) == (0, "nothing was reported of novit")


def test_reporters_are_told_in_the_metadata_of_an_acknowledgement(
    database: tuple[str, Engine], tmp_path: Path
) -> None:
    settings = ServiceSettings(
        database=database[1],
        policy=policy_dir(),
        roles=ROLES["decide"],
        journal=tmp_path / "journal",
    )
    at = Timestamp()
    at.GetCurrentTime()

    def outcome(tenant: str, tag: str) -> pb.Outcome:
        endpoint = f"{MODEL}@{tag}"
        return pb.Outcome(endpoint_id=endpoint, tenant=tenant, at=at, result=pb.RESULT_ANSWERED)

    with (
        Service(settings) as service,
        GrpcFrontend(service, ["127.0.0.1:0"]) as frontend,
        grpc.insecure_channel(frontend.addresses[0]) as channel,
    ):
        report = pb_grpc.EvidenceServiceStub(channel).ReportOutcomes
        both = [outcome(BROKEN, "a"), outcome(BROKEN, "b"), outcome("tenant 1", "a")]
        request = pb.ReportOutcomesRequest(source="gw", batch_id="1", outcomes=both)
        _, call = report.with_call(request)
        (found,) = (v for key, v in call.trailing_metadata() if key.startswith("assay-tenants"))
        assert json.loads(found) == [{"model": MODEL, "tenant": BROKEN}]
        other = pb.ReportOutcomesRequest(source="gw", batch_id="2", outcomes=both[2:])
        _, call = report.with_call(other)
        assert not [k for k, _ in call.trailing_metadata() if k.startswith("assay-tenants")]

        many = [f"{number:02} {'ü' * 250}" for number in range(20)]  # names as long as allowed
        service.set_aside = {MODEL: frozenset(many)}
        long = [outcome(tenant, "a") for tenant in many]
        _, call = report.with_call(
            pb.ReportOutcomesRequest(source="gw", batch_id="3", outcomes=long)
        )
        (found,) = (v for key, v in call.trailing_metadata() if key.startswith("assay-tenants"))
        assert 0 < len(json.loads(found)) < 20
        assert len(found) <= 4096
