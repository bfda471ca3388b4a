"""What `policy/README.md` tells authors is what the code does: facts, functions, reasons, CEL, limits."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple

import pytest

from assay.curator.judging import compile_source
from assay.engine.cel.check import check
from assay.engine.cel.faults import ExpressionFaults
from assay.engine.cel.operations import LARGEST
from assay.engine.cel.schema import DOUBLE, Function, Schema
from assay.engine.cel.signatures import OUTSIDE
from assay.engine.cel.tokens import LIMITS
from assay.engine.policy.fact_schema import FACTS, REQUEST, schema_for
from assay.engine.policy.functions import FUNCTIONS
from assay.engine.policy.verdict import POOL_REASONS, REQUEST_REASONS
from assay.rule_files.directory import MAX_FILES, read_directory
from assay.rule_files.source import MAX_BYTES, MAX_DEPTH
from assay.server.settings import policy_dir

README = (policy_dir() / "README.md").read_text(encoding="utf-8")
SCHEMA: Schema = schema_for(REQUEST, {"floor": DOUBLE})
CELL = re.compile(r"(?<!\\)\|")


def row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(header)
    return "\n".join([row(*head), row(*("---" for _ in head)), *(row(*cells) for cells in rows)])


def section(title: str) -> str:
    """The text under a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {title!r}"
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The cells of the one table under a heading, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[c.strip().replace("\\|", "|") for c in CELL.split(line)[1:-1]] for line in lines[2:]]


def code(cell: str) -> str:
    """What stands in back-quotes, of which a cell with back-quotes inside has two."""
    quotes = "``" if cell.startswith("``") else "`"
    return cell.removeprefix(quotes).removesuffix(quotes).strip()


# -- written from the code -------------------------------------------------------------------------------------------


def facts_table(root: str) -> str:
    return table(
        ("fact", "type", "optional", "stage", "meaning"),
        (
            (f"`{f.path}`", f"`{f.type}`", "yes" if f.optional else "", f.stage, f.meaning)
            for f in FACTS
            if f.root == root
        ),
    )


def functions_table() -> str:
    return table(
        ("function", "judging only", "meaning"),
        (
            (f"`{signature(f)}`", "yes" if f.judging else "", meaning(f.implementation))
            for f in FUNCTIONS
        ),
    )


def signature(function: Function) -> str:
    names = list(inspect.signature(function.implementation).parameters)
    receiver = f"{names.pop(0)}." if function.receiver else ""
    parameters = ", ".join(f"{n}: {t}" for n, t in zip(names, function.parameters, strict=True))
    return f"{receiver}{function.name}({parameters}) -> {function.result}"


def meaning(implementation: Callable[..., object]) -> str:
    return (inspect.getdoc(implementation) or "").split("\n\n")[0].replace("\n", " ")


ROOTS = tuple(dict.fromkeys(fact.root for fact in FACTS))


@pytest.mark.parametrize("root", ROOTS)
def test_every_fact_stands_in_its_table(root: str) -> None:
    assert section(f"Facts: {root}").strip().endswith(facts_table(root)), (
        f"it should be:\n\n{facts_table(root)}"
    )


def test_there_is_a_table_for_every_root_and_no_other() -> None:
    assert tuple(re.findall(r"^#+ Facts: (\w+)$", README, re.MULTILINE)) == ROOTS


def test_every_function_stands_in_its_table() -> None:
    assert functions_table() in section("Functions"), f"it should be:\n\n{functions_table()}"


# -- written by hand, compared with the code -------------------------------------------------------------------------


def shipped_reasons() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Which rules of the shipped rule sets give each reason: pool rules, request rules."""
    pool: defaultdict[str, set[str]] = defaultdict(set)
    request: defaultdict[str, set[str]] = defaultdict(set)
    for rule_set in compile_source(read_directory(policy_dir())).rule_sets.values():
        for rule in (*(rule_set.enter or ()), *rule_set.stay):
            pool[rule.rule.reason].add(rule.name)
        for rule in rule_set.request:
            request[rule.rule.reason].add(rule.name)
    return pool, request


@pytest.mark.parametrize(
    ("title", "codes", "given"),
    [
        pytest.param("Reasons of pool rules", POOL_REASONS, shipped_reasons()[0], id="pool"),
        pytest.param(
            "Reasons of request rules", REQUEST_REASONS, shipped_reasons()[1], id="request"
        ),
    ],
)
def test_every_reason_stands_in_its_table(
    title: str, codes: tuple[str, ...], given: dict[str, set[str]]
) -> None:
    told = rows(title)
    assert tuple(code(reason) for reason, _, _ in told) == codes
    assert all(meaning for _, meaning, _ in told)
    assert {code(reason): set(re.findall(r"`(\w+)`", rules)) for reason, _, rules in told} == {
        reason: given.get(reason, set()) for reason in codes
    }


@pytest.mark.parametrize(
    ("example", "result"), [(code(c[0]), code(c[1])) for c in rows("What CEL may be written")]
)
def test_what_may_be_written_may(example: str, result: str) -> None:
    assert str(check(example, SCHEMA).type) == result


@pytest.mark.parametrize(
    ("example", "message"), [(code(c[0]), code(c[1])) for c in rows("What CEL is refused")]
)
def test_what_is_refused_is(example: str, message: str) -> None:
    with pytest.raises(ExpressionFaults) as refused:
        check(example, SCHEMA)
    assert message in [fault.message for fault in refused.value.faults]


def test_the_functions_left_out_are_named() -> None:
    named = re.search(
        r"^Functions left out: (.*?)\.$", section("What CEL is refused"), re.MULTILINE | re.DOTALL
    )
    assert named
    assert set(re.findall(r"`(\w+)`", named[1])) == OUTSIDE


def limits() -> Iterator[int]:
    yield from astuple(LIMITS)
    yield from (LARGEST, MAX_BYTES // 1024, MAX_DEPTH, MAX_FILES)


def test_every_limit_is_told_as_it_is() -> None:
    assert [int(re.sub(r"[^0-9]", "", amount)) for _, amount in rows("Limits")] == list(limits())
