"""The checker reports all faults of an expression at once, each with position and remedy."""

from __future__ import annotations

import pytest

from assay.engine.cel.check import check
from assay.engine.cel.faults import ExpressionFaults
from assay.engine.cel.schema import (
    BOOL,
    DOUBLE,
    INT,
    STRING,
    Fact,
    Function,
    Schema,
    Type,
    list_of,
    map_of,
    record,
)

SCHEMA = Schema(
    roots={
        "endpoint": {
            "tools.tool_call_requests": Fact(DOUBLE, optional=True),
            "tools.errored_requests": Fact(DOUBLE, optional=True),
            "context": Fact(INT),
            "provider": Fact(STRING),
            "features": Fact(list_of(STRING)),
            "scores": Fact(map_of(STRING, DOUBLE)),
            "stable": Fact(BOOL),
        },
        "request": {"ignore": Fact(list_of(STRING)), "tools": Fact(INT)},
        "variables": {"good": Fact(DOUBLE)},
    },
    variables={"limit": INT},
    functions=(
        Function("share", (DOUBLE, DOUBLE), DOUBLE, lambda part, whole: part / whole, judging=True),
        Function(
            "offers",
            (list_of(STRING),),
            BOOL,
            lambda _endpoint, _names: True,
            receiver=record("endpoint"),
        ),
    ),
)


