"""Verification: whether a stream of the log is intact, and where its first fault is.

How it works
------------
The verifier walks a stream in the order of its numbers and recomputes the chain (`journal.chain`).
Each record must have the next number, its link must follow from the link before, and the row that
lists it must equal the row derived from its bytes. Then the chain must pass through every signed
head that is known: those in the database and those outside of it.

After a link that does not fit, the next records tell why: if another record follows the chain here,
this one was inserted or moved; otherwise its bytes were altered. Only the first fault is reported,
since everything after it is unproven.

A log in use grows meanwhile. Records after the last head that was read at the start are intact only
if a newer head covers them by now.
"""

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

_LOOK_AHEAD = 1000
_Fault = tuple[str, int, str]
DeriveColumns = Callable[[bytes], Mapping[str, object]]


class KeyMissing(OperatorError):
    """A key file cannot be read or holds no Ed25519 key."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"key {quoted(str(path))}: {why}")
        self.path = path


def read_public_keys(paths: Iterable[Path]) -> Mapping[str, bytes]:
    """Return the public keys of public or private PEM files by key id; raise KeyMissing."""
    keys: dict[str, bytes] = {}
    for path in paths:
        try:
            pem = path.read_bytes()
            key = load_pem_private_key(pem, None) if b"PRIVATE" in pem else load_pem_public_key(pem)
        except OSError as error:
            raise KeyMissing(path, error.strerror or str(error)) from error
        except (TypeError, ValueError) as error:
            raise KeyMissing(path, "an Ed25519 key in PEM is expected") from error
        if isinstance(key, Ed25519PrivateKey):
            key = key.public_key()
        if not isinstance(key, Ed25519PublicKey):
            raise KeyMissing(path, "an Ed25519 key is expected")
        public = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        keys[key_id(public)] = public
    return keys


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One stored record with its link; `columns` is the row that lists it, if there is one."""

    seq: int
    kind: int
    record: bytes
    chain: bytes
    columns: Mapping[str, object] | None

    @property
    def decision_id(self) -> str:
        """The decision's id, or its number if no row lists it."""
        return str(self.columns["decision_id"]) if self.columns else f"number {self.seq}"


@dataclass(frozen=True, slots=True)
class ChainPoint:
    """A record's number and link."""

    seq: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class StreamReport:
    """The state of a stream; `fault` names what is wrong at `fault_seq`, or is empty."""

    stream: str
    checked: int
    pruned: int
    fault: str = ""
    fault_seq: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StreamContents:
    """What is known of one stream: rows in order, the heads in the database and those outside.

    `start` is the last record removed by age. `newer` reads the heads in the database again.
    """

    stream: str
    rows: Iterable[StreamRow]
    start: ChainPoint | None
    heads: Sequence[Head]
    outside: Sequence[Head]
    newer: Callable[[], Iterable[Head]] = tuple


def verify_stream(
    stream: StreamContents, public_keys: Mapping[str, bytes], derive: DeriveColumns
) -> StreamReport:
    """Check rows, chain and heads of a stream; report its first fault."""
    verifier = _StreamVerifier(stream, public_keys, derive)
    rows = iter(stream.rows)
    for row in rows:
        if fault := verifier.check_row(row) or verifier.check_link(row, rows):
            return verifier.report(fault)
    return verifier.report(verifier.check_heads())


