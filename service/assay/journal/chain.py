"""The hash chain over the records of a stream, and its signed heads.

How it works
------------
The link of a record is SHA-256 over the link before it, the record's number and kind, and the
SHA-256 of its bytes. The first link covers the stream's name. So a record that is changed, removed,
inserted or moved changes every link behind it.

Anyone who can edit the database could recompute all links. So heads are signed: a head is the
number and link of a record, signed with an Ed25519 key that the database does not hold. The newest
head is stored in the database with each batch, and heads are appended to `heads.jsonl` on the
journal's disk. A chain that does not pass through every known head was rewritten; a chain that ends
before a known head was truncated.

Only decisions are in the chain. Reports of outcomes and the records that map pseudonyms to tenants
are not: outcomes are deleted by age, and a tenant's name must be erasable.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from struct import Struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from assay.journal.errors import KeyUnusable
from assay.journal.operating_system import REAL, FileOperations

_PLACE = Struct(">QB")  # seq, kind
_GENESIS = b"assay journal 1 genesis\x00"
_HEAD = b"assay journal 1 head\x00"
_KEY_ID_BYTES = 8
_NOT_PRIVATE = 0o077


def genesis_link(stream: str) -> bytes:
    """Return the link that the first record of a stream is chained to."""
    return sha256(_GENESIS + stream.encode()).digest()


def chain_link(previous: bytes, seq: int, kind: int, payload: bytes) -> bytes:
    """Return the link of a record."""
    return sha256(previous + _PLACE.pack(seq, kind) + sha256(payload).digest()).digest()


@dataclass(frozen=True, slots=True)
class Head:
    """The number and link of a record of a stream, signed."""

    stream: str
    seq: int
    chain: bytes
    signature: bytes
    key_id: str


class HeadSigner:
    """Signs heads with an Ed25519 key in a file that only its owner may read."""

    def __init__(self, path: Path, operations: FileOperations = REAL) -> None:
        with suppress(FileExistsError):
            if not path.exists():
                _create(path, _new_key(), operations)
        if path.stat().st_mode & _NOT_PRIVATE:
            raise KeyUnusable(path, "a file that only its owner may read (mode 0600)")
        self.path = path
        self._operations = operations
        self._content = path.read_bytes()
        try:
            key = load_pem_private_key(self._content, password=None)
        except (TypeError, ValueError) as error:
            raise KeyUnusable(path, "an Ed25519 private key in PEM") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyUnusable(path, "an Ed25519 private key in PEM")
        self._key = key
        self.public_key = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id = key_id(self.public_key)

    def restore(self) -> bool:
        """Write the key's file again, if it was deleted; return whether it was."""
        if self.path.exists():
            return False
        with suppress(FileExistsError):
            _create(self.path, self._content, self._operations)
        return True

    def sign(self, stream: str, seq: int, link: bytes) -> Head:
        """Return the signed head of a stream."""
        return Head(stream, seq, link, self._key.sign(_signed(stream, seq, link)), self.key_id)


def key_id(public_key: bytes) -> str:
    """Return a short name for a public key."""
    return sha256(public_key).digest()[:_KEY_ID_BYTES].hex()


def verify_head(head: Head, public_key: bytes) -> bool:
    """Return whether the owner of the key signed this head."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(
            head.signature, _signed(head.stream, head.seq, head.chain)
        )
    except InvalidSignature:
        return False
    return head.key_id == key_id(public_key)


def _signed(stream: str, seq: int, link: bytes) -> bytes:
    return _HEAD + sha256(stream.encode()).digest() + seq.to_bytes(8, "big") + link


def _new_key() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _create(path: Path, content: bytes, operations: FileOperations) -> None:
    """Create a key under a temporary name and link it into place; of two processes, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = operations.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        try:
            if operations.write(descriptor, content) != len(content):
                raise KeyUnusable(path, "room on the disk for it")
            operations.sync_data(descriptor)
        finally:
            os.close(descriptor)
        os.link(draft, path)
        operations.sync_directory(path.parent)
    finally:
        draft.unlink()
