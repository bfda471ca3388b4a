"""The cel-spec simple tests: each case agrees, or belongs to a named group with a reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.cel_oracles import is_error, same_value

from assay.engine.cel.check import CheckedExpression, check
from assay.engine.cel.exact_evaluator import evaluate
from assay.engine.cel.faults import ExpressionFaults
from assay.engine.cel.schema import (
    BOOL,
    DOUBLE,
    INT,
    NULL,
    STRING,
    Fact,
    Schema,
    Type,
    list_of,
    map_of,
)

DATA = Path(__file__).resolve().parents[3].parent / "shared/data/cel_spec/simple.jsonl"

Case = dict[str, Any]


class Foreign(Exception):
    """A value of a type that we do not have."""


@dataclass(frozen=True, slots=True)
class Group:
    """Cases left out: which, and why."""

    name: str
    reason: str
    holds: Callable[[Case], object]


def in_files(*files: str) -> Callable[[Case], object]:
    return lambda case: case["file"] in files


def text(pattern: str) -> Callable[[Case], object]:
    compiled = re.compile(pattern)
    return lambda case: compiled.search(case["expr"])


def named(file: str, section: str, *names: str) -> Callable[[Case], object]:
    return lambda case: (
        (case["file"], case["section"]) == (file, section) and (not names or case["name"] in names)
    )


def one_of(*tests: Callable[[Case], object]) -> Callable[[Case], object]:
    return lambda case: any(holds(case) for holds in tests)


EXTENSIONS = (
    *("bindings_ext", "block_ext", "encoders_ext", "macros2"),
    *("math_ext", "network_ext", "optionals", "string_ext"),
)
GROUPS = (
    Group("extensions", "libraries beyond the core language", in_files(*EXTENSIONS)),
    Group(
        "messages",
        "facts are not protobuf messages",
        one_of(
            in_files("proto2", "proto3", "enums", "wrappers", "dynamic"),
            text(r"TestAllTypes|google\.protobuf|GlobalEnum|NestedEnum"),
        ),
    ),
    Group(
        "time",
        "no timestamps and durations; facts carry seconds",
        one_of(text(r"\b(timestamp|duration)\(")),
    ),
    Group("uint", "one kind of integer is enough", text(r"\b(0x[0-9a-fA-F]+|\d+)[uU]\b|\buint\b")),
    Group("bytes", "facts hold no bytes", text(r"""\b[rR]?[bB][rR]?["']|\bbytes\b""")),
    Group("dynamic types", "every expression has one static type", text(r"\b(dyn|type)\(")),
    Group("types as values", "types are not values", named("conversions", "type")),
    Group("containers", "names are not looked up in a package", lambda case: case["container"]),
    Group("absolute names", "there are no packages to step out of", text(r"(?<![\w\])])\.[a-z]")),
    Group("back-quoted names", "facts have plain names", text(r"`")),
    Group(
        "names unknown until run time",
        "an undeclared name is a fault of the author, found before anything runs",
        one_of(
            named("basic", "variables", "unbound_is_runtime_error"),
            named("basic", "functions", "unbound_is_runtime_error"),
            named("parse", "receiver_function_names"),
        ),
    ),
    Group(
        "conversions from strings",
        "engines read different spellings of numbers and bools",
        text(r"^(double|int|bool)\('[^']*'\)$"),
    ),
    Group(
        "mixed types",
        "lists, maps and comparisons of several types are an author's mistake, "
        "and engines differ on them",
        one_of(
            named("comparisons", "eq_literal"),
            named("comparisons", "in_list_literal", "elem_in_mixed_type_list"),
            named("fields", "map_fields", "map_key_int64", "map_value_mix_type"),
            named("logic", "conditional", "mixed_type"),
            named("logic", "AND", "short_circuit_type_left", "short_circuit_type_right"),
            named("logic", "OR", "short_circuit_type_left", "short_circuit_type_right"),
            named("macros", "exists"),
            named("macros", "all"),
            named("plumbing", "check_inputs", "skip_check"),
        ),
    ),
)
MUST_RUN = 510
"""The least number of cases that run: with fewer, the checker is stricter than the groups allow."""


def cases() -> list[Case]:
    return [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]


def decode(tagged: dict[str, Any]) -> tuple[Type, Any]:
    ((tag, value),) = tagged.items()
    if tag == "list":
        parts = [decode(each) for each in value]
        return list_of(_only(parts)), [part for _, part in parts]
    if tag == "map":
        keys, values = [decode(key) for key, _ in value], [decode(each) for _, each in value]
        return map_of(_only(keys), _only(values)), {
            k: v for (_, k), (_, v) in zip(keys, values, strict=True)
        }
    scalars: dict[str, tuple[Type, Callable[[Any], Any]]] = {
        "int64": (INT, int),
        "double": (DOUBLE, float),
        "string": (STRING, str),
        "bool": (BOOL, bool),
        "null": (NULL, lambda _: None),
    }
    if tag not in scalars:
        raise Foreign(tag)
    type_, convert = scalars[tag]
    return type_, convert(value)


def _only(parts: list[tuple[Type, Any]]) -> Type:
    types = {type_ for type_, _ in parts}
    if len(types) > 1:
        raise Foreign("mixed")
    return types.pop() if types else NULL


def compile_case(case: Case) -> tuple[CheckedExpression, dict[str, Any]]:
    """Declare the bindings, a dotted one as a fact below its root, and check."""
    roots: dict[str, dict[str, Fact]] = {}
    variables: dict[str, Type] = {}
    activation: dict[str, Any] = {}
    for name, tagged in case["bindings"].items():
        type_, value = decode(tagged)
        root, _, key = name.partition(".")
        if key:
            roots.setdefault(root, {})[key] = Fact(type_)
            activation.setdefault(root, {})[key] = value
        else:
            variables[name], activation[name] = type_, value
    return check(case["expr"], Schema(roots=roots, variables=variables)), activation


def judge(case: Case) -> str:
    """Return the outcome: `ran`, `rejected` (an expected error), `wrong`, or the case's group."""
    group = next((group.name for group in GROUPS if group.holds(case)), None)
    try:
        checked, activation = compile_case(case)
    except (ExpressionFaults, Foreign) as rejection:
        return group or ("rejected" if "error" in case["expect"] else f"wrong: {rejection}")
    outcome = evaluate(checked, activation)
    if "error" in case["expect"]:
        return "ran" if is_error(outcome) else f"wrong: {outcome!r}"
    try:
        _, expected = decode(case["expect"]["value"])
    except Foreign:
        return f"wrong: {outcome!r}"
    if same_value(outcome, expected):
        return "ran"
    return "containers" if group == "containers" else f"wrong: {outcome!r}"


@pytest.mark.skipif(
    not DATA.exists(), reason=f"the cel-spec cases are not next to the checkout: {DATA}"
)
def test_every_case_agrees_or_is_omitted_for_a_named_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = [(case, judge(case)) for case in cases()]
    wrong = [
        f"{c['file']}/{c['section']}/{c['name']}: {c['expr']!r} -> {result}, expected {c['expect']}"
        for c, result in results
        if result.startswith("wrong")
    ]
    counts = Counter(result for _, result in results if not result.startswith("wrong"))
    with capsys.disabled():
        total = ", ".join(f"{name} {n}" for name, n in counts.most_common())
        print(  # noqa: T201 - the count is for the reader of a test run
            f"\ncel-spec, {len(results)} cases: {total}"
        )
    assert not wrong, "\n".join(wrong)
    assert counts["ran"] >= MUST_RUN
    unused = {group.name for group in GROUPS} - set(counts)
    assert not unused, "a group without cases must be removed"
