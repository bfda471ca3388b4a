"""Retention: pruning keeps the chain intact, unused snapshots are deleted, and tenants erased."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, func, select, update
from tests.support.databases import record_policy
from tests.support.decision_streams import (
    OTHER,
    STREAM,
    Stream,
    empty_log,
    encode_row,
    make_rows,
    make_sink,
    payloads,
    read_log_tables,
    rejecting_writes,
    ship,
    spread_out,
)

from assay.decision_log.auditor import Auditor
from assay.decision_log.retention import erase_tenant, forget_unused_sets, prune, prune_snapshots
from assay.decision_log.streams import records, streams, words_of
from assay.decision_log.tables import chain_head, decision, journal_record, pruned
from assay.engine.canonical import canonical
from assay.engine.errors import StoreUnavailable
from assay.journal.chain import HeadSigner, chain_link, genesis_link
from assay.rule_files.compile import compile_source
from assay.store.database import reading, writing
from assay.store.evidence_tables import tenant_affiliation
from assay.store.snapshots import StoredSnapshot, latest_published, load_snapshot, save_snapshot
from assay.store.tables import part, preference, tenant_settings, world_revision

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture
def log(store: Engine) -> Iterator[Engine]:
    yield store
    empty_log(store)


def verified(database: Engine, stream: str = STREAM) -> list[int]:
    """Verify a stream's chain from the pruned part to the head; return its record numbers."""
    state = next(state for state in streams(database) if state.stream == stream)
    link = state.pruned.chain if state.pruned else genesis_link(stream)
    seq = state.pruned.seq if state.pruned else 0
    numbers = []
    for record in records(database, stream):
        assert record.seq == seq + 1
        seq, link = record.seq, chain_link(link, record.seq, record.kind, record.payload)
        assert record.chain == link
        numbers.append(seq)
    assert state.head is not None
    assert (state.head.seq, state.head.chain) == (seq, link)
    return numbers


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_remaining_log_verifies_after_pruning(log: Engine, batch: int) -> None:
    ship(log, Stream(), spread_out(make_rows(60), NOON, MINUTE))
    ship(log, Stream(OTHER), spread_out(make_rows(30, seed=2), NOON, MINUTE))
    assert prune(log, NOON + 40 * MINUTE, now=NOON + DAY, batch=batch) == 70
    assert verified(log) == list(range(41, 61))
    assert verified(log, OTHER) == []
    assert [(s.pruned and s.pruned.seq, s.pruned_at) for s in streams(log)] == [
        (40, NOON + DAY),
        (30, NOON + DAY),
    ]
    assert len(read_log_tables(log)["decision"]) == 20
    assert prune(log, NOON + 40 * MINUTE, now=NOON + 2 * DAY, batch=batch) == 0


@pytest.mark.parametrize(
    ("forged", "fault"),
    [pytest.param(False, "", id="unaltered"), pytest.param(True, "altered", id="forged")],
)
def test_the_last_pruned_record_must_follow_the_chain_of_its_signed_head(
    log: Engine, tmp_path: Path, *, forged: bool, fault: str
) -> None:
    signer, stream = HeadSigner(tmp_path / "key"), Stream()
    ship(log, stream, spread_out(make_rows(6), NOON, MINUTE))
    head = signer.sign(STREAM, stream.seq, stream.link)
    assert prune(log, NOON + DAY, now=NOON + DAY) == 6
    with writing(log) as connection:
        connection.execute(delete(chain_head))  # only the head outside the database is known
        if forged:
            connection.execute(update(pruned).values(chain=genesis_link(OTHER)))
    auditor = Auditor(log, "0.1.0", compile_source)
    (report,) = auditor.verify({signer.key_id: signer.public_key}, [head])
    assert (report.fault, report.pruned) == (fault, 6)


def test_pruning_and_shipping_continue_after_a_prune(log: Engine) -> None:
    stream, rows = Stream(), spread_out(make_rows(60), NOON, MINUTE)
    ship(log, stream, rows[:30])
    assert prune(log, NOON + 10 * MINUTE, now=NOON, batch=4) == 10
    ship(log, stream, rows[30:])
    assert prune(log, NOON + 45 * MINUTE, now=NOON, batch=4) == 35
    assert verified(log) == list(range(46, 61))


