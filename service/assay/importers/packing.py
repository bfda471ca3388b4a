"""Unpacking of files, plain or gzip, within a size limit, and the digest of their content."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib

from assay.engine.errors import BadData

_GZIP_MAGIC = b"\x1f\x8b"
_UNPACKED_LIMIT = 256 * 1024 * 1024  # a hundred times the largest snapshot seen
TABLE_LIMIT = 64 * 1024 * 1024


def unpacked(data: bytes, limit: int = _UNPACKED_LIMIT) -> bytes:
    """Return the content of a plain or gzip file, reading at most `limit` bytes; raise BadData."""
    if not data.startswith(_GZIP_MAGIC):
        content = data
    else:
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                content = packed.read(limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise BadData(f"broken gzip file: {error}") from error
    if len(content) > limit:
        raise BadData(f"the file holds more than {limit} bytes")
    if not content.strip():
        raise BadData("the file is empty")
    return content


def digest(content: bytes) -> str:
    """Return the digest of unpacked content, which is the same however the file was packed."""
    return hashlib.sha256(content).hexdigest()
