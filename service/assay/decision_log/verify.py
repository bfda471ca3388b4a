"""Verification: whether a stream of the log is whole, and where it first is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from assay.engine.errors import OperatorError, quoted
from assay.journal.chain import Head, chain_link, genesis_link, key_id, verify_head
from assay.journal.sink import RecordKind


class KeyMissing(OperatorError):
    """A file that should hold a key cannot be read or holds none."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"key {quoted(str(path))}: {why}")
        self.path = path


def read_public_keys(paths: Iterable[Path]) -> Mapping[str, bytes]:
    """The public keys in these files, or the public halves of private ones, by their short names."""
    keys = [public_key(path) for path in paths]
    return {key_id(key): key for key in keys}


def public_key(path: Path) -> bytes:
    """The public key in a file; raises KeyMissing."""
    try:
        content = path.read_bytes()
        key = (
            load_pem_private_key(content, None)
            if b"PRIVATE" in content
            else load_pem_public_key(content)
        )
    except OSError as error:
        raise KeyMissing(path, error.strerror or str(error)) from error
    except (TypeError, ValueError) as error:
        raise KeyMissing(path, "an Ed25519 key in PEM is expected") from error
    if isinstance(key, Ed25519PrivateKey):
        key = key.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise KeyMissing(path, "an Ed25519 key is expected")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


LOOK_AHEAD = 1000
Fault = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One record as the database has it: place, kind, bytes and link, and the row it is found by, if there is one."""

    seq: int
    kind: int
    record: bytes
    chain: bytes
    columns: Mapping[str, object] | None

    @property
    def decision_id(self) -> str:
        """The decision it is found by, else its number."""
        return str(self.columns["decision_id"]) if self.columns else f"number {self.seq}"


@dataclass(frozen=True, slots=True)
class Start:
    """From where a stream is verified: the last record removed by age and its link, or nothing removed."""

    seq: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class StreamReport:
    """A stream's state; `fault` is empty where it is whole, else what is wrong at `fault_seq`, in a word."""

    stream: str
    checked: int
    pruned: int
    fault: str = ""
    fault_seq: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StreamContents:
    """What verifying reads of one stream: rows in order of seq, heads of the database and those kept outside.

    `newer` reads the heads of the database again, once the rows are read: a log that is in use grows meanwhile.
    """

    stream: str
    rows: Iterable[StreamRow]
    start: Start | None
    heads: Sequence[Head]
    outside: Sequence[Head]
    newer: Callable[[], Iterable[Head]] = tuple


def verify_stream(
    stream: StreamContents,
    public_keys: Mapping[str, bytes],
    derive: Callable[[bytes], Mapping[str, object]],
) -> StreamReport:
    """Check every row against its record, the chain and the signed heads; the first fault in the stream's order."""
    start = stream.start or Start(0, genesis_link(stream.stream))
    checker = Checker(stream, start.seq, start.chain, derive)
    rows = iter(stream.rows)
    for row in rows:
        if fault := checker.row(row) or checker.link_of(row, rows):
            return checker.report(*fault)
    fault = checker.against([*stream.heads, *stream.outside], public_keys)
    return checker.report(*(fault or ("", 0, "")))