class _StreamVerifier:
    """Walks one stream; `seq` and `link` are those of the last valid record."""

    def __init__(
        self, stream: StreamContents, public_keys: Mapping[str, bytes], derive: DeriveColumns
    ) -> None:
        start = stream.start or ChainPoint(0, genesis_link(stream.stream))
        self.stream = stream
        self.public_keys = public_keys
        self.derive = derive
        self.first = self.seq = start.seq
        self.link = start.chain
        self.links: dict[int, bytes] = {start.seq: start.chain}
        self.head_seqs = {head.seq for head in (*stream.heads, *stream.outside)}

    def check_row(self, row: StreamRow) -> _Fault | None:
        """Check the next row by itself."""
        expected = self.seq + 1
        if row.seq < expected:
            return "inserted", row.seq, f"record {row.decision_id} is a second one at {row.seq}"
        if row.seq > expected:
            gap = f"{expected}" if row.seq == expected + 1 else f"{expected} to {row.seq - 1}"
            return "missing", expected, f"records {gap} are missing before {row.decision_id}"
        if difference := self._difference_from_record(row):
            return "altered", row.seq, difference
        return None

    def check_link(self, row: StreamRow, rest: Iterator[StreamRow]) -> _Fault | None:
        """Take the next row into the chain; explain a wrong link from the rows after it."""
        link = chain_link(self.link, row.seq, row.kind, row.record)
        if link != row.chain:
            return self._explain_wrong_link(row, list(islice(rest, _LOOK_AHEAD)))
        self.seq, self.link = row.seq, link
        if row.seq in self.head_seqs:
            self.links[row.seq] = link
        return None

    def _explain_wrong_link(self, row: StreamRow, later: Sequence[StreamRow]) -> _Fault:
        record = f"record {row.decision_id}"
        for other in later:
            link = chain_link(self.link, row.seq, other.kind, other.record)
            if link in {row.chain, other.chain}:
                moved = chain_link(link, row.seq + 1, row.kind, row.record)
                if other.seq != row.seq + 1 or moved in {row.chain, other.chain}:
                    return "reordered", row.seq, f"{record} is in the place of {other.decision_id}"
                detail = f"{record} was inserted before {other.decision_id}, which belongs here"
                return "inserted", row.seq, detail
        if row.seq > max(self.head_seqs, default=self.first):
            return "inserted", row.seq, f"{record} comes after the last signed head"
        return "altered", row.seq, f"{record} is not the record that was chained here"

    def _difference_from_record(self, row: StreamRow) -> str:
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
                stored = f"{name} of {row.decision_id} is {row.columns[name]!r}"
                return f"{stored}, its record says {value!r}"
        return ""

    def check_heads(self) -> _Fault | None:
        """Check that the chain passes through every signed head."""
        heads = sorted((*self.stream.heads, *self.stream.outside), key=lambda head: head.seq)
        for head in heads:
            if fault := self._check_head(head):
                return fault
        last = heads[-1].seq if heads else self.first
        return self._check_growth(last) if self.seq > last else None

    def _check_head(self, head: Head) -> _Fault | None:
        seq = head.seq
        if head.key_id not in self.public_keys:
            detail = f"the head at {seq} is signed with the unknown key {head.key_id}"
            return "unsigned", seq, detail
        if not verify_head(head, self.public_keys[head.key_id]):
            return "forged", seq, f"the signature of the head at {seq} is not valid"
        if seq > self.seq:
            detail = f"the log ends at {self.seq}, but there is a signed head at {seq}"
            return "truncated", self.seq + 1, detail
        if seq in self.links and self.links[seq] != head.chain:
            return "altered", seq, f"the chain does not pass through the signed head at {seq}"
        return None

    def _check_growth(self, last: int) -> _Fault | None:
        """Check that a newer head covers the records after the last head known before."""
        keys = self.public_keys
        heads = [head for head in self.stream.newer() if head.key_id in keys]
        valid = [head for head in heads if verify_head(head, keys[head.key_id])]
        newest = max(valid, key=lambda head: head.seq, default=None)
        if newest is None or newest.seq < self.seq:
            detail = f"the records from {last + 1} on come after the last signed head"
            return "inserted", last + 1, detail
        if newest.seq == self.seq and newest.chain != self.link:
            detail = f"the chain does not pass through the signed head at {self.seq}"
            return "altered", self.seq, detail
        return None

    def report(self, fault: _Fault | None) -> StreamReport:
        """Return the state of the stream, as far as it was walked."""
        checked = self.seq - self.first
        return StreamReport(self.stream.stream, checked, self.first, *(fault or ()))
