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
A text must also be the inside of a JSON string: printable, with complete escapes. Half of a
surrogate pair is one, so a pair that is split over two chunks passes unchanged.

The shortcut needs bytes that begin and end at the boundaries of events. Other bytes go through
`EventSplitter`, which keeps the incomplete last event for the next read. Both paths relay only
complete events, so a caller never gets half of one.

A parsed event that is an error or not a chunk sets `error`, and `[DONE]` sets `done`. What follows
in the same read is dropped. An event without a choice shows nothing and is skipped. Usage is taken
out of all chunks; `usage_event` has it if the caller asked for it, for the end of the stream.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from assay.forward.answer_summary import AnswerSummary
from assay.forward.taxonomy import HTTP_OK, MALFORMED, AttemptError
from assay.forward.upstream import MAX_ANSWER_BYTES
from assay.toolcalls.json_values import decode_json, encode_json

MAX_EVENT_BYTES: Final = MAX_ANSWER_BYTES
_BOM: Final = b"\xef\xbb\xbf"
_ESCAPED: Final = re.compile(rb"""[^\\]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^\\]*)*""")
_END: Final = b"\n\n"
_QUOTE: Final = b'"'
_BACKSLASH: Final = b"\\"
_ESCAPED_QUOTE: Final = b'\\"'


class EventTooLong(Exception):
    """An event that does not end within MAX_EVENT_BYTES."""


def encode_event(value: object) -> bytes:
    """Return a JSON value as one event."""
    return b"data: " + encode_json(value) + _END


