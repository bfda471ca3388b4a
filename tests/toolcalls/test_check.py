"""Classification of calls: accepted shapes, JSON syntax, and checks against the schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from assay.toolcalls import CallClass, OfferedTools, check

VALID, INVALID, UNKNOWN, MISMATCH = CallClass
ABSENT = object()

Schema = dict[str, Any]


def tool(parameters: object, name: str = "t") -> dict[str, Any]:
    function = {"name": name} if parameters is ABSENT else {"name": name, "parameters": parameters}
    return {"type": "function", "function": function}


def call(arguments: object, name: object = "t") -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def found(parameters: object, arguments: object) -> CallClass:
    """Return the class by both paths: the fast one for short arguments, and the careful one."""
    (quick,) = check([tool(parameters)], [call(arguments)]).calls
    if isinstance(arguments, str):
        assert check([tool(parameters)], [call(arguments + " " * 300)]).calls == (quick,)
    return quick


CITY: Schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param('{"city": "Rome"}', VALID, id="as the schema wants them"),
        pytest.param('{"city": "Rome", "more": 1}', VALID, id="more than the schema names"),
        pytest.param('{"city": 1}', MISMATCH, id="of another type"),
        pytest.param("{}", MISMATCH, id="without what is required"),
        pytest.param('[{"city": "Rome"}]', MISMATCH, id="a list"),
        pytest.param('"{\\"city\\": \\"Rome\\"}"', MISMATCH, id="JSON in JSON"),
        pytest.param("null", MISMATCH, id="null"),
        pytest.param("7", MISMATCH, id="a number"),
        pytest.param("true", MISMATCH, id="a boolean"),
        pytest.param("", INVALID, id="empty text"),
        pytest.param('{"city": "Rome"', INVALID, id="cut off"),
        pytest.param("{'city': 'Rome'}", INVALID, id="as Python writes it"),
        pytest.param('```json\n{"city": "Rome"}\n```', INVALID, id="fenced"),
        pytest.param({"city": "Rome"}, VALID, id="already parsed"),
        pytest.param({"city": None}, MISMATCH, id="already parsed, of another type"),
        pytest.param(b'{"city": "Rome"}', VALID, id="bytes"),
        pytest.param(b'{"city": "\xff"}', INVALID, id="bytes that are not UTF-8"),
        pytest.param(b"", INVALID, id="no bytes"),
        pytest.param(None, INVALID, id="none"),
        pytest.param(float("nan"), INVALID, id="NaN, already parsed"),
        pytest.param({"city": {1, 2}}, INVALID, id="values that JSON does not have"),
    ],
)
def test_arguments_are_classified_by_the_schema(arguments: object, expected: CallClass) -> None:
    assert found(CITY, arguments) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"city": 1, "city": "Rome"}', VALID, id="the later of two equal keys counts"),
        pytest.param(
            '{"city": "Rome", "city": 1}',
            MISMATCH,
            id="the later of two equal keys counts and is invalid",
        ),
        pytest.param('{"city": "\\ud800"}', VALID, id="half a surrogate pair, written out"),
        pytest.param(
            '{"city": "\\udc00\\ud800"}', VALID, id="a surrogate pair the wrong way round"
        ),
        pytest.param('{"city": "a\ud800"}', VALID, id="half a surrogate pair as it is"),
        pytest.param('{"city": "Rome", "\\ud83d": 1}', VALID, id="half a surrogate pair in a key"),
        pytest.param('{"city": "\\ud83d\\ude00"}', VALID, id="a whole surrogate pair"),
        pytest.param('{"city": "\\u12"}', INVALID, id="a cut escape"),
        pytest.param('{"city": "\\x41"}', INVALID, id="an escape that JSON does not have"),
        pytest.param('{"city": "\t"}', INVALID, id="a tab within text"),
        pytest.param('{"city": "\u2028"}', VALID, id="a line separator within text"),
        pytest.param('\t\r\n {"city": "Rome"} ', VALID, id="JSON's white space around"),
        pytest.param('\u00a0{"city": "Rome"}', INVALID, id="other white space around"),
        pytest.param('\ufeff{"city": "Rome"}', INVALID, id="a byte order mark"),
        pytest.param('{"city": "Rome"} {}', INVALID, id="more after the end"),
        pytest.param('{"city": "Rome",}', INVALID, id="a trailing comma"),
        pytest.param('{"city": "Rome" /* here */}', INVALID, id="a comment"),
        pytest.param('{"city": "Rome", "n": NaN}', INVALID, id="NaN"),
        pytest.param('{"city": "Rome", "n": Infinity}', INVALID, id="Infinity"),
        pytest.param('{"city": "Rome", "n": -Infinity}', INVALID, id="minus Infinity"),
        pytest.param('{"city": "Rome", "n": 01}', INVALID, id="a leading zero"),
        pytest.param('{"city": "Rome", "n": +1}', INVALID, id="a plus sign"),
        pytest.param('{"city": "Rome", "n": .5}', INVALID, id="a bare fraction"),
        pytest.param('{"city": "Rome", "n": 1e400}', VALID, id="a number beyond the doubles"),
        pytest.param(
            '{"city": "Rome", "n": ' + "9" * 5000 + "}", VALID, id="an integer of 5,000 digits"
        ),
        pytest.param(
            '{"city": ' + "9" * 5000 + "}", MISMATCH, id="an integer of 5,000 digits for text"
        ),
    ],
)
def test_arguments_are_json_if_json_parse_accepts_them(text: str, expected: CallClass) -> None:
    assert found(CITY, text) is expected


@pytest.mark.parametrize(
    ("schema", "number", "expected"),
    [
        pytest.param({"type": "integer"}, "1.0", VALID, id="a whole double is an integer"),
        pytest.param({"type": "integer"}, "1e3", VALID, id="a whole double, with an exponent"),
        pytest.param({"type": "integer"}, "1.5", MISMATCH, id="a fraction is not an integer"),
        pytest.param(
            {"type": "integer"}, "1e400", VALID, id="a number beyond the doubles is an integer"
        ),
        pytest.param(
            {"type": "number", "maximum": 5},
            "1e400",
            MISMATCH,
            id="a number beyond the doubles is large",
        ),
        pytest.param({"minimum": 0}, "-1e400", MISMATCH, id="a number below the doubles is small"),
        pytest.param({"type": "integer"}, "9" * 400, VALID, id="an integer beyond the doubles"),
        pytest.param(
            {"maximum": 9007199254740992},
            "9007199254740993",
            VALID,
            id="2^53 + 1 is 2^53 to JSON.parse",
        ),
        pytest.param(
            {"const": 9007199254740993},
            "9007199254740992",
            VALID,
            id="2^53 + 1 in the schema as well",
        ),
        pytest.param(
            {"const": 9007199254740993}, "9007199254740993", VALID, id="2^53 + 1 is itself"
        ),
        pytest.param(
            {"enum": [9007199254740991]},
            "9007199254740992",
            MISMATCH,
            id="below that, integers are exact",
        ),
        pytest.param(
            {"maximum": 2**64}, "18446744073709551616", VALID, id="an integer beyond 64 bits"
        ),
        pytest.param(
            {"maximum": 2**64}, "1844674407370955161600", MISMATCH, id="a much larger integer"
        ),
        pytest.param(
            {"exclusiveMinimum": 2**53},
            "9007199254740993",
            VALID,
            id="unlike cfworker, compared exactly first",
        ),
        pytest.param({"multipleOf": 0.01}, "19.99", VALID, id="multiples are decimal"),
        pytest.param({"multipleOf": 0.01}, "0.001", MISMATCH, id="not a multiple"),
        pytest.param({"const": 1}, "1.0", VALID, id="one is 1.0"),
        pytest.param({"const": 1}, "true", MISMATCH, id="one is not true"),
        pytest.param({"const": 0}, "-0", VALID, id="minus zero is zero"),
    ],
)
def test_numbers_follow_the_rules_of_javascript(
    schema: Schema, number: str, expected: CallClass
) -> None:
    assert found(schema, number) is expected


@pytest.mark.parametrize(
    ("schema", "arguments", "expected"),
    [
        pytest.param(ABSENT, "[1]", VALID, id="a missing schema"),
        pytest.param(None, "[1]", VALID, id="null for a schema"),
        pytest.param(ABSENT, "[1", INVALID, id="a missing schema, invalid JSON"),
        pytest.param({}, "[1]", VALID, id="an empty schema"),
        pytest.param(True, "[1]", VALID, id="true for a schema"),
        pytest.param(False, "[1]", MISMATCH, id="false for a schema"),
        pytest.param("{}", "[1]", VALID, id="text for a schema"),
        pytest.param('{"type": "object"}', "[1]", VALID, id="a schema in text"),
        pytest.param([CITY], "[1]", VALID, id="a list for a schema"),
        pytest.param(7, "[1]", VALID, id="a number for a schema"),
        pytest.param(
            {"type": "object", "minProperties": "1"}, "[1]", VALID, id="a keyword of the wrong type"
        ),
        pytest.param(
            {"type": "object", "properties": None}, "[1]", VALID, id="null for properties"
        ),
        pytest.param({"type": "object", "pattern": "("}, "[1]", VALID, id="an invalid pattern"),
        pytest.param(
            {"type": "object", "pattern": "^(?=a)"}, "[1]", VALID, id="a pattern with look-around"
        ),
        pytest.param(
            {"type": "object", "pattern": "(a)\\1"},
            "[1]",
            VALID,
            id="a pattern with a back reference",
        ),
        pytest.param(
            {"type": "object", "$ref": "#/definitions/none"},
            "[1]",
            VALID,
            id="a reference to nothing",
        ),
        pytest.param(
            {"type": "object", "x": float("nan")}, "[1]", MISMATCH, id="a schema with NaN"
        ),
        pytest.param({"type": "object", "x": {1}}, "[1]", VALID, id="a schema that is not JSON"),
        pytest.param(
            {"type": "object", "x": 2**70},
            "[1]",
            MISMATCH,
            id="a schema with an integer beyond 64 bits",
        ),
        pytest.param(
            {"type": "object", "x": "\ud800"},
            "[1]",
            MISMATCH,
            id="a schema with half a surrogate pair",
        ),
    ],
)
def test_json_is_valid_if_the_schema_is_missing_or_unusable(
    schema: object, arguments: str, expected: CallClass
) -> None:
    assert found(schema, arguments) is expected


@pytest.mark.parametrize(
    ("schema", "arguments", "expected"),
    [
        pytest.param({"type": "dict"}, "{}", MISMATCH, id="an unknown type matches nothing"),
        pytest.param(
            {"type": ["dict", "null"]},
            "null",
            VALID,
            id="a known type next to an unknown one matches",
        ),
        pytest.param({"type": ["dict", "null"]}, "{}", MISMATCH, id="other values do not match"),
        pytest.param({"type": None}, "{}", MISMATCH, id="null for a type matches nothing"),
        pytest.param(
            {"properties": {"a": {"type": "float"}}},
            '{"a": 1}',
            MISMATCH,
            id="an unknown type of a property",
        ),
        pytest.param(
            {"properties": {"a": {"type": "float"}}},
            "{}",
            VALID,
            id="an unknown type of a missing property",
        ),
        pytest.param(
            {"enum": [{"type": "dict"}]}, '{"type": "dict"}', VALID, id="data is not a schema"
        ),
        pytest.param(
            {"properties": {"type": {"const": 1}}},
            '{"type": 1}',
            VALID,
            id="a property may be called type",
        ),
        pytest.param(
            {"type": "object", "title": None}, "[]", MISMATCH, id="an invalid title is ignored"
        ),
        pytest.param(
            {"type": "object", "properties": []},
            "[]",
            MISMATCH,
            id="an empty list for properties is ignored",
        ),
        pytest.param(
            {"$schema": "https://example.com/own", "type": "object"},
            "[]",
            MISMATCH,
            id="an unknown dialect is ignored",
        ),
        pytest.param(
            {"type": "object", "required": True}, "{}", VALID, id="a required flag asserts nothing"
        ),
        pytest.param(
            {"type": "object", "required": True}, "[]", MISMATCH, id="a required flag is ignored"
        ),
        pytest.param(
            {"minimum": 1, "exclusiveMinimum": True},
            "0",
            MISMATCH,
            id="an exclusive flag asserts nothing",
        ),
        pytest.param(
            {"$ref": "#/$defs/a b", "$defs": {"a b": {"type": "null"}}},
            "1",
            MISMATCH,
            id="blanks in links",
        ),
        pytest.param(
            {"$ref": "#/$defs/L<a>", "$defs": {"L<a>": {"type": "null"}}},
            "1",
            MISMATCH,
            id="generic names",
        ),
        pytest.param({"$id": "a schema", "type": "null"}, "1", MISMATCH, id="a name with blanks"),
        pytest.param(
            {"prefixItems": [{"type": "null"}]},
            "[1]",
            VALID,
            id="keywords of later drafts assert nothing",
        ),
        pytest.param({"format": "date"}, '"2023-02-29"', MISMATCH, id="a format is asserted"),
        pytest.param(
            {"format": "date-time"},
            '"2023-02-28 10:00:00Z"',
            VALID,
            id="a blank between date and time",
        ),
        pytest.param({"format": "date-time"}, '"2023-02-28"', MISMATCH, id="a date without a time"),
        pytest.param(
            {"format": "uuid"}, '"7"', MISMATCH, id="a format of a later draft is asserted too"
        ),
        pytest.param(
            {"format": "regex"}, '"("', VALID, id="text from the endpoint is not compiled"
        ),
        pytest.param({"format": "city"}, '"7"', VALID, id="an unknown format asserts nothing"),
        pytest.param({"format": ["date"]}, '"7"', VALID, id="a list of formats asserts nothing"),
        pytest.param(
            {"contentMediaType": "application/json"},
            '"("',
            VALID,
            id="a media type asserts nothing",
        ),
        pytest.param(
            {"maxLength": 1}, '"😀"', VALID, id="characters are counted, not UTF-16 units"
        ),
    ],
)
def test_schemas_have_the_same_meaning_as_in_cfworker(
    schema: Schema, arguments: str, expected: CallClass
) -> None:
    assert found(schema, arguments) is expected


@pytest.mark.parametrize(
    ("tools", "item", "expected"),
    [
        pytest.param(
            [tool(CITY)], {"function": {"name": "u", "arguments": "{}"}}, UNKNOWN, id="another name"
        ),
        pytest.param(
            [tool(CITY)],
            {"function": {"name": "u", "arguments": "{"}},
            INVALID,
            id="another name, invalid JSON",
        ),
        pytest.param(
            [tool(CITY)], {"function": {"name": "T", "arguments": "{}"}}, UNKNOWN, id="another case"
        ),
        pytest.param(
            [tool(CITY)],
            {"function": {"name": "functions.t", "arguments": "{}"}},
            UNKNOWN,
            id="a prefix",
        ),
        pytest.param(
            [tool(CITY)],
            {"function": {"name": None, "arguments": "{}"}},
            UNKNOWN,
            id="null for a name",
        ),
        pytest.param(
            [tool(CITY)],
            {"function": {"name": ["t"], "arguments": "{}"}},
            UNKNOWN,
            id="a list for a name",
        ),
        pytest.param([tool(CITY)], {"function": {"arguments": "{}"}}, UNKNOWN, id="no name"),
        pytest.param([tool(CITY)], {"function": {"name": "t"}}, INVALID, id="no arguments"),
        pytest.param([tool(CITY)], {"function": "t"}, INVALID, id="text for a function"),
        pytest.param([tool(CITY)], "t", INVALID, id="text for a call"),
        pytest.param([tool(CITY)], None, INVALID, id="null for a call"),
        pytest.param([], call("{}"), UNKNOWN, id="no tools"),
        pytest.param(None, call("{}"), UNKNOWN, id="null for tools"),
        pytest.param(
            [None, 7, "t", {}, {"function": {"name": []}}, tool(CITY)],
            call("{}"),
            MISMATCH,
            id="odd tools",
        ),
        pytest.param(
            [tool(CITY), tool({})],
            call("{}"),
            VALID,
            id="the later of two tools with one name counts",
        ),
        pytest.param(
            [{"type": "function", "name": "t", "parameters": CITY}],
            call("{}"),
            MISMATCH,
            id="a flat tool",
        ),
        pytest.param([tool(CITY)], {"name": "t", "arguments": "{}"}, MISMATCH, id="a flat call"),
        pytest.param(
            (tool(each) for each in (CITY,)),
            call("{}"),
            MISMATCH,
            id="tools from an iterator",
        ),
        pytest.param(
            ({**tool(each), "function": 7} for each in (1,)),
            call("{}"),
            UNKNOWN,
            id="odd tools from an iterator",
        ),
    ],
)
def test_tools_and_calls_of_every_shape_are_classified(
    tools: Any, item: object, expected: CallClass
) -> None:
    checked = check(tools, [item])
    assert checked.calls == (expected,)
    assert checked.errored is (expected is not VALID)


def test_one_invalid_call_makes_the_request_errored() -> None:
    good, bad = call('{"city": "Rome"}'), call("{}")
    assert check([tool(CITY)], [good, bad, good]).calls == (VALID, MISMATCH, VALID)
    assert check([tool(CITY)], [good, bad, good]).errored
    assert not check([tool(CITY)], [good, good]).errored


@pytest.mark.parametrize("none", [None, []])
def test_an_answer_without_calls_is_not_errored(none: Any) -> None:
    checked = check([tool(CITY)], none)
    assert (checked.calls, checked.errored) == ((), False)


def test_offered_tools_can_check_many_answers_and_are_not_changed() -> None:
    before = [tool({"type": "dict", "title": None}), tool(CITY, "u")]
    tools = OfferedTools(json.loads(json.dumps(before)))
    listed = json.loads(json.dumps(before))
    for _ in range(2):
        for item, expected in (
            (call("{}"), MISMATCH),
            (call('{"city": ""}', "u"), VALID),
            (call("{}", "v"), UNKNOWN),
        ):
            assert check(tools, [item]).calls == check(listed, [item]).calls == (expected,)
    assert listed == before


def test_the_classes_have_the_names_of_openrouter() -> None:
    assert list(CallClass) == ["Valid", "InvalidJson", "UnknownName", "SchemaMismatch"]


SAFE = (
    st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.booleans()
)
JSON = st.recursive(
    SAFE | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
WORDS = st.sampled_from(
    [
        "function",
        "name",
        "parameters",
        "arguments",
        "type",
        "properties",
        "$ref",
        "enum",
        "not",
        "t",
    ]
)
ODD = st.recursive(
    JSON | st.sampled_from(["object", "#", "dict", "{}", "{"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
)


@given(JSON)
def test_a_const_value_matches_only_itself(value: Any) -> None:
    assert found({"const": value}, json.dumps(value)) is VALID
    assert found({"not": {"enum": [value]}}, json.dumps(value)) is MISMATCH
    assert found({"const": [value]}, json.dumps(value)) is MISMATCH


@given(JSON, st.booleans())
def test_parsed_arguments_and_their_text_have_the_same_class(
    value: Any,
    ascii_alone: bool,  # noqa: FBT001 - hypothesis draws it
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_alone)
    if not isinstance(value, dict | list):
        value = [value]
        text = json.dumps(value, ensure_ascii=ascii_alone)
    schema = {"type": ["object", "integer"], "minProperties": 1}
    assert (
        found(schema, value) is found(schema, text) is found(schema, text.encode(errors="replace"))
    )


@given(st.dictionaries(st.text(), JSON, min_size=1, max_size=4), st.data())
def test_a_truncated_object_is_not_json(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value)
    assert found(None, text[: data.draw(st.integers(1, len(text) - 1))]) is INVALID


@given(ODD, ODD)
def test_check_raises_nothing_for_any_json(tools: Any, calls: Any) -> None:
    tools, calls = ([each] if not isinstance(each, list) else each for each in (tools, calls))
    assert len(check(tools, calls).calls) == len(calls)
    assert check([tool(tools)], [call("{}"), call("[[]]")]).calls.count(INVALID) == 0