class Checker:
    """Walks one stream."""

    def __init__(
        self,
        stream: StreamContents,
        seq: int,
        link: bytes,
        derive: Callable[[bytes], Mapping[str, object]],
    ) -> None:
        self.stream = stream
        self.first = self.seq = seq
        self.link = link
        self.derive = derive
        self.links: dict[int, bytes] = {seq: link}
        self.wanted = {h.seq for h in (*stream.heads, *stream.outside)}

    def row(self, row: StreamRow) -> Fault | None:
        """What is wrong with the next row by itself."""
        expected = self.seq + 1
        if row.seq != expected:
            return self.misplaced(row, expected)
        if wrong := self.derived(row):
            return ("altered", row.seq, wrong)
        return None

    def link_of(self, row: StreamRow, rest: Iterator[StreamRow]) -> Fault | None:
        """Take the next row into the chain; what is wrong with it there, judged by what follows."""
        link = chain_link(self.link, row.seq, row.kind, row.record)
        if link != row.chain:
            return self.unlinked(row, list(islice(rest, LOOK_AHEAD)))
        self.seq, self.link = row.seq, link
        if row.seq in self.wanted:
            self.links[row.seq] = link
        return None

    def unlinked(self, row: StreamRow, later: Sequence[StreamRow]) -> Fault:
        """Why a row does not follow in the chain: another one belongs there, or its record was changed."""
        for other in later:
            link = chain_link(self.link, row.seq, other.kind, other.record)
            if link in (row.chain, other.chain):
                moved = chain_link(link, row.seq + 1, row.kind, row.record)
                if other.seq != row.seq + 1 or moved in (row.chain, other.chain):
                    return (
                        "reordered",
                        row.seq,
                        f"record {row.decision_id} stands where {other.decision_id} belongs",
                    )
                return (
                    "inserted",
                    row.seq,
                    f"record {row.decision_id} stands before {other.decision_id}, which belongs here",
                )
        if row.seq > max(self.wanted, default=self.first):
            return (
                "inserted",
                row.seq,
                f"record {row.decision_id} stands behind the last signed head",
            )
        return (
            "altered",
            row.seq,
            f"record {row.decision_id} is not the one that was chained here",
        )

    def misplaced(self, row: StreamRow, expected: int) -> Fault:
        """A row that does not follow the one before it."""
        if row.seq < expected:
            return (
                "inserted",
                row.seq,
                f"record {row.decision_id} stands a second time at {row.seq}",
            )
        gap = f"{expected}" if row.seq == expected + 1 else f"{expected} to {row.seq - 1}"
        return ("missing", expected, f"records {gap} are missing before {row.decision_id}")

    def derived(self, row: StreamRow) -> str:
        """What the row's columns say otherwise than its record."""
        if row.kind != RecordKind.DECISION:
            return ""
        if row.columns is None:
            return f"the row of the decision at {row.seq} is missing"
        try:
            columns = self.derive(row.record)
        except ValueError as error:
            return f"record {row.decision_id} cannot be read: {error}"
        for name, value in columns.items():
            if row.columns[name] != value:
                return f"{name} of {row.decision_id} is {row.columns[name]!r}, its record says {value!r}"
        return ""

    def against(self, heads: Iterable[Head], public_keys: Mapping[str, bytes]) -> Fault | None:
        """Check that the chain passes through every signed head."""
        known = sorted(heads, key=lambda h: h.seq)
        for head in known:
            key = public_keys.get(head.key_id)
            if key is None:
                return (
                    "unsigned",
                    head.seq,
                    f"the head at {head.seq} is signed with the unknown key {head.key_id}",
                )
            if not verify_head(head, key):
                return ("forged", head.seq, f"the signature of the head at {head.seq} does not fit")
            if head.seq > self.seq:
                return (
                    "truncated",
                    self.seq + 1,
                    f"the log ends at {self.seq}, a signed head stands at {head.seq}",
                )
            if head.seq in self.links and self.links[head.seq] != head.chain:
                return (
                    "altered",
                    head.seq,
                    f"the chain does not pass through the signed head at {head.seq}",
                )
        last = known[-1].seq if known else self.first
        if self.seq > last:
            return self.grown(last, public_keys)
        return None

    def grown(self, last: int, public_keys: Mapping[str, bytes]) -> Fault | None:
        """Check records behind the last head that was known at the start: a newer one has to cover them by now."""
        valid = (
            h
            for h in self.stream.newer()
            if h.key_id in public_keys and verify_head(h, public_keys[h.key_id])
        )
        newest = max(valid, key=lambda h: h.seq, default=None)
        if newest is None or newest.seq < self.seq:
            return (
                "inserted",
                last + 1,
                f"records from {last + 1} on stand behind the last signed head",
            )
        if newest.seq == self.seq and newest.chain != self.link:
            return (
                "altered",
                self.seq,
                f"the chain does not pass through the signed head at {self.seq}",
            )
        return None

    def report(self, fault: str, seq: int, detail: str) -> StreamReport:
        """The stream's state as far as it was walked."""
        return StreamReport(
            self.stream.stream, self.seq - self.first, self.first, fault, seq, detail
        )
