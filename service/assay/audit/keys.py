"""Public keys that signed heads are checked with, read from PEM files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from assay.engine.errors import OperatorError, quoted
from assay.journal.chain import key_id


class KeyMissing(OperatorError):
    """A file that should hold a key cannot be read or holds none."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"key {quoted(str(path))}: {why}")
        self.path = path


def public_keys(paths: Iterable[Path]) -> Mapping[str, bytes]:
    """The public keys in these files, or the public halves of private ones, by their short names."""
    keys = [public_key(path) for path in paths]
    return {key_id(key): key for key in keys}


def public_key(path: Path) -> bytes:
    """The public key in a file; raises KeyMissing."""
    try:
        content = path.read_bytes()
        key = load_pem_private_key(content, None) if b"PRIVATE" in content else load_pem_public_key(content)
    except OSError as error:
        raise KeyMissing(path, error.strerror or str(error)) from error
    except (TypeError, ValueError) as error:
        raise KeyMissing(path, "an Ed25519 key in PEM is expected") from error
    if isinstance(key, Ed25519PrivateKey):
        key = key.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise KeyMissing(path, "an Ed25519 key is expected")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