def test_an_old_record_after_a_young_one_is_kept(log: Engine) -> None:
    rows = spread_out(make_rows(10), NOON, MINUTE)
    rows[3] = replace(rows[3], decided_at=NOON + DAY)
    ship(log, Stream(), rows)
    assert prune(log, NOON + 20 * MINUTE, now=NOON) == 3
    assert verified(log) == list(range(4, 11))


def test_a_record_without_a_row_is_pruned_with_its_neighbors(log: Engine) -> None:
    stream, sink = Stream(), make_sink(log)
    rows = spread_out(make_rows(4), NOON, MINUTE)
    odd = [
        encode_row(rows[0]),
        b"?",
        encode_row(rows[1]),
        b"??",
        encode_row(rows[2]),
        encode_row(rows[3]),
    ]
    stream.into(sink, stream.records(odd))
    assert prune(log, NOON + 2 * MINUTE, now=NOON) == 3
    assert verified(log) == [4, 5, 6]


def test_a_stream_without_a_row_is_kept(log: Engine) -> None:
    stream = Stream()
    stream.into(make_sink(log), stream.records([b"?", b"??"]))
    assert prune(log, NOON + DAY, now=NOON) == 0
    assert verified(log) == [1, 2]


def test_pruning_does_not_hide_manual_deletions(log: Engine) -> None:
    ship(log, Stream(), spread_out(make_rows(10), NOON, MINUTE))
    with writing(log) as connection:
        connection.execute(delete(journal_record).where(journal_record.c.seq == 5))
    prune(log, NOON + 5 * MINUTE, now=NOON)
    assert [(state.stream, state.pruned) for state in streams(log)] == [(STREAM, None)]


@pytest.mark.parametrize("table", ["decision", "journal_record", "pruned"])
def test_a_batch_is_pruned_atomically(log: Engine, table: str) -> None:
    ship(log, Stream(), spread_out(make_rows(20), NOON, MINUTE))
    before = read_log_tables(log)
    when = "INSERT" if table == "pruned" else "DELETE"
    with rejecting_writes(log, table, when), pytest.raises(StoreUnavailable, match="refused"):
        prune(log, NOON + 10 * MINUTE, now=NOON)
    assert read_log_tables(log) == before


def test_pruning_and_shipping_run_concurrently(log: Engine) -> None:
    rows = spread_out(make_rows(2000), NOON, MINUTE)
    stream = Stream()
    ship(log, stream, rows[:1000])
    thread = threading.Thread(target=ship, args=(log, stream, rows[1000:], 50))
    thread.start()
    removed = sum(
        prune(log, NOON + minutes * MINUTE, now=NOON, batch=50) for minutes in range(0, 1001, 100)
    )
    thread.join()
    assert removed == 1000
    assert verified(log) == list(range(1001, 2001))
    left = {row.finding_set: {k: w for k, w in row.words.items() if w} for row in rows[1000:]}
    assert words_of(log, sorted(left)) == left


def test_a_finding_set_is_deleted_with_its_last_decision(log: Engine) -> None:
    stream, rows = Stream(), spread_out(make_rows(40), NOON, MINUTE)
    ship(log, stream, rows)
    prune(log, NOON + 20 * MINUTE, now=NOON)
    kept = {row[0] for row in read_log_tables(log)["finding_set_word"]}
    assert kept == {row.finding_set for row in rows[20:]}
    again = [replace(row, decision_id=f"again-{row.decision_id}") for row in rows[:20]]
    ship(log, stream, again)
    wanted = {row.finding_set: {k: w for k, w in row.words.items() if w} for row in again}
    assert words_of(log, sorted(wanted)) == wanted
    assert forget_unused_sets(log) == 0


def snapshot(name: bytes, *contents: bytes) -> StoredSnapshot:
    parts = {sha256(content).hexdigest(): content for content in contents}
    manifest = name + repr(sorted(parts)).encode()
    return StoredSnapshot(sha256(manifest).hexdigest(), NOON, 1, manifest, parts)


def keep(database: Engine, stored: StoredSnapshot, at: datetime, *, published: bool = True) -> None:
    save_snapshot(database, stored, published=published, now=at)