class EventSplitter:
    """Takes bytes as they arrive and returns complete events.

    The rest is less than one event; `has_rest` says whether there is any. It is kept in pieces, as
    an event may arrive in thousands of reads.
    """

    def __init__(self) -> None:
        self.has_rest = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._ends_in_cr = False

    def split(self, data: bytes) -> bytes:
        """Return all events that are complete by now, with LF as line end; raise EventTooLong."""
        if self._ends_in_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        end = data.rfind(_END) + len(_END)
        if end < len(_END):
            follows_lf = bool(self._pieces) and self._pieces[-1].endswith(b"\n")
            end = 1 if follows_lf and data.startswith(b"\n") else 0
        if not end:
            self._keep(data)
            return b""
        events = b"".join([*self._pieces, data[:end]])
        self._pieces, self._size = [], 0
        self._keep(data[end:])
        return events

    def finish(self) -> bytes:
        """Return the rest at the end as an event: one without its empty line, or bare JSON."""
        rest, self._pieces = b"".join(self._pieces).strip(), []
        return rest + _END if rest else b""

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Replace CR and CRLF; keep a CR at the end, as the LF of the pair may follow."""
        data = b"\r" + data if self._ends_in_cr else data
        self._ends_in_cr = data.endswith(b"\r")
        data = data[:-1] if self._ends_in_cr else data
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self._size += len(data)
        self.has_rest = bool(self._pieces) or self._ends_in_cr
        if self._size > MAX_EVENT_BYTES:
            raise EventTooLong


class _TextFrame(NamedTuple):
    """The bytes of an event before and after its text, with the quotes and the empty line."""

    head: bytes
    tail: bytes


class ChunkRelay:
    """Relays the chunks of one attempt.

    Once `error` or `done` is set, nothing more is relayed. `answer_fields` are those that name the
    answer in chunks of our own.
    """

    def __init__(
        self, summary: AnswerSummary, names: dict[str, Any], *, wants_usage: bool = False
    ) -> None:
        self.error: AttemptError | None = None
        self.done = False
        self.answer_fields = names
        self.usage_event = b""
        self._summary = summary
        self._names = names
        self._wants_usage = wants_usage
        self._splitter = EventSplitter()
        self._pattern: tuple[_TextFrame, _TextFrame] | None = None

    def relay(self, data: bytes) -> bytes:
        """Return what the caller gets for the bytes that arrived; raise EventTooLong."""
        if not self._splitter.has_rest and (relayed := self._relay_texts(data)):
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
        try:
            if _QUOTE not in text:
                is_content = text.decode().isprintable() and _has_whole_escapes(text)
                return our_head + text + our_tail if is_content else b""
            texts = text.split(tail + head)
            joined = b" ".join(texts)
            are_contents = (
                _ESCAPED_QUOTE not in data
                and _QUOTE not in joined
                and joined.decode().isprintable()
                and (_BACKSLASH not in joined or all(map(_has_whole_escapes, texts)))
            )
        except UnicodeDecodeError:
            return b""
        return our_head + (our_tail + our_head).join(texts) + our_tail if are_contents else b""

    def _parse_event(self, event: bytes) -> bytes:
        data = _data_of(event.removeprefix(_BOM))
        if not data:
            return b""
        if data == b"[DONE]":
            self.done = True
            return b""
        try:
            chunk = self._summary.add_chunk(_decode_event(data))
            return self._rewrite(event, chunk)
        except ValueError:  # not JSON, or nested too deeply to be written
            self.error = AttemptError(MALFORMED, HTTP_OK)
        except AttemptError as error:
            self.error = error
        return b""

    def _rewrite(self, event: bytes, chunk: dict[str, Any]) -> bytes:
        """Return a chunk with our names; it becomes the pattern if it has nothing but a text."""
        if "id" not in self.answer_fields:
            own = {name: value for name, value in chunk.items() if name in ("id", "created")}
            self.answer_fields = {**self._names, **own}
        usage = chunk.pop("usage", None)
        chunk.update(self._names)
        chunk.setdefault("system_fingerprint", None)
        if usage and self._wants_usage:
            self.usage_event = encode_event({**chunk, "choices": [], "usage": usage})
        if not chunk["choices"]:
            return b""
        rewritten = encode_event(chunk)
        text = None if usage else _only_text(chunk)
        if text is not None:
            theirs, ours = _frame(event + _END, *text), _frame(rewritten, *text)
            if theirs and ours:
                self._pattern = theirs, ours
        return rewritten


def _has_whole_escapes(text: bytes) -> bool:
    return _BACKSLASH not in text or _ESCAPED.fullmatch(text) is not None


def _data_of(event: bytes) -> bytes | None:
    """Return the data of an event, its lines joined; `None` for comments and other fields.

    Bare JSON instead of an event is data too: errors are often sent so.
    """
    if event.startswith(b"data:") and b"\n" not in event:  # as almost all are
        return event[5:].strip()
    lines = [line for line in event.split(b"\n") if line.startswith(b"data:")]
    if lines:
        return b"\n".join(line[5:].removeprefix(b" ") for line in lines).strip()
    bare = event.strip()
    return bare if bare.startswith((b"{", b"[")) else None


def _decode_event(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of an event; bytes that are not UTF-8 are replaced, as event streams are."""
    try:
        return decode_json(data)
    except ValueError:
        text = data.decode(errors="replace").encode()
        if text == data:
            raise
        return decode_json(text)


def _only_text(chunk: dict[str, Any]) -> tuple[str, str] | None:
    """Return name and value of a chunk's one text, or `None` if it carries anything else."""
    choices = chunk["choices"]
    if len(choices) != 1 or choices[0].get("finish_reason"):
        return None
    delta = choices[0]["delta"]
    filled = [(name, value) for name, value in delta.items() if value and name != "role"]
    return filled[0] if len(filled) == 1 and isinstance(filled[0][1], str) else None


def _frame(event: bytes, name: str, text: str) -> _TextFrame | None:
    """Return the frame of a text that occurs once and is written without escapes."""
    encoded = text.encode(errors="surrogatepass")
    for colon in (b":", b": "):
        field = b'"%b"%b"' % (name.encode(errors="surrogatepass"), colon)
        before, found, after = event.partition(field)
        if found and after.startswith(encoded + _QUOTE) and after.count(found) == 0:
            return _TextFrame(before + found, after[len(encoded) :])
    return None
