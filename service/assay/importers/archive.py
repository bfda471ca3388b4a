"""One member of a zip file, read without unpacking the rest; of stored, deflated and Zstandard members."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from assay.engine.errors import BadData, quoted

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
ENTRY_MAGIC = b"PK\x01\x02"
MANY_ENTRIES = 200_000
ZSTANDARD = 93  # a method that Python 3.11's zipfile does not know; written by Inspect since 0.3.285
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, ZSTANDARD}
ENCRYPTED = 0x1
LOCAL_HEADER = struct.Struct("<4s22xHH")
UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, OSError, ValueError, RuntimeError, EOFError, KeyError)


def is_zip(data: bytes) -> bool:
    """Whether the bytes begin as a zip file does."""
    return data.startswith(ZIP_MAGICS)


def member(data: bytes, name: str, limit: int) -> bytes:
    """Read the one member of that name; never holds more than `limit` bytes of it. Raises BadData."""
    if data.count(ENTRY_MAGIC) > MANY_ENTRIES:
        raise BadData(f"the zip file holds more than {MANY_ENTRIES} members")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            content = _content(data, archive, _entry(archive, name), limit)
    except UNREADABLE as error:
        raise BadData(f"broken zip file: {' '.join(str(error).split())[:200] or 'cut off'}") from error
    if len(content) > limit:
        raise BadData(f"{name} holds more than {limit} bytes")
    return content


def _entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    found = [entry for entry in archive.infolist() if entry.filename == name]
    if not found:
        raise BadData(f"the zip file has no {name}")
    if len(found) > 1:
        raise BadData(f"the zip file has {name} {len(found)} times")
    (entry,) = found
    if entry.flag_bits & ENCRYPTED:
        raise BadData(f"{name} is encrypted")
    if entry.compress_type not in METHODS:
        raise BadData(f"{name} is compressed in an unreadable way, zip method {entry.compress_type}")
    return entry


def _content(data: bytes, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    if entry.compress_type != ZSTANDARD:
        with archive.open(entry) as packed:
            return packed.read(limit + 1)
    content = _unpacked(_packed(data, entry), limit)
    if len(content) <= limit and zlib.crc32(content) != entry.CRC:
        raise BadData(f"{quoted(entry.filename)} is damaged: its checksum differs")
    return content


def _packed(data: bytes, entry: zipfile.ZipInfo) -> bytes:
    """Find the member's own bytes, which the local header stands before."""
    magic, name, extra = LOCAL_HEADER.unpack_from(data, entry.header_offset)
    start = entry.header_offset + LOCAL_HEADER.size + name + extra
    packed = data[start : start + entry.compress_size]
    if magic != ZIP_MAGICS[0] or len(packed) != entry.compress_size:
        raise BadData(f"{quoted(entry.filename)} is cut off")
    return packed


def _unpacked(packed: bytes, limit: int) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - takes a tenth of a second that other files need not pay

    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        found: bytes = stream.read(limit + 1)
    return found
