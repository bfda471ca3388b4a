"""The chunks of a stream on their way through, with model and provider put right and what they say accounted for.

Most chunks are like the one before save for a piece of text. Those are not parsed: where events begin and end with the
same bytes as the last one that was, only their texts are handed on, between what was written for that one.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from assay.forward.answer_summary import AnswerSummary
from assay.forward.taxonomy import MALFORMED, OK, AttemptError

MAX_EVENT_BYTES: Final = 1024 * 1024
END: Final = b"\n\n"


class EventTooLong(Exception):
    """An event that does not end within the limit."""


class EventSplitter:
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
            raise EventTooLong
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


QUOTE: Final = b'"'
BACKSLASH: Final = b"\\"
ESCAPED: Final = b'\\"'


class TextFrame(NamedTuple):
    """What stands before and after the text of a chunk: quotes and the empty line at the end included."""

    head: bytes
    tail: bytes


class ChunkRelay:
    """Of one attempt. `failed` and `done` tell that no more is to be handed on; `about` names the answer."""

    def __init__(self, account: AnswerSummary, names: dict[str, Any]) -> None:
        self.account = account
        self.failed: AttemptError | None = None
        self.done = False
        self.about = names
        self._names = names
        self._pattern: tuple[TextFrame, TextFrame] | None = None

    def take(self, block: bytes) -> bytes:
        """What is to be handed on of a block of whole events."""
        given = []
        for event in block.split(END)[:-1]:
            given.append(self.alike(event + END) or self._event(event))
            if self.failed or self.done:
                break
        return b"".join(given)

    def alike(self, block: bytes) -> bytes:
        """What is to be handed on of bytes that are events like the last one, save for their texts; else nothing."""
        if self._pattern is None:
            return b""
        (head, tail), (our_head, our_tail) = self._pattern
        if not (block.startswith(head) and block.endswith(tail, len(head))):
            return b""
        text = block[len(head) : -len(tail)]
        if QUOTE not in text:
            return b"" if text.endswith(BACKSLASH) else our_head + text + our_tail
        texts = text.split(tail + head)
        if ESCAPED in block or QUOTE in b"".join(texts):
            return b""
        return our_head + (our_tail + our_head).join(texts) + our_tail

    def _event(self, event: bytes) -> bytes:
        """What is to be handed on of an event that has to be parsed."""
        data = data_of(event)
        if data is None:
            return b""
        if data.strip() == b"[DONE]":
            self.done = True
            return b""
        try:
            chunk = self.account.take(orjson.loads(data), "delta")
        except orjson.JSONDecodeError:
            self.failed = AttemptError(MALFORMED, OK)
        except AttemptError as failed:
            self.failed = failed
        else:
            return self._written(event, chunk)
        return b""

    def _written(self, event: bytes, chunk: dict[str, Any]) -> bytes:
        """A chunk as it is handed on, taken for the pattern of those that follow if it only carries text."""
        if "id" not in self.about:
            self.about = {
                **self._names,
                **{name: chunk[name] for name in ("id", "created") if name in chunk},
            }
        carried = text_of(chunk)
        chunk.update(self._names)
        chunk.setdefault("system_fingerprint", None)
        written = b"data: " + orjson.dumps(chunk) + END
        theirs, ours = around(event + END, carried), around(written, carried)
        if theirs and ours:
            self._pattern = theirs, ours
        return written


def text_of(chunk: dict[str, Any]) -> tuple[str, str] | None:
    """Name and value of the one text that a chunk carries, where it carries nothing else that counts."""
    choices = chunk["choices"]
    if len(choices) != 1 or chunk.get("usage") or choices[0].get("finish_reason"):
        return None
    delta = choices[0].get("delta") or {}
    said = [(name, value) for name, value in delta.items() if value and name != "role"]
    return said[0] if len(said) == 1 and isinstance(said[0][1], str) else None


def around(event: bytes, carried: tuple[str, str] | None) -> TextFrame | None:
    """What stands around the text that an event carries, if it is spelled as it reads and stands there once."""
    if carried is None:
        return None
    name, text = carried[0].encode(), carried[1].encode()
    for colon in (b":", b": "):
        before, found, after = event.partition(b'"%b"%b"' % (name, colon))
        if found and after.startswith(text + QUOTE) and after.count(found) == 0:
            return TextFrame(before + found, after[len(text) :])
    return None
