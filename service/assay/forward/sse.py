"""Server-sent events as bytes: whole events out of blocks that are cut anywhere, and the data of an event."""

from __future__ import annotations

from typing import Final

MAX_EVENT_BYTES: Final = 1024 * 1024
END: Final = b"\n\n"


class TooLong(Exception):
    """An event that does not end within the limit."""


class Events:
    """Takes bytes as they come and gives them back cut at the ends of events; holds less than one event."""

    def __init__(self) -> None:
        self.rest = b""

    def whole(self, data: bytes) -> bytes:
        """All events that are whole by now, their lines ended by LF; empty where none is."""
        data = self.rest + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        end = data.rfind(END) + len(END)
        if end < len(END):
            end = 0
        self.rest = data[end:]
        if len(self.rest) > MAX_EVENT_BYTES:
            raise TooLong
        return data[:end]

    def last(self) -> bytes:
        """What is left at a regular end, taken for an event: a last one without its empty line, or bare JSON."""
        rest, self.rest = self.rest.strip(), b""
        if rest.startswith(b"{"):
            rest = b"data: " + rest.replace(b"\n", b" ")
        return rest + END if rest else b""


def data_of(event: bytes) -> bytes | None:
    """The data of an event, its lines joined; `None` for comments and the like."""
    found = [
        line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")
    ]
    return b"\n".join(found) if found else None
