"""Who asks: client keys, known by their hashes alone, and the tenants they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from assay.forward.answers import Refused
from assay.forward.files import Document

BEARER = b"bearer "


@dataclass(frozen=True, slots=True)
class Clients:
    """Tenants by the SHA-256 of their keys; without a file everybody may ask, as nobody in particular."""

    tenants: Mapping[bytes, str] | None = None

    def require(self, authorization: bytes) -> str:
        """The tenant behind an Authorization header; raises Refused where its key is not known."""
        if self.tenants is None:
            return ""
        key = (
            authorization[len(BEARER) :] if authorization[: len(BEARER)].lower() == BEARER else b""
        )
        tenant = self.tenants.get(sha256(key.strip()).digest())
        if tenant is None:
            raise Refused(401, "a known key is needed: Authorization: Bearer KEY", "authentication")
        return tenant


def read_clients(file: Path) -> Clients:
    """The clients of a file; raises BadFile telling every fault."""
    document = Document(file, "clients")
    entries = document.content["spec"]
    hashes = [entry["sha256"] for entry in entries]
    again = [index for index, digest in enumerate(hashes) if digest in hashes[:index]]
    document.refuse(
        [(("spec", index, "sha256"), "this key stands further up already") for index in again]
    )
    return Clients({bytes.fromhex(entry["sha256"]): entry["tenant"] for entry in entries})