def faults_of(text: str, expected: Type | None = None, *, judging: bool = True) -> list[str]:
    with pytest.raises(ExpressionFaults) as caught:
        check(text, SCHEMA, expected=expected, judging=judging)
    return [f"{fault.line}:{fault.column} {fault.message}" for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "type_", "reads"),
    [
        pytest.param(
            "endpoint.tools.tool_call_requests >= 1.0",
            BOOL,
            {"endpoint.tools.tool_call_requests"},
            id="a fact of several words",
        ),
        pytest.param(
            "has(endpoint.tools.tool_call_requests)",
            BOOL,
            {"endpoint.tools.tool_call_requests"},
            id="has reads what it asks for",
        ),
        pytest.param("limit + 1", INT, {"limit"}, id="a plain variable"),
        pytest.param(
            "endpoint.offers(request.ignore)",
            BOOL,
            {"endpoint", "request.ignore"},
            id="a root as receiver",
        ),
        pytest.param(
            "endpoint.scores.mmlu", DOUBLE, {"endpoint.scores"}, id="a key of a map by a dot"
        ),
        pytest.param(
            "has(endpoint.scores.mmlu)", BOOL, {"endpoint.scores"}, id="has of a key of a map"
        ),
        pytest.param(
            "request.ignore.exists(endpoint, endpoint == 'a')",
            BOOL,
            {"request.ignore"},
            id="shadowing",
        ),
        pytest.param(
            "request.ignore + []",
            list_of(STRING),
            {"request.ignore"},
            id="an empty list fits any list",
        ),
        pytest.param("-9223372036854775808", INT, set(), id="the least int"),
        pytest.param("- 9223372036854775808", INT, set(), id="the least int, spaced"),
        pytest.param("0x7fffffffffffffff", INT, set(), id="the greatest int"),
        pytest.param("'it''s' == 'x'", None, set(), id="strings side by side"),
    ],
)
def test_checking_returns_the_type_and_the_facts_read(
    text: str, type_: Type | None, reads: set[str]
) -> None:
    if type_ is None:
        assert faults_of(text) == ["1:5 unexpected 's'"]
        return
    checked = check(text, SCHEMA)
    assert checked.type == type_
    assert checked.reads == reads


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(
            "1.0 + 1 > 0.0",
            ["1:5 + cannot take double and int: write 1.0"],
            id="an int among doubles",
        ),
        pytest.param(
            "endpoint.tools.tool_call_requests >= 60",
            ["1:35 >= cannot take double and int: write 60.0"],
            id="an int as a bound",
        ),
        pytest.param(
            "endpoint.tools.tool_call_requests > endpoint.context",
            ["1:35 > cannot take double and int: convert with double(…)"],
            id="an int fact against a double fact",
        ),
        pytest.param(
            "endpoint.tools",
            [
                (
                    "1:1 endpoint.tools is a group of facts: name one of"
                    " endpoint.tools.errored_requests, endpoint.tools.tool_call_requests"
                )
            ],
            id="a group of facts",
        ),
        pytest.param(
            "request == 1",
            ["1:1 request is a group of facts: name one of request.ignore, request.tools"],
            id="a whole root",
        ),
        pytest.param(
            "endpoint.tols.tool_call_requests > 0.0",
            [
                (
                    "1:1 endpoint.tols.tool_call_requests is not declared, "
                    "did you mean endpoint.tools.tool_call_requests?"
                )
            ],
            id="a misspelt fact",
        ),
        pytest.param(
            "endpint.stable",
            ["1:1 endpint is not declared, did you mean endpoint?"],
            id="a misspelt root",
        ),
        pytest.param(
            "has(endpoint.tool)",
            ["1:5 endpoint.tool is not declared, did you mean endpoint.tools?"],
            id="has of a misspelt fact",
        ),
        pytest.param(
            "has(variables.good)",
            ["1:1 has asks for facts, and variables.good is computed: ask for the facts it reads"],
            id="has of a variable",
        ),
        pytest.param(
            "has(endpoint)", ["1:1 has takes one fact: has(root.path)"], id="has of a root"
        ),
        pytest.param(
            "endpoint.context == null",
            [
                (
                    "1:18 == cannot take int and null: only null equals null, "
                    "ask has(…) whether a fact is there"
                )
            ],
            id="null for absent",
        ),
        pytest.param(
            "endpoint.context",
            ["1:1 this must be bool, and is int"],
            id="a rule that is not a bool",
        ),
        pytest.param("true && 1", ["1:9 && takes bools, and this is int"], id="`&&` of an int"),
        pytest.param(
            "!endpoint.context", ["1:2 ! takes bools, and this is int"], id="not of an int"
        ),
        pytest.param(
            "true ? 1 : 1.0",
            ["1:6 ?: cannot choose between int and double"],
            id="branches of two types",
        ),
        pytest.param(
            "[1, 'a'] == []", ["1:1 a list must be of one type, not int, string"], id="a mixed list"
        ),
        pytest.param(
            "{'a': 1, 'a': 2} == {}", ["1:1 a key occurs twice in this map"], id="a key twice"
        ),
        pytest.param(
            "1 in 'a'", ["1:3 in looks into a list or a map, not string"], id="in a string"
        ),
        pytest.param(
            "share(1, 2) > 0.5",
            ["1:1 share is called as share(double, double), not with (int, int)"],
            id="a function with wrong types",
        ),
        pytest.param(
            "offers(endpoint)",
            ["1:1 offers is called as endpoint.offers(list<string>)"],
            id="a method as a function",
        ),
        pytest.param(
            "endpoint.provider.startswith('a')",
            ["1:19 there is no function startswith, did you mean startsWith?"],
            id="a misspelt function",
        ),
        pytest.param(
            "'a'.matches('x' + 'y')",
            ["1:17 the pattern of matches must be a string literal"],
            id="a computed pattern",
        ),
        pytest.param("'a'.matches('(')", ["1:13 bad pattern: missing ): ("], id="a bad pattern"),
        pytest.param("1u == 2u", ["1:1 U", "1:7 U"], id="unsigned integers"),
        pytest.param("b'a' == b'a'", ["1:1 B", "1:9 B"], id="bytes"),
        pytest.param(
            "timestamp('x') == 1", ["1:1 timestamp is not in the portable subset"], id="timestamps"
        ),
        pytest.param("dyn(1) == 1", ["1:1 dyn is not in the portable subset"], id="dynamic types"),
        pytest.param(
            "A{b: 1} == 1",
            ["1:1 message construction is not in the portable subset"],
            id="messages",
        ),
        pytest.param(
            ".limit == 1", ["1:1 a leading dot is not in the portable subset"], id="absolute names"
        ),
        pytest.param(
            "endpoint.?x",
            ["1:10 optional syntax is not in the portable subset"],
            id="optional fields",
        ),
        pytest.param(
            "endpoint.`a`",
            ["1:10 back-quoted names are not in the portable subset"],
            id="quoted names",
        ),
        pytest.param(
            "limit = 1", ["1:7 unexpected '=', equality is written =="], id="one equals sign"
        ),
        pytest.param("limit == 'a", ["1:10 this string has no end"], id="an open string"),
        pytest.param("limit ==", ["1:9 the expression ends too early"], id="half an expression"),
        pytest.param("(limit == 1", ["1:12 the expression ends too early"], id="an open bracket"),
        pytest.param("limit 1", ["1:7 unexpected 1"], id="no operator"),
        pytest.param("limit == 1.", ["1:10 malformed number 1."], id="a dot without digits"),
        pytest.param(
            "limit == 9223372036854775808",
            ["1:10 this number is too large for an int"],
            id="too large",
        ),
        pytest.param("'\\q' == 'a'", ["1:2 unknown escape \\q"], id="an unknown escape"),
        pytest.param(
            "'\\ud800' == 'a'", ["1:2 \\ud800 is not a character"], id="half of a surrogate pair"
        ),
        pytest.param("if == 1", ["1:1 if is a reserved word"], id="a reserved word"),
        pytest.param(
            "__class__ == 1",
            ["1:1 __class__ is not declared"],
            id="names of Python objects are undeclared",
        ),
        pytest.param(" // nothing", ["1:1 the expression is empty"], id="nothing but a comment"),
        pytest.param(
            "endpoint.tols > 1\n  && foo\n  && 'a' == 1u",
            [
                "1:1 endpoint.tols is not declared, did you mean endpoint.tools?",
                "2:6 foo is not declared",
                "3:13 U",
            ],
            id="all faults at once, each on its line",
        ),
    ],
)
def test_every_fault_is_reported_at_its_position(text: str, faults: list[str]) -> None:
    words = {
        "U": "unsigned integers are not in the portable subset",
        "B": "bytes are not in the portable subset",
    }
    expected = [
        f"{place} {words.get(message, message)}"
        for place, _, message in (f.partition(" ") for f in faults)
    ]
    assert faults_of(text, BOOL) == expected


def test_judging_functions_are_allowed_in_pool_rules_only() -> None:
    assert faults_of("share(1.0, 2.0) > 0.5", judging=False) == [
        "1:1 share judges evidence, which only pool rules may do"
    ]
    assert check("share(1.0, 2.0) > 0.5", SCHEMA).functions == {"share"}


def test_positions_of_failures_count_lines_within_multi_line_strings() -> None:
    assert faults_of("'''a\nb'''.size() > 0 && foo") == ["2:20 foo is not declared"]
