"""Copying of values into messages whose fields have the same names."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

AnyMessage = TypeVar("AnyMessage", bound=Message)


def stamp(at: datetime | None) -> Timestamp | None:
    """Return an instant as a timestamp; `None` stays `None`."""
    if at is None:
        return None
    made = Timestamp()
    made.FromDatetime(at)
    return made


def copied(value: object, message: AnyMessage) -> AnyMessage:
    """Copy a dataclass into a message and return it.

    Fields that are `None`, that the message lacks, or that are already set there are left out.
    """
    known = message.DESCRIPTOR.fields_by_name
    given = {field.name for field, _ in message.ListFields()}
    for item in fields(value):  # type: ignore[arg-type]  # a dataclass
        found = getattr(value, item.name)
        if found in (None, ()) or item.name in given or item.name not in known:
            continue
        if is_dataclass(found):
            inner = getattr(message, item.name)
            inner.SetInParent()
            copied(found, inner)
        elif isinstance(found, tuple):
            getattr(message, item.name).extend(found)
        elif isinstance(found, datetime):
            getattr(message, item.name).FromDatetime(found)
        else:
            setattr(message, item.name, found)
    return message
