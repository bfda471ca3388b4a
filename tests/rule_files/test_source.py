"""The YAML subset of rule files, and the faults for everything outside it."""

from __future__ import annotations

import time

import pytest

from assay.rule_files.nodes import plain
from assay.rule_files.source import MAX_BYTES, MAX_DEPTH, read_source


@pytest.mark.parametrize(
    ("written", "value"),
    [
        pytest.param("true", True, id="true"),
        pytest.param("false", False, id="false"),
        *(
            pytest.param(w, w, id=w)
            for w in ("yes", "no", "on", "off", "y", "n", "True", "FALSE", "Null", "nan", "inf")
        ),
        pytest.param("null", None, id="null"),
        pytest.param("~", None, id="tilde"),
        pytest.param("", None, id="nothing"),
        pytest.param("20", 20, id="int"),
        pytest.param("-7", -7, id="negative int"),
        pytest.param("20.0", 20.0, id="double"),
        pytest.param("5.", 5.0, id="double without decimals"),
        pytest.param(".5", 0.5, id="double without a whole part"),
        pytest.param("1e3", 1000.0, id="exponent without a point"),
        pytest.param("1.5e-3", 0.0015, id="exponent"),
        pytest.param("010", "010", id="octal of YAML 1.1"),
        pytest.param("0o10", "0o10", id="octal"),
        pytest.param("0x1F", "0x1F", id="hex"),
        pytest.param("0b11", "0b11", id="binary"),
        pytest.param("1_000", "1_000", id="underscores"),
        pytest.param("12:30", "12:30", id="sexagesimal"),
        pytest.param("12:30:45.5", "12:30:45.5", id="sexagesimal double"),
        pytest.param("2025-09-23", "2025-09-23", id="date"),
        pytest.param("2025-09-23T12:00:00Z", "2025-09-23T12:00:00Z", id="time"),
        pytest.param("=", "=", id="the value key of YAML 1.1"),
        pytest.param("'true'", "true", id="quoted word"),
        pytest.param('"20"', "20", id="quoted number"),
        pytest.param("٣", "٣", id="digits of other scripts"),
    ],
)
def test_plain_scalars_have_their_yaml_types(written: str, value: object) -> None:
    root, faults = read_source("x.yaml", f"a: {written}\n")
    assert root is not None
    assert (plain(root), faults) == ({"a": value}, [])
    assert type(plain(root)["a"]) is type(value)  # type: ignore[call-overload,index] # plain data


