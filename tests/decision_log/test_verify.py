"""Verification reports every kind of tampering with its fault and record number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assay.decision_log.auditor import columns_of
from assay.decision_log.record import DecisionRecord, encode_record
from assay.decision_log.verify import (
    ChainPoint,
    StreamContents,
    StreamReport,
    StreamRow,
    verify_stream,
)
from assay.engine.decide.plan import Moment
from assay.engine.world.request import Request
from assay.journal.chain import Head, HeadSigner, chain_link, genesis_link
from assay.journal.sink import RecordKind

NAME = "0" * 32
PLAN = b'{"attempts":[],"availability":"no_endpoints","snapshot":"s","verdicts":[]}'
LENGTH = 9
Rows = list[StreamRow]


@dataclass(frozen=True)
class IntactStream:
    """An unaltered stream and its keys."""

    rows: Rows
    signer: HeadSigner
    other: HeadSigner

    def head(self, seq: int, signer: HeadSigner | None = None) -> Head:
        return (signer or self.signer).sign(NAME, seq, self.rows[seq - 1].chain)

    def check(
        self,
        rows: Iterable[StreamRow],
        *,
        heads: Sequence[Head] = (),
        outside: Sequence[Head] = (),
        start: ChainPoint | None = None,
    ) -> StreamReport:
        keys: Mapping[str, bytes] = {self.signer.key_id: self.signer.public_key}
        return verify_stream(StreamContents(NAME, rows, start, heads, outside), keys, columns_of)


def record(number: int) -> bytes:
    moment = Moment(datetime(2026, 7, 4, tzinfo=UTC), bytes(32))
    request = Request("lab/one", request_id=f"r-{number}")
    return encode_record(
        DecisionRecord(f"id-{number}", number, moment, "", request, "s", 1, "d", "0.1.0", 5, PLAN)
    )


def logged(seq: int, data: bytes, link: bytes) -> StreamRow:
    return StreamRow(seq, RecordKind.DECISION, data, link, columns_of(data))


def chained(data: Iterable[bytes]) -> Rows:
    rows, link = [], genesis_link(NAME)
    for seq, each in enumerate(data, 1):
        link = chain_link(link, seq, RecordKind.DECISION, each)
        rows.append(logged(seq, each, link))
    return rows


@pytest.fixture
def intact(tmp_path: Path) -> IntactStream:
    rows = chained(map(record, range(1, LENGTH + 1)))
    return IntactStream(rows, HeadSigner(tmp_path / "a.key"), HeadSigner(tmp_path / "b.key"))


def at(rows: Rows, seq: int, **changes: object) -> Rows:
    """Return the rows with one changed."""
    return [
        replace(row, **changes) if row.seq == seq else row  # type: ignore[arg-type] # any column
        for row in rows
    ]


def without(rows: Rows, *gone: int) -> Rows:
    return [row for row in rows if row.seq not in gone]


def swapped(rows: Rows, one: int, other: int) -> Rows:
    """Swap two records and their rows; the links stay in place."""
    first, second = rows[one - 1], rows[other - 1]
    moved = {
        one: replace(first, record=second.record, columns=second.columns),
        other: replace(second, record=first.record, columns=first.columns),
    }
    return [moved.get(row.seq, row) for row in rows]


def inserted(rows: Rows, seq: int) -> Rows:
    """Insert a record and renumber the later ones; the links stay with their records."""
    later = [replace(row, seq=row.seq + 1) for row in rows if row.seq >= seq]
    return [*rows[: seq - 1], logged(seq, record(99), b"x" * 32), *later]


def rewritten(rows: Rows) -> Rows:
    """Replace a record and recompute the chain, as an attacker without the key could."""
    return chained([record(99) if row.seq == 5 else row.record for row in rows])


def appended(rows: Rows) -> Rows:
    """Append a record with a correct link."""
    link = chain_link(rows[-1].chain, 10, RecordKind.DECISION, record(10))
    return [*rows, logged(10, record(10), link)]


def column(rows: Rows, seq: int, name: str, value: object) -> Rows:
    return at(rows, seq, columns={**(rows[seq - 1].columns or {}), name: value})


@pytest.mark.parametrize(
    ("tamper", "fault", "seq", "words"),
    [
        pytest.param(lambda rows: rows, "", 0, "", id="no change"),
        pytest.param(
            lambda rows: at(rows, 4, record=record(99), columns=columns_of(record(99))),
            "altered",
            4,
            "is not the record that was chained here",
            id="a record edited",
        ),
        pytest.param(
            lambda rows: at(rows, 4, record=record(99)),
            "altered",
            4,
            "its record says",
            id="a record edited alone",
        ),
        pytest.param(
            lambda rows: column(rows, 6, "first_provider", "mine"),
            "altered",
            6,
            "first_provider of id-6 is 'mine', its record says ''",
            id="a column edited",
        ),
        pytest.param(
            lambda rows: column(rows, 6, "words", {"reason": ("x",)}),
            "altered",
            6,
            "words of id-6",
            id="words edited",
        ),
        pytest.param(
            lambda rows: at(rows, 2, columns=None), "altered", 2, "the row of", id="a row deleted"
        ),
        pytest.param(
            lambda rows: at(rows, 3, record=b"x"),
            "altered",
            3,
            "cannot be read",
            id="a record made unreadable",
        ),
        pytest.param(
            lambda rows: at(rows, 3, chain=b"x" * 32), "altered", 3, "id-3", id="a link edited"
        ),
        pytest.param(
            lambda rows: without(rows, 1),
            "missing",
            1,
            "records 1 are missing before id-2",
            id="the first deleted",
        ),
        pytest.param(lambda rows: without(rows, 5), "missing", 5, "before id-6", id="one deleted"),
        pytest.param(
            lambda rows: without(rows, 5, 6, 7),
            "missing",
            5,
            "records 5 to 7 are missing before id-8",
            id="several deleted",
        ),
        pytest.param(
            lambda rows: swapped(rows, 3, 4),
            "reordered",
            3,
            "id-4 is in the place of id-3",
            id="neighbors swapped",
        ),
        pytest.param(
            lambda rows: swapped(rows, 2, 8),
            "reordered",
            2,
            "id-8 is in the place of id-2",
            id="two swapped",
        ),
        pytest.param(
            lambda rows: inserted(rows, 4),
            "inserted",
            4,
            "id-99 was inserted before id-4",
            id="one inserted",
        ),
        pytest.param(
            lambda rows: [*rows[:4], rows[3], *rows[4:]],
            "inserted",
            4,
            "a second one at 4",
            id="one duplicated",
        ),
        pytest.param(
            lambda rows: rows[:6],
            "truncated",
            7,
            "ends at 6, but there is a signed head at 9",
            id="the tail truncated",
        ),
        pytest.param(lambda _rows: [], "truncated", 1, "ends at 0", id="all deleted"),
        pytest.param(
            appended,
            "inserted",
            10,
            "after the last signed head",
            id="one appended",
        ),
        pytest.param(
            rewritten,
            "altered",
            9,
            "does not pass through the signed head",
            id="the chain recomputed",
        ),
    ],
)
@pytest.mark.parametrize("place", ["heads", "outside"])
def test_tampering_is_reported_with_fault_and_number(
    tamper: Callable[[Rows], Rows],
    fault: str,
    seq: int,
    words: str,
    place: str,
    intact: IntactStream,
) -> None:
    kept = {place: (intact.head(LENGTH),)}
    report = intact.check(tamper(list(intact.rows)), **kept)  # type: ignore[arg-type] # any option
    assert (report.fault, report.fault_seq) == (fault, seq), report.detail
    assert words in report.detail
    assert fault or report.checked == LENGTH


def test_a_head_outside_reveals_a_tail_cut_with_the_heads_of_the_database(
    intact: IntactStream,
) -> None:
    report = intact.check(
        intact.rows[:6], heads=[intact.head(6)], outside=[intact.head(3), intact.head(9)]
    )
    assert (report.fault, report.fault_seq) == ("truncated", 7)


def test_a_rewritten_chain_is_reported_at_the_oldest_head_that_contradicts_it(
    intact: IntactStream,
) -> None:
    rows = rewritten(intact.rows)
    forged = IntactStream(rows, intact.signer, intact.other)
    heads = [forged.head(9, intact.other)]
    report = intact.check(
        rows, heads=heads, outside=[intact.head(3), intact.head(6), intact.head(9)]
    )
    assert (report.fault, report.fault_seq) == ("altered", 6)


def test_heads_by_an_unknown_key_and_invalid_signatures_are_reported(intact: IntactStream) -> None:
    report = intact.check(intact.rows, heads=[intact.head(LENGTH, intact.other)])
    assert (report.fault, report.fault_seq) == ("unsigned", LENGTH)
    assert intact.other.key_id in report.detail
    misdated = replace(intact.head(LENGTH), seq=LENGTH - 1)
    report = intact.check(intact.rows, heads=[misdated, intact.head(LENGTH)])
    assert (report.fault, report.fault_seq) == ("forged", LENGTH - 1)


def test_a_pruned_stream_is_verified_from_its_last_pruned_record(intact: IntactStream) -> None:
    start = ChainPoint(4, intact.rows[3].chain)
    report = intact.check(intact.rows[4:], heads=[intact.head(LENGTH)], start=start)
    assert (report.fault, report.checked, report.pruned) == ("", LENGTH - 4, 4)
    report = intact.check(intact.rows[5:], heads=[intact.head(LENGTH)], start=start)
    assert (report.fault, report.fault_seq) == ("missing", 5)


def test_records_shipped_while_verifying_are_covered_by_a_newer_head(intact: IntactStream) -> None:
    keys = {intact.signer.key_id: intact.signer.public_key}
    stream = StreamContents(NAME, intact.rows, None, (intact.head(6),), ())
    assert verify_stream(stream, keys, columns_of).fault == "inserted"
    assert (
        verify_stream(replace(stream, newer=lambda: [intact.head(LENGTH)]), keys, columns_of).fault
        == ""
    )
    forged = intact.head(LENGTH, intact.other)
    assert (
        verify_stream(replace(stream, newer=lambda: [forged]), keys, columns_of).fault == "inserted"
    )
    newer = replace(stream, newer=lambda: [intact.head(LENGTH), intact.head(6)])
    assert verify_stream(newer, keys, columns_of).fault == ""  # the newest head counts


def verified_with_newer_head(intact: IntactStream, newer: Head) -> StreamReport:
    """Verify a stream of which the first reading had only the head at 6."""
    keys = {intact.signer.key_id: intact.signer.public_key}
    stream = StreamContents(NAME, intact.rows, None, (intact.head(6),), (), lambda: [newer])
    return verify_stream(stream, keys, columns_of)


def test_records_shipped_while_verifying_must_follow_the_chain_of_the_newer_head(
    intact: IntactStream,
) -> None:
    other_chain = intact.signer.sign(NAME, LENGTH, intact.rows[5].chain)
    report = verified_with_newer_head(intact, other_chain)
    assert (report.fault, report.fault_seq) == ("altered", LENGTH)
    assert "does not pass through the signed head at 9" in report.detail


def test_a_newer_head_with_an_invalid_signature_covers_no_records(intact: IntactStream) -> None:
    forged = replace(intact.head(LENGTH), signature=bytes(64))
    report = verified_with_newer_head(intact, forged)
    assert (report.fault, report.fault_seq) == ("inserted", 7)