def test_a_snapshot_that_no_decision_or_server_needs_is_deleted(log: Engine) -> None:
    record_policy(log, "d1", {"exacto.yaml": "kind: RuleSet"}, now=NOON)
    unused, used, forced, newest = (snapshot(b"%d" % n, b"shared", b"own %d" % n) for n in range(4))
    draft = snapshot(b"draft", b"draft")
    for number, each in enumerate((unused, used, forced)):
        keep(log, each, NOON + number * DAY)
    keep(log, draft, NOON, published=False)
    keep(log, newest, NOON + 10 * DAY)
    ship(log, Stream(), make_rows(3, snapshot_id=used.snapshot_id))
    assert prune_snapshots(log, NOON + 5 * DAY) == 2
    assert load_snapshot(log, unused.snapshot_id) is None
    assert load_snapshot(log, draft.snapshot_id) is None
    for each in (used, forced, newest):
        assert load_snapshot(log, each.snapshot_id) == each
    with reading(log) as connection:
        assert connection.execute(select(func.count()).select_from(part)).scalar_one() == 4
    published = latest_published(log)
    assert published is not None
    assert published.snapshot_id == newest.snapshot_id
    assert prune_snapshots(log, NOON + 5 * DAY) == 0


def test_the_newest_snapshot_is_kept_whatever_its_age(log: Engine) -> None:
    record_policy(log, "d1", {"exacto.yaml": "kind: RuleSet"}, now=NOON)
    only = snapshot(b"only", b"x")
    keep(log, only, NOON)
    assert prune_snapshots(log, NOON + 1000 * DAY) == 0
    assert load_snapshot(log, only.snapshot_id) == only


CANARY = "kanarienvogel-é"


def tenant_part(tenant: str) -> bytes:
    return canonical(
        {"tenant": tenant, "settings": None, "preferences": [{"tenant": tenant, "kind": "pin"}]}
    )


def named(database: Engine, tenant: str) -> None:
    with writing(database) as connection:
        row = {"tenant": tenant, "kind": "pin", "target": "x", "model": None, "created_at": NOON}
        connection.execute(preference.insert(), row)
        settings = {
            "tenant": tenant,
            "only": [],
            "ignore": [],
            "zdr": False,
            "deny_data_collection": False,
        }
        connection.execute(tenant_settings.insert(), {**settings, "updated_at": NOON})
        connection.execute(tenant_affiliation.insert(), {"tenant": tenant, "provider": "x"})


def test_an_erased_tenant_has_no_rows_and_the_chain_still_verifies(log: Engine) -> None:
    record_policy(log, "d1", {"exacto.yaml": "kind: RuleSet"}, now=NOON)
    held = snapshot(
        b"held",
        tenant_part(CANARY),
        tenant_part("other"),
        canonical({"model": f'"tenant":"{CANARY}"'}),
    )
    keep(log, held, NOON)
    stream = Stream()
    sent = [
        stream.tenant(CANARY, "tp_1"),
        stream.tenant("other", "tp_2"),
        stream.tenant(CANARY, "tp_3"),
        *stream.records(payloads(make_rows(20, tenant="tp_1"))),
    ]
    stream.into(make_sink(log), sent)
    for tenant in (CANARY, "other"):
        named(log, tenant)
    assert erase_tenant(log, CANARY) == 2 + 3 + 1
    assert [row[:2] for row in read_log_tables(log)["tenant_pseudonym"]] == [("tp_2", "other")]
    with reading(log) as connection:
        for table in (preference, tenant_settings, tenant_affiliation):
            assert connection.execute(select(table.c.tenant)).scalars().all() == ["other"]
        assert (
            connection.execute(
                select(world_revision.c.number).where(world_revision.c.kind == "preferences")
            ).scalar()
            == 1
        )
        assert (
            connection.execute(select(func.count()).where(decision.c.tenant == "tp_1")).scalar_one()
            == 20
        )
    assert verified(log) == list(range(1, 21))
    left = load_snapshot(log, held.snapshot_id)
    assert left is not None
    assert [content for content in held.parts.values() if content not in left.parts.values()] == [
        tenant_part(CANARY)
    ]
    assert erase_tenant(log, CANARY) == 0


def test_the_database_file_contains_no_byte_of_an_erased_tenant(log: Engine) -> None:
    if log.dialect.name != "sqlite":
        pytest.skip("a server keeps its files to itself")
    stream = Stream()
    tenants = [stream.tenant(f"{CANARY}-{number}" * 3, f"tp_{number}") for number in range(50)]
    stream.into(make_sink(log), [*tenants, *stream.records(payloads(make_rows(20)))])
    for number in range(50):
        erase_tenant(log, f"{CANARY}-{number}" * 3)
    files = Path(str(log.url.database)).parent.glob("*.db*")
    assert not [file for file in files if CANARY.encode() in file.read_bytes()]
