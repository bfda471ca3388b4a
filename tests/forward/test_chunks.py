"""Streams byte by byte: however they are cut and spelled, each chunk comes out once, with only its names put right."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from assay.forward.answer_summary import AnswerSummary
from assay.forward.stream import MAX_EVENT_BYTES, ChunkRelay, EventSplitter, EventTooLong

NAMES = {"model": "lab/m", "provider": "p"}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "\\", '\\"', "data: ", "\n\n"]
)
SPELLINGS = st.builds(
    json.JSONEncoder,
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
    ensure_ascii=st.booleans(),
)
ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n"])


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "created": 1, "model": "theirs", "choices": [choice], **more}


def events_of(data: bytes) -> list[Any]:
    return [json.loads(event.removeprefix(b"data: ")) for event in data.split(b"\n\n") if event]


def relayed(blocks: list[bytes]) -> tuple[bytes, ChunkRelay]:
    """What comes out, by the way that attempts take."""
    events, chunks = EventSplitter(), ChunkRelay(AnswerSummary(), NAMES)
    out = []
    for data in blocks:
        out.append((b"" if events.rest else chunks.alike(data)) or chunks.take(events.whole(data)))
        if chunks.failed or chunks.done:
            break
    else:
        out.append(chunks.take(events.last()))
    return b"".join(out), chunks


CHUNK = st.one_of(
    TEXTS.map(lambda text: chunk({"content": text})),
    TEXTS.map(lambda text: chunk({"content": text}, system_fingerprint="fp")),
    TEXTS.map(lambda text: chunk({"content": "", "reasoning": text})),
    TEXTS.map(
        lambda text: chunk({"content": text}, provider="theirs", usage={"completion_tokens": 3})
    ),
    TEXTS.map(lambda text: {**chunk({"content": text}), "created": 2, "x": {"model": "theirs"}}),
    st.just({"id": "c", "choices": []}),
)


@given(st.lists(CHUNK, max_size=12), SPELLINGS, ENDS, st.data())
def test_chunks_come_out_as_they_went_in_but_for_their_names(
    sent: list[dict[str, Any]], spelling: json.JSONEncoder, end: bytes, data: st.DataObject
) -> None:
    spelled = [spelling.encode(each).encode() for each in sent]
    whole = (
        b"".join(b": ping" + end + b"data: " + each + end for each in spelled)
        + b"data: [DONE]"
        + end
        + b"garbage"
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    out, chunks = relayed(
        [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    )
    assert events_of(out) == [{"system_fingerprint": None, **each, **NAMES} for each in sent]
    assert (chunks.done, chunks.failed) == (True, None)


class Counted(ChunkRelay):
    """Counts the events that are parsed."""

    parsed = 0

    def _event(self, event: bytes) -> bytes:
        self.parsed += 1
        return super()._event(event)


@pytest.mark.parametrize("cut", [1, 7, 50, 1000])
def test_text_alone_is_handed_on_without_being_parsed(cut: int) -> None:
    sent = [chunk({"content": f"t{number}"}) for number in range(200)]
    whole = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in sent)
    events, chunks, out = EventSplitter(), Counted(AnswerSummary(), NAMES), b""
    for at in range(0, len(whole), cut):
        data = whole[at : at + cut]
        out += (b"" if events.rest else chunks.alike(data)) or chunks.take(events.whole(data))
    assert events_of(out) == [{**each, **NAMES, "system_fingerprint": None} for each in sent]
    assert chunks.parsed == 1


def test_an_event_without_an_end_is_not_held_for_ever() -> None:
    events = EventSplitter()
    assert events.whole(b"x" * MAX_EVENT_BYTES) == b""
    with pytest.raises(EventTooLong):
        events.whole(b"x")


def test_the_last_event_may_lack_its_empty_line() -> None:
    out, chunks = relayed(
        [b"data: " + json.dumps(chunk({"content": "a"}, "stop")).encode() + b"\n\ndata: [DONE]"]
    )
    assert events_of(out)[0]["choices"][0]["delta"] == {"content": "a"}
    assert chunks.done


@pytest.mark.parametrize(
    ("event", "row", "status"),
    [
        pytest.param(b"{", "malformed", 200, id="no JSON"),
        pytest.param(b"[]", "malformed", 200, id="no chunk"),
        pytest.param(b'{"message": "no"}', "malformed", 200, id="no choices"),
        pytest.param(b'{"error": {"message": "x"}}', "error_event", 200, id="error"),
        pytest.param(
            b'{"error": {"code": "429"}}', "rate_limited", 429, id="error with a code as text"
        ),
        pytest.param(b'{"error": {"code": 502}}', "server_error", 502, id="error with a code"),
        pytest.param(
            b'{"error": {"code": 10e400}}', "malformed", 200, id="error with no number at all"
        ),
        pytest.param(
            b'{"choices": [{"finish_reason": "error"}]}', "error_event", 200, id="ended in an error"
        ),
        pytest.param(b'{"choices": [1]}', "malformed", 200, id="odd choice"),
    ],
)
def test_what_is_no_chunk_ends_the_stream(event: bytes, row: str, status: int) -> None:
    good = b"data: " + json.dumps(chunk({"content": "a"})).encode() + b"\n\n"
    out, chunks = relayed([good + b"data: " + event + b"\n\n" + good])
    assert len(events_of(out)) == 1
    assert chunks.failed is not None
    assert (chunks.failed.row.name, chunks.failed.status) == (row, status)


@pytest.mark.parametrize(
    ("delta", "meaningful"),
    [
        ({"role": "assistant", "content": ""}, False),
        ({"content": None}, False),
        ({}, False),
        ({"content": " "}, True),
        ({"reasoning_content": "hm"}, True),
        ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}, True),
        ({"refusal": "no"}, True),
    ],
)
def test_a_role_is_no_token(delta: dict[str, Any], *, meaningful: bool) -> None:
    account = AnswerSummary()
    account.take(chunk(delta), "delta")
    assert account.meaningful is meaningful
