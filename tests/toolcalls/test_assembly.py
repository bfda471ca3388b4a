"""Assembly of tool calls as gateways use it, without a forwarder."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from assay.toolcalls import CallClass, NotToolCallsError, ToolCallAssembly, check
from assay.toolcalls.assembly import MAX_CALLS, MAX_CHARACTERS

NO_PARAMETERS = {"type": "function", "function": {"name": "now", "parameters": {}}}
ONE, TWO = '{"a": 1}', '{"a": 2}'


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "required": ["a"]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def delta(index: object, call_id: object, name: object, arguments: object) -> dict[str, Any]:
    """Return a delta without the fields that are `...`."""
    body = {"name": name, "arguments": arguments}
    function = {key: value for key, value in body.items() if value is not ...}
    item = {"index": index, "id": call_id, "function": function}
    return {key: value for key, value in item.items() if value is not ...}


def named(calls: ToolCallAssembly) -> list[tuple[str, str]]:
    functions = [call["function"] for call in calls.assembled()]
    return [(each["name"], each["arguments"]) for each in functions]


def test_a_stream_is_assembled_and_checked() -> None:
    calls = ToolCallAssembly([tool("add")])
    first = calls.add_deltas([delta(0, "s", "add", "")])
    second = calls.add_deltas([delta(0, ..., ..., ONE)])
    assert first[0] == {**delta(0, "s", "add", ""), "type": "function"}
    assert second == [delta(0, ..., ..., ONE)]
    assert calls.are_complete()
    assert check([tool("add")], calls.assembled()).calls == (CallClass.VALID,)


SAME_INDEX_WITHOUT_IDS = [
    ("whole calls", [("add", ONE), ("add", TWO)]),
    ("names first", [("add", ""), (..., ONE), ("add", ""), (..., TWO)]),
    ("names, then pieces", [("add", ""), (..., ONE), ("add", ""), (..., '{"a'), (..., '": 2}')]),
    ("a name at the end of each call", [("add", ONE), ("add", ""), ("add", TWO), ("add", "")]),
    ("names everywhere", [("add", '{"a"'), ("add", ": 1}"), ("add", '{"a"'), ("add", ": 2}")]),
]  # fmt: skip


@pytest.mark.parametrize("index", [pytest.param(0, id="index 0"), pytest.param(..., id="none")])
@pytest.mark.parametrize(
    "pieces", [pytest.param(pieces, id=name) for name, pieces in SAME_INDEX_WITHOUT_IDS]
)
def test_calls_without_ids_are_told_apart_by_their_complete_arguments(
    pieces: list[tuple[object, str]], index: object
) -> None:
    calls = ToolCallAssembly([tool("add")])
    for name, arguments in pieces:
        calls.add_deltas([delta(index, ..., name, arguments)])
    assert named(calls) == [("add", ONE), ("add", TWO)]


@pytest.mark.parametrize(
    ("offered", "pieces", "name"),
    [
        pytest.param(["gogo"], ["go", "go"], "gogo", id="an offered name of two equal pieces"),
        pytest.param(["go", "gogo"], ["go", "go"], "go", id="an offered name twice"),
        pytest.param(["ab"], ["a", "ab"], "ab", id="a name that grows"),
        pytest.param(["aab"], ["a", "ab"], "aab", id="an offered name of overlapping pieces"),
        pytest.param(["a", "a_b"], ["a", "_b"], "a_b", id="an offered name that begins like one"),
        pytest.param([], ["a", "a", "", "b"], "ab", id="names that are not known"),
    ],
)
def test_the_offered_tools_decide_how_a_name_continues(
    offered: list[str], pieces: list[str], name: str
) -> None:
    calls = ToolCallAssembly([tool(each) for each in offered])
    for piece in pieces:
        calls.add_deltas([delta(0, ..., piece, ...)])
    assert named(calls) == [(name, "")]


def test_one_id_at_two_indexes_becomes_two_ids() -> None:
    calls = ToolCallAssembly()
    told = calls.add_deltas([delta(0, "s", "f", ONE), delta(1, "s", "f", TWO)])
    assert named(calls) == [("f", ONE), ("f", TWO)]
    assert told[0]["id"] == "s" != told[1]["id"]


def test_choices_are_apart() -> None:
    calls = ToolCallAssembly()
    calls.add_deltas([delta(0, "s", "f", ONE)], choice=0)
    calls.add_deltas([delta(0, "t", "g", TWO)], choice=1)
    assert [call["id"] for number in (0, 1) for call in calls.assembled(number)] == ["s", "t"]


def test_missing_arguments_are_added_only_where_the_tool_admits_none() -> None:
    calls = ToolCallAssembly([tool("add"), NO_PARAMETERS])
    calls.add_deltas([delta(0, "s", "add", ""), delta(1, "t", "now", ""), delta(2, "u", "no", "")])
    assert calls.missing_deltas() == [{"index": 1, "function": {"arguments": "{}"}}]


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param("text", id="text"),
        pytest.param({}, id="an object"),
        pytest.param([7], id="a number in a list"),
        pytest.param([{"function": "add"}], id="a function that is text"),
        pytest.param([{"custom": [1]}], id="a custom tool that is a list"),
    ],
)
def test_values_that_are_not_tool_calls_are_rejected(deltas: object) -> None:
    with pytest.raises(NotToolCallsError):
        ToolCallAssembly().add_deltas(deltas)
    with pytest.raises(NotToolCallsError):
        ToolCallAssembly().add_message(deltas)


def test_more_calls_than_the_limit_are_handed_on_but_not_kept() -> None:
    calls = ToolCallAssembly()
    calls.add_deltas([delta(number, "s", "f", "{}") for number in range(MAX_CALLS)])
    last = delta(MAX_CALLS, "s", "f", "{}")
    assert (calls.overflowed, calls.add_deltas([last]), calls.overflowed) == (False, [last], True)
    assert len(calls.assembled()) == MAX_CALLS


def test_more_characters_than_the_limit_are_handed_on_but_not_kept() -> None:
    calls = ToolCallAssembly()
    calls.add_deltas([delta(0, ..., "f", "x" * (MAX_CHARACTERS - 1))])
    before = calls.overflowed
    (told,) = calls.add_deltas([delta(0, ..., ..., "yz")])
    assert told["function"]["arguments"] == "yz"
    assert (before, calls.overflowed) == (False, True)


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "s", "t", "f", "{}", "{", "}"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=1), inner),
    max_leaves=4,
)
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "index": ANY_JSON,
        "id": ANY_JSON,
        "type": ANY_JSON,
        "function": st.fixed_dictionaries({}, optional={"name": ANY_JSON, "arguments": ANY_JSON}),
        "custom": st.none() | st.fixed_dictionaries({}, optional={"name": ANY_JSON}),
    },
)


@given(st.lists(DELTAS, max_size=12))
def test_a_client_that_merges_by_index_has_the_calls_that_are_checked(
    deltas: list[dict[str, Any]],
) -> None:
    calls, merged = ToolCallAssembly(), dict[int, dict[str, Any]]()
    for each in deltas:
        for told in calls.add_deltas([each]):
            call = merged.setdefault(told["index"], {"id": "", "name": "", "text": ""})
            body = told.get("function") or told.get("custom") or {}
            call["id"] += told.get("id", "")
            call["name"] += body.get("name", "")
            call["text"] += body.get("arguments", body.get("input", ""))
    assembled = calls.assembled()
    assert list(merged) == list(range(len(assembled)))
    for number, call in enumerate(assembled):
        body = call[call["type"]]
        assert merged[number]["id"] == call["id"]
        if isinstance(body["name"], str):
            assert merged[number]["name"] == body["name"]
    assert len({call["id"] for call in assembled}) == len(assembled)