DEEP = "a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)
BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{c}: &{c} [*{p}, *{p}, *{p}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        pytest.param("", "1:1: the file is empty", id="empty"),
        pytest.param("# nothing\n", "1:1: the file is empty", id="only a comment"),
        pytest.param("a: 1\n---\nb: 2\n", "2:1: a second document", id="two documents"),
        pytest.param("%YAML 1.1\n---\na: 1\n", "1:1: YAML directives", id="directive"),
        pytest.param(
            "a: 1\nb: 2\na: 3\n",
            "3:1: duplicate key `a`, first written on line 1",
            id="duplicate key",
        ),
        pytest.param("a: &x 1\n", "1:4: the anchor `&x`", id="anchor"),
        pytest.param("a: *x\n", "1:4: the alias `*x`", id="alias"),
        pytest.param(
            "a: !!python/object:os.system x\n",
            "1:4: the tag `tag:yaml.org,2002:python/object",
            id="tag",
        ),
        pytest.param("a: ! x\n", "1:4: the tag `!`", id="bare tag"),
        pytest.param("<<: {a: 1}\n", "1:1: the merge key", id="merge key"),
        pytest.param("? [a]\n: 1\n", "1:3: a key must be a single word", id="key that is a list"),
        pytest.param("a:\n\t- b\n", "2:1: not valid YAML: a tab indents", id="tab"),
        pytest.param("a: [1, 2\n", "2:1: not valid YAML: expected ',' or ']'", id="unclosed list"),
        pytest.param(
            "a: 'x\n", "2:1: not valid YAML: found unexpected end of stream", id="unclosed quote"
        ),
        pytest.param(
            "a: b: c\n", "1:5: not valid YAML: mapping values are not allowed here", id="two colons"
        ),
        pytest.param(
            "a: @x\n", "1:4: not valid YAML: found character '@'", id="reserved character"
        ),
        pytest.param(
            'a: "\\UFFFFFFFF"\n', "1:1: not valid YAML: an escape", id="escape beyond Unicode"
        ),
        pytest.param(
            f"%YAML 1.{'9' * 5000}\n---\na",
            "1:1: not valid YAML: an escape or directive",
            id="long version",
        ),
        pytest.param('a: "\\0"\n', "1:4: an escape here is a control", id="escaped NUL"),
        pytest.param('a: "\\uD800"\n', "1:4: an escape here is a control", id="escaped surrogate"),
        pytest.param("a: .nan\n", "1:4: `.nan`: the number is not finite", id="NaN"),
        pytest.param("a: -.INF\n", "1:4: `-.INF`: the number is not finite", id="infinity"),
        pytest.param("a: 1e999\n", "1:4: `1e999`: the number is not finite", id="beyond doubles"),
        pytest.param(
            f"a: {2**63}\n", f"1:4: `{2**63}`: the whole number does not fit", id="beyond 64 bits"
        ),
        pytest.param(
            f"a: {'9' * 9999}\n",
            f"1:4: `{'9' * 40}`: the whole number does not fit",
            id="very long number",
        ),
        pytest.param("a: x\x07\n", "1:5: the invisible character U+0007", id="bell"),
        pytest.param(
            "a: 1\rb: 2\n", "1:5: the invisible character U+000D", id="old Macintosh line end"
        ),
        pytest.param(
            "a: x\u202ey\n", "1:5: the invisible character U+202E", id="right-to-left override"
        ),
        pytest.param("a: x\u200by\n", "1:5: the invisible character U+200B", id="zero-width space"),
        pytest.param("a: x\u2028y\n", "1:5: the invisible character U+2028", id="line separator"),
        pytest.param("a: x\ufffey\n", "1:5: the invisible character U+FFFE", id="noncharacter"),
        pytest.param("\ufeffa: x\n", "1:1: a byte order mark", id="byte order mark"),
        pytest.param("a: 1\nb: x\ufffdy\n", "2:5: a byte that is not UTF-8", id="not UTF-8"),
        pytest.param("a: x\ud800\n", "1:5: the invisible character U+D800", id="surrogate"),
        pytest.param(DEEP, "1:35: nested deeper than 32 levels", id="deep"),
        pytest.param("[" * 200_000, "1:33: nested deeper than 32 levels", id="very deep"),
        pytest.param("- " * 100_000, "1:65: nested deeper than 32 levels", id="very deep blocks"),
        pytest.param("? " * 100_000, "1:65: nested deeper than 32 levels", id="very deep keys"),
        pytest.param(BOMB, "1:4: the anchor `&a`", id="alias bomb"),
        pytest.param(
            "é" * (MAX_BYTES // 2 + 1),
            "1:1: the file is larger than 256 KiB",
            id="too large in bytes",
        ),
    ],
)
def test_unsupported_yaml_is_rejected_at_its_position(text: str, first: str) -> None:
    began = time.process_time()
    _, faults = read_source("x.yaml", text)
    assert str(min(faults, key=lambda f: (f.place.line, f.place.column))).startswith(
        f"x.yaml:{first}"
    )
    assert time.process_time() - began < 5


def test_reading_continues_after_unsupported_yaml() -> None:
    _, faults = read_source("x.yaml", "a: &x 1\nb: *x\na: 2\nc: !t 3\n<<: {}\nd: .inf\n")
    assert [(f.place.line, f.place.column) for f in faults] == [
        (1, 4),
        (2, 4),
        (3, 1),
        (4, 4),
        (5, 1),
        (6, 4),
    ]


def test_a_binary_file_has_few_faults() -> None:
    _, faults = read_source("x.yaml", "\x00\udcff" * 10_000)
    assert len(faults) == 20
