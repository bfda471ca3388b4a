"""`assay audit verify` on real databases: manual tampering is named, and an intact log passes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.support import audited_log as audited
from tests.support.audited_log import EXACTO, PLAIN, AuditedLog, Tamper
from tests.support.catalogs import KIMI, NOW
from tests.support.commands import assert_rejected
from tests.support.processes import serving
from tests.support.server_calls import decide
from tests.support.waiting import eventually


@pytest.fixture
def six(log: AuditedLog) -> AuditedLog:
    """Six decisions of one stream."""
    log.decide(*[EXACTO] * 6)
    return log


@pytest.mark.parametrize(
    ("by", "fault", "at"),
    [
        pytest.param(audited.edit_record, "altered", 3, id="a record and its row are edited"),
        pytest.param(audited.edit_row, "altered", 3, id="a row is edited"),
        pytest.param(audited.edit_words, "altered", 1, id="words are deleted"),
        pytest.param(audited.delete_from(3, 3), "missing", 3, id="a record is deleted"),
        pytest.param(audited.delete_from(1, 2), "missing", 1, id="the beginning is deleted"),
        pytest.param(audited.delete_row, "altered", 3, id="a row is deleted"),
        pytest.param(audited.swap, "reordered", 3, id="two records are swapped"),
        pytest.param(
            audited.insert_between, "inserted", 4, id="a record is inserted in the middle"
        ),
        pytest.param(audited.insert_behind, "inserted", 7, id="a record is appended"),
        pytest.param(audited.insert_row, "inserted", 99, id="a row is inserted"),
        pytest.param(audited.delete_from(5, 6), "truncated", 5, id="the tail is truncated"),
        pytest.param(audited.delete_from(1, 6), "truncated", 1, id="all records are deleted"),
        pytest.param(
            audited.cut_tail_and_head, "truncated", 5, id="the tail and its head are deleted"
        ),
        pytest.param(audited.edit_signature, "forged", 6, id="a signature is edited"),
    ],
)
def test_manual_tampering_is_reported(six: AuditedLog, by: Tamper, fault: str, at: int) -> None:
    intact = six.verify()
    assert (intact.code, intact.err) == (0, "")
    assert "6 records of 1 streams checked" in intact.out
    six.tamper(by)

    programs, people = six.verify("--json"), six.verify()

    (stream,) = programs.json["streams"]
    assert (programs.code, programs.json["intact"]) == (1, False)
    assert (stream["fault"], stream["fault_seq"]) == (fault, at)
    assert people.code == 1
    assert fault in people.out


def test_each_stream_has_its_own_first_fault(six: AuditedLog) -> None:
    six.decide(EXACTO, PLAIN)
    (stream,) = {d["stream"] for d in six.audit("list", "--limit", 1, "--json").json["decisions"]}
    six.tamper(audited.delete_from(2, 2))

    found = six.verify("--json").json

    assert [(s["fault"], s["fault_seq"]) for s in found["streams"]] == [
        ("missing", 2),
        ("truncated", 2),
    ]
    assert six.verify("--stream", stream, "--json").json["streams"] == [found["streams"][1]]
    assert_rejected(six.verify("--stream", "unknown"), 2, "--stream")


def test_verifies_with_heads_and_public_key_from_elsewhere(six: AuditedLog, tmp_path: Path) -> None:
    heads, public = tmp_path / "heads", tmp_path / "signing.pub"
    heads.write_bytes((six.journal / "heads.jsonl").read_bytes())
    public.write_bytes(audited.public_half(six.journal / "signing.key"))
    away = ["--journal", tmp_path / "nothing", "--heads", heads, "--key", public]

    assert six.audit("verify", *away).code == 0
    assert not (tmp_path / "nothing").exists()
    other = unrelated_key(tmp_path)
    strange = six.audit("verify", "--journal", six.journal, "--key", other, "--json")
    assert (strange.code, strange.json["streams"][0]["fault"]) == (1, "unsigned")
    heads.write_text("damaged\n")
    assert_rejected(six.audit("verify", *away), 3, "line 1")


def unrelated_key(folder: Path) -> Path:
    """Create a key that signed no head."""
    audited.new_key(folder / "other.key")
    return folder / "other.key"


def test_the_log_verifies_while_a_server_decides(log: AuditedLog) -> None:
    with (
        serving("--database", log.url, "--journal", log.journal, "--now", NOW) as server,
        server.channel() as channel,
    ):
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                decide(channel, f"{KIMI}:exacto", tools=1)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            eventually((log.journal / "heads.jsonl").exists)
            found = [log.verify("--json").json for _ in range(8)]
        finally:
            stop.set()
            thread.join()
    assert [f["streams"] for f in found if not f["intact"]] == []
    assert found[-1]["streams"][0]["checked"] > 0
