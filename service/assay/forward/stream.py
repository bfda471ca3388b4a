"""Server-sent events: split a provider's bytes into events and relay its chunks.

How it works
------------
`ChunkRelay` turns the bytes that a provider sends into the bytes that the caller gets. Every chunk
gets the catalog's `model` and our `provider`, and `AnswerSummary` reads what the chunk says. Both
need parsed JSON, and parsing each of several hundred chunks per answer would be most of the
forwarder's work. But most chunks differ from the one before only in one piece of text.

So the relay parses the first chunk that carries nothing but one text. It keeps the bytes around
that text twice: as the provider wrote them and as we wrote them for the caller (`_TextFrame`).
Later bytes that start with the provider's head and end with its tail are not parsed. The relay
replaces head and tail by our own and copies the text, JSON escapes included. Bytes with several
such events are split at `tail + head`.

INVARIANT: bytes take this shortcut only if they are events that differ from the pattern in nothing
but their texts. A text must not contain an unescaped quote: the quote would end it, and other
fields would follow, such as a tool call, an error or `finish_reason`. Instead of judging each
backslash, the relay parses the bytes if an escaped quote occurs or a quote is left after the split.

The shortcut needs bytes that begin and end at the boundaries of events. Other bytes go through
`EventSplitter`, which keeps the incomplete last event for the next read. Both paths relay only
complete events, so a caller never gets half of one.

A parsed event that is an error or not a chunk sets `error`, and `[DONE]` sets `done`. What follows
in the same read is dropped.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from assay.forward.answer_summary import AnswerSummary
from assay.forward.taxonomy import HTTP_OK, MALFORMED, AttemptError

MAX_EVENT_BYTES: Final = 1024 * 1024
_END: Final = b"\n\n"
_QUOTE: Final = b'"'
_BACKSLASH: Final = b"\\"
_ESCAPED_QUOTE: Final = b'\\"'


class EventTooLong(Exception):
    """An event that does not end within MAX_EVENT_BYTES."""


def encode_event(value: object) -> bytes:
    """Return a JSON value as one event."""
    return b"data: " + orjson.dumps(value) + _END


class EventSplitter:
    """Takes bytes as they arrive and returns complete events; `rest` is less than one event."""

    def __init__(self) -> None:
        self.rest = b""

    def split(self, data: bytes) -> bytes:
        """Return all events that are complete by now, with LF as line end."""
        data = self.rest + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        end = data.rfind(_END) + len(_END)
        if end < len(_END):
            end = 0
        self.rest = data[end:]
        if len(self.rest) > MAX_EVENT_BYTES:
            raise EventTooLong
        return data[:end]

    def finish(self) -> bytes:
        """Return the rest at the end as an event: one without its empty line, or bare JSON."""
        rest, self.rest = self.rest.strip(), b""
        if rest.startswith(b"{"):
            rest = b"data: " + rest.replace(b"\n", b" ")
        return rest + _END if rest else b""


class _TextFrame(NamedTuple):
    """The bytes of an event before and after its text, with the quotes and the empty line."""

    head: bytes
    tail: bytes


class ChunkRelay:
    """Relays the chunks of one attempt.

    Once `error` or `done` is set, nothing more is relayed. `answer_fields` are those that name the
    answer in chunks of our own.
    """

    def __init__(self, summary: AnswerSummary, names: dict[str, Any]) -> None:
        self.error: AttemptError | None = None
        self.done = False
        self.answer_fields = names
        self._summary = summary
        self._names = names
        self._splitter = EventSplitter()
        self._pattern: tuple[_TextFrame, _TextFrame] | None = None

    def relay(self, data: bytes) -> bytes:
        """Return what the caller gets for the bytes that arrived; raise EventTooLong."""
        if not self._splitter.rest and (relayed := self._relay_texts(data)):
            return relayed
        return self._relay_events(self._splitter.split(data))

    def finish(self) -> bytes:
        """Return what the caller gets at the end of the provider's bytes."""
        return self._relay_events(self._splitter.finish())

    def _relay_events(self, events: bytes) -> bytes:
        relayed = []
        for event in events.split(_END)[:-1]:
            relayed.append(self._relay_texts(event + _END) or self._parse_event(event))
            if self.error or self.done:
                break
        return b"".join(relayed)

    def _relay_texts(self, data: bytes) -> bytes:
        """Relay events that fit the pattern without parsing; return nothing if any does not."""
        if self._pattern is None:
            return b""
        (head, tail), (our_head, our_tail) = self._pattern
        if not (data.startswith(head) and data.endswith(tail, len(head))):
            return b""
        text = data[len(head) : -len(tail)]
        if _QUOTE not in text:
            return b"" if text.endswith(_BACKSLASH) else our_head + text + our_tail
        texts = text.split(tail + head)
        if _ESCAPED_QUOTE in data or _QUOTE in b"".join(texts):
            return b""
        return our_head + (our_tail + our_head).join(texts) + our_tail

    def _parse_event(self, event: bytes) -> bytes:
        data = _data_of(event)
        if data is None:
            return b""
        if data.strip() == b"[DONE]":
            self.done = True
            return b""
        try:
            chunk = self._summary.add(orjson.loads(data), "delta")
        except orjson.JSONDecodeError:
            self.error = AttemptError(MALFORMED, HTTP_OK)
        except AttemptError as error:
            self.error = error
        else:
            return self._rewrite(event, chunk)
        return b""

    def _rewrite(self, event: bytes, chunk: dict[str, Any]) -> bytes:
        """Return a chunk with our names; it becomes the pattern if it has nothing but a text."""
        if "id" not in self.answer_fields:
            own = {name: value for name, value in chunk.items() if name in ("id", "created")}
            self.answer_fields = {**self._names, **own}
        text = _only_text(chunk)
        chunk.update(self._names)
        chunk.setdefault("system_fingerprint", None)
        rewritten = encode_event(chunk)
        if text is not None:
            theirs, ours = _frame(event + _END, *text), _frame(rewritten, *text)
            if theirs and ours:
                self._pattern = theirs, ours
        return rewritten


def _data_of(event: bytes) -> bytes | None:
    """Return the data of an event, its lines joined; `None` for comments and other fields."""
    lines = [line for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines) if lines else None


def _only_text(chunk: dict[str, Any]) -> tuple[str, str] | None:
    """Return name and value of a chunk's one text, or `None` if it carries anything else."""
    choices = chunk["choices"]
    if len(choices) != 1 or chunk.get("usage") or choices[0].get("finish_reason"):
        return None
    delta = choices[0].get("delta") or {}
    filled = [(name, value) for name, value in delta.items() if value and name != "role"]
    return filled[0] if len(filled) == 1 and isinstance(filled[0][1], str) else None


def _frame(event: bytes, name: str, text: str) -> _TextFrame | None:
    """Return the frame of a text that occurs once and is written without escapes."""
    for colon in (b":", b": "):
        before, found, after = event.partition(b'"%b"%b"' % (name.encode(), colon))
        if found and after.startswith(text.encode() + _QUOTE) and after.count(found) == 0:
            return _TextFrame(before + found, after[len(text.encode()) :])
    return None
