"""The records of a spool file: decoded as a whole, or one by one if the file is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from assay.v1 import evidence_pb2 as pb

_FIELDS: Final = frozenset(pb.ReportOutcomesRequest.DESCRIPTOR.fields_by_number)
_LENGTH_DELIMITED: Final = 2
_MAX_VARINT_BYTES: Final = 10
_CONTINUES: Final = 0x80  # a byte of a varint that is not its last
_MAX_TORN_BYTES: Final = 1 << 16
"""A longer rest is not a torn record but damage, for example of a record's length."""


class DecodedRecords(NamedTuple):
    """What a file holds, and how many records were lost.

    A file that `is_damaged` holds bytes that may be of interest and were not decoded.
    """

    request: pb.ReportOutcomesRequest
    lost: int = 0
    is_damaged: bool = False


class _Field(NamedTuple):
    """A field of the request, from its tag to its end; it has no end if the rest is not one."""

    begin: int
    end: int | None


def decode_records(data: bytes) -> DecodedRecords:
    """Decode what can be decoded; raise DecodeError if that is nothing."""
    try:
        return DecodedRecords(pb.ReportOutcomesRequest.FromString(data))
    except DecodeError:
        pass
    request, lost, rest = pb.ReportOutcomesRequest(), 0, b""
    for begin, end in _fields(data):
        if end is None:
            rest = data[begin:]
            continue
        try:
            request.MergeFrom(pb.ReportOutcomesRequest.FromString(data[begin:end]))
        except DecodeError:
            lost += 1
    is_damaged = bool(lost) or not _is_torn(rest)
    if is_damaged and not request.outcomes:
        raise DecodeError("no record can be decoded")
    return DecodedRecords(request, lost + bool(rest), is_damaged)


def _fields(data: bytes) -> Iterator[_Field]:
    """Yield the fields; the last one has no end if the rest of the data is not a whole field."""
    place = 0
    while place < len(data):
        end = _end_of_field(data, place)
        yield _Field(place, end)
        if end is None:
            return
        place = end


def _end_of_field(data: bytes, place: int) -> int | None:
    tag, after_tag = _varint(data, place)
    if tag is None or tag >> 3 not in _FIELDS or tag & 7 != _LENGTH_DELIMITED:
        return None
    length, begin = _varint(data, after_tag)
    if length is None or begin + length > len(data):
        return None
    return begin + length


def _is_torn(rest: bytes) -> bool:
    """Whether this is the begin of a record, or zeros, as a crash leaves them at the end."""
    if not rest.strip(b"\0"):
        return True
    could_begin = rest[0] >> 3 in _FIELDS and rest[0] & 7 == _LENGTH_DELIMITED
    return could_begin and len(rest) <= _MAX_TORN_BYTES


def _varint(data: bytes, place: int) -> tuple[int | None, int]:
    """Return a number and the place behind it; the number is `None` if the data ends before."""
    value = 0
    for index, byte in enumerate(data[place : place + _MAX_VARINT_BYTES]):
        value |= (byte & ~_CONTINUES) << (7 * index)
        if byte < _CONTINUES:
            return value, place + index + 1
    return None, len(data)
