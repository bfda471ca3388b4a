"""Fields that are not logged, and erased tenants, are found nowhere on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support.commands import assay
from tests.support.decide_load import import_small_catalog, ship_and_read_log
from tests.support.processes import AssayProcess, serving_journal
from tests.support.searches import files_containing, tables_containing

from assay.decision_log.retention import erase_tenant
from assay.store.database import open_database
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

CANARY = "canary-7f3a"
TENANT = "tenant-canary-51c2"
ERASED = "erased-canary-93d0"
SETTINGS = f"- {{tenant: {ERASED}, ignore: [three]}}\n- {{tenant: {TENANT}, ignore: [three]}}\n"
METHOD = "/assay.v1.RoutingService/Decide"


def unknown_field(number: int, text: str) -> bytes:
    """Encode a string in a field that the contract does not have."""
    key = number << 3 | 2
    return bytes([key & 0x7F | 0x80, key >> 7, len(text)]) + text.encode()


def decide_with_canaries(server: AssayProcess) -> list[str]:
    """Decide with a canary in every possible place, and return the ids of the answers."""
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


def test_canaries_and_erased_tenants_are_found_nowhere(database_url: str, tmp_path: Path) -> None:
    import_small_catalog(database_url, tmp_path)
    (tmp_path / "tenants.yaml").write_text(SETTINGS)
    assert (
        assay("import", "tenants", tmp_path / "tenants.yaml", "--database", database_url).code == 0
    )
    journal = tmp_path / "journal"
    with serving_journal(database_url, journal) as server:
        ids = decide_with_canaries(server)
        assert len(ids) == 3
        # the journal's segments and SQLite's WAL are still there
        assert files_containing(tmp_path, CANARY, except_suffix=".yaml") == []
        assert [
            name
            for name in files_containing(tmp_path, TENANT, except_suffix=".yaml")
            if "heads" in name
        ] == []
        assert server.stop() == 0
        log = server.log_text
    found = ship_and_read_log(database_url, journal)
    assert sorted(found.ids) == sorted(ids)
    assert not any(canary in log for canary in (CANARY, TENANT, ERASED))
    assert files_containing(tmp_path, CANARY, except_suffix=".yaml") == []
    assert files_containing(journal, TENANT, except_suffix=".yaml") == []

    database = open_database(database_url)
    assert tables_containing(database, CANARY) == set()
    assert tables_containing(database, TENANT) <= {"tenant_pseudonym", "tenant_settings", "part"}
    assert tables_containing(database, ERASED)
    assert erase_tenant(database, ERASED)
    assert tables_containing(database, ERASED) == set()
    assert tables_containing(database, TENANT)
    database.dispose()
    assert files_containing(tmp_path, ERASED, except_suffix=".yaml") == []
    after = ship_and_read_log(database_url, journal)
    assert after.ids == found.ids
    assert [report.fault for report in after.reports if report.fault] == []
