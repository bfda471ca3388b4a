"""Reading arbitrary text terminates and raises only faults."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import HealthCheck, given, settings, strategies as st

from assay.engine.policy.faults import Fault, PolicyFaults
from assay.rule_files.cases import read_cases
from assay.rule_files.directory import read_directory
from assay.rule_files.read import read_policy
from assay.rule_files.render import render_fault
from assay.server.settings import policy_dir

SHIPPED = dict(read_directory(policy_dir()).files)
SUITE = (Path(__file__).parent / "fixtures" / "pool_test.yaml").read_text(encoding="utf-8")
PIECES = (
    "",
    " ",
    "\t",
    "\n",
    "\n  ",
    "- ",
    ": ",
    "? ",
    "'",
    '"',
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
    "|\n",
    ">\n",
    "&a ",
    "*a ",
    "!!int ",
    "<<: ",
    "%",
    "---\n",
    "...\n",
    "null",
    "~",
    "true",
    ".nan",
    "1e999",
    "9" * 30,
    "-1",
    "0.5",
    "\x00",
    "\u202e",
    "\ufeff",
    "\ud800",
    "\U0001f600",
    "\r",
    "\x85",
    "[]",
    "{}",
    "name: x\n",
    "expression: >\n",
    "extends: exacto\n",
)
slow = settings(max_examples=120, deadline=5000, suppress_health_check=[HealthCheck.too_slow])


def read_all(files: dict[str, str], suites: dict[str, str]) -> None:
    for read, texts in ((read_policy, files), (read_cases, suites)):
        faults: tuple[Fault, ...] = ()
        try:
            read(texts)
        except PolicyFaults as error:
            faults = error.faults
        for fault in faults:
            assert fault.place.line >= 1
            assert fault.place.column >= 1
            assert "\n" not in str(fault)
            assert render_fault(fault, texts).startswith(str(fault))


def mutated(text: str, seed: int, pieces: list[str]) -> str:
    """The text with pieces put in, characters or lines taken out, lines swapped."""
    chance = random.Random(seed)
    for piece in pieces:
        at, length = chance.randrange(len(text) + 1), chance.choice((0, 0, 1, 5, 40))
        text = text[:at] + piece + text[at + length :]
        if chance.random() < 0.3:
            lines = text.split("\n")
            lines.insert(chance.randrange(len(lines)), lines.pop(chance.randrange(len(lines))))
            text = "\n".join(lines)
    return text


@slow
@given(text=st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_arbitrary_text_is_read_or_faulty(text: str) -> None:
    read_all({"default.yaml": text, "bindings.yaml": text}, {"x_test.yaml": text})


@slow
@given(
    name=st.sampled_from(sorted(SHIPPED)),
    seed=st.integers(0, 2**32),
    pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=4),
)
def test_damaged_shipped_files_are_read_or_faulty(name: str, seed: int, pieces: list[str]) -> None:
    others = {file: SHIPPED[file] for file in ("default.yaml", "bindings.yaml")}
    read_all(
        {**others, name: mutated(SHIPPED[name], seed, pieces)},
        {"x_test.yaml": mutated(SUITE, seed, pieces)},
    )


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["name", "expression", "model", "provider", "first", "attempts", "p50"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KEYS = [
    "extends",
    "evidence",
    "params",
    "variables",
    "pool",
    "request",
    "order",
    "options",
    "fixtures",
    "tests",
]


@slow
@given(spec=st.dictionaries(st.sampled_from(KEYS), json) | json)
def test_an_arbitrary_spec_is_read_or_faulty(spec: object) -> None:
    def file(kind: str, name: str) -> str:
        return (
            f"apiVersion: assay/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {flow(spec)}\n"
        )

    read_all(
        {"default.yaml": file("RuleSet", "default"), "bindings.yaml": file("Bindings", "bindings")},
        {"x_test.yaml": file("RuleSetTest", "x")},
    )


def flow(value: object) -> str:
    """YAML in flow style, text in single quotes."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return "'" + value.replace("'", "''") + "'"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    return str(value)
