"""Issue 3, "Privacy": what is not on the list of logged fields is found nowhere on disk, nor is an erased tenant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine, MetaData, select
from tests.support.commands import assay
from tests.support.decide_load import import_small_catalog, ship_and_read_log
from tests.support.processes import AssayProcess, serving_journal

from assay.decision_log.retention import erase_tenant
from assay.store.database import open_database, reading
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

CANARY = "canary-7f3a"
TENANT = "tenant-canary-51c2"
ERASED = "erased-canary-93d0"
SETTINGS = f"- {{tenant: {ERASED}, ignore: [three]}}\n- {{tenant: {TENANT}, ignore: [three]}}\n"
METHOD = "/assay.v1.RoutingService/Decide"


def unknown_field(number: int, text: str) -> bytes:
    """A string in a field that the contract does not have."""
    key = number << 3 | 2
    return bytes([key & 0x7F | 0x80, key >> 7, len(text)]) + text.encode()


def asked(server: AssayProcess) -> list[str]:
    """Ask with a canary in every place where one can be put; gives the ids answered."""
    canaries = [
        f"{CANARY}-{place}"
        for place in ("session", "unknown", "nested", "metadata", "model", "tag")
    ]
    session, unknown, nested, metadata, model, tag = canaries
    with server.channel() as channel:
        stub = pb_grpc.RoutingServiceStub(channel)
        whole = pb.DecideRequest(
            model="lab/mixed", session_id=session, tenant=TENANT, request_id="mine"
        )
        provider = pb.ProviderPreferences(data_collection="deny")
        provider.MergeFromString(unknown_field(900, nested))
        odd = pb.DecideRequest(model="lab/mixed", tenant=ERASED, provider=provider)
        raw = odd.SerializeToString() + unknown_field(1000, unknown)
        call: Any = channel.unary_unary(METHOD, response_deserializer=pb.DecideResponse.FromString)
        headers = (("x-prompt", metadata), ("authorization", f"Bearer {metadata}"))
        answers = [stub.Decide(whole, metadata=headers), call(raw, metadata=headers)]
        for wrong in (
            pb.DecideRequest(model=f"lab/{model}"),
            pb.DecideRequest(model=f"lab/mixed:{model}"),
            pb.DecideRequest(model="lab/mixed", tool_choice=tag, session_id=session),
            pb.DecideRequest(
                model="lab/mixed", provider=pb.ProviderPreferences(quantizations=[tag])
            ),
        ):
            with pytest.raises(grpc.RpcError):
                stub.Decide(wrong, metadata=headers)
        with pytest.raises(grpc.RpcError):
            call(b"\xff" + CANARY.encode(), metadata=headers)
        batch = pb.BatchDecideRequest(requests=[pb.DecideRequest(model=f"lab/{model}"), whole])
        answers += [r.response for r in stub.BatchDecide(batch).results if r.HasField("response")]
    return [answer.decision_id for answer in answers]


def holding(folder: Path, text: str) -> list[str]:
    """The files that hold a text."""
    files = (
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".yaml"
    )
    return [str(path.relative_to(folder)) for path in files if text.encode() in path.read_bytes()]


def tables_holding(database: Engine, text: str) -> set[str]:
    """The tables that hold a text."""
    tables = MetaData()
    tables.reflect(database)
    with reading(database) as connection:
        rows = {
            table.name: connection.execute(select(table)).all() for table in tables.sorted_tables
        }
    return {
        name
        for name, found in rows.items()
        if any(text in spelled for row in found for spelled in cells(row))
    }


def cells(row: object) -> Iterator[str]:
    for cell in row:  # type: ignore[attr-defined]
        yield cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)


def test_canaries_and_tenants(database_url: str, tmp_path: Path) -> None:
    import_small_catalog(database_url, tmp_path)
    (tmp_path / "tenants.yaml").write_text(SETTINGS)
    assert (
        assay("import", "tenants", tmp_path / "tenants.yaml", "--database", database_url).code == 0
    )
    journal = tmp_path / "journal"
    with serving_journal(database_url, journal) as server:
        ids = asked(server)
        assert len(ids) == 3
        assert (
            holding(tmp_path, CANARY) == []
        )  # with the journal's segments and SQLite's WAL in place
        assert [name for name in holding(tmp_path, TENANT) if "heads" in name] == []
        assert server.stop() == 0
        log = server.log_text
    found = ship_and_read_log(database_url, journal)
    assert sorted(found.ids) == sorted(ids)
    assert not any(canary in log for canary in (CANARY, TENANT, ERASED))
    assert holding(tmp_path, CANARY) == []
    assert holding(journal, TENANT) == []

    database = open_database(database_url)
    assert tables_holding(database, CANARY) == set()
    assert tables_holding(database, TENANT) <= {"tenant_pseudonym", "tenant_settings", "part"}
    assert tables_holding(database, ERASED)
    assert erase_tenant(database, ERASED)
    assert tables_holding(database, ERASED) == set()
    assert tables_holding(database, TENANT)
    database.dispose()
    assert holding(tmp_path, ERASED) == []
    after = ship_and_read_log(database_url, journal)
    assert after.ids == found.ids
    assert [report.fault for report in after.reports if report.fault] == []
