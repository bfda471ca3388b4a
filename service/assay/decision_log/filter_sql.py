"""What each CEL operation becomes in SQL where an operand differs from row to row."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BinaryExpression,
    Boolean,
    Column,
    ColumnElement,
    Integer,
    and_,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.sql.functions import FunctionElement

from assay.decision_log.filter_fields import TENANT, TIME
from assay.decision_log.tables import decision, finding_set_word, tenant_pseudonym
from assay.engine.cel.operations import OPERATIONS
from assay.engine.cel.schema import BOOL, Type
from assay.engine.world.clock import EPOCH
from assay.store.types import MICROSECOND, NAME, UtcTime


class Refusal(Exception):
    """What a filter asks cannot be put to a database; the walker knows the place."""


class Position(FunctionElement[int]):
    """Where the second text begins in the first, from 1; 0 for nowhere."""

    type = Integer()
    name = "position_of"
    inherit_cache = True


class Ending(FunctionElement[str]):
    """So many characters from the end of a text, or all where there are fewer."""

    type = NAME
    name = "ending_of"
    inherit_cache = True


class Microseconds(FunctionElement[int]):
    """An instant as microseconds since 1970."""

    type = BigInteger()
    name = "microseconds_of"
    inherit_cache = True


@compiles(Microseconds)
def _as_it_is(element: Microseconds, compiler: SQLCompiler, **how: Any) -> str:  # noqa: ANN401 - as SQLAlchemy has it
    return compiler.process(element.clause_expr, **how)


@compiles(Microseconds, "postgresql")
def _extracted(element: Microseconds, compiler: SQLCompiler, **how: Any) -> str:  # noqa: ANN401 - as SQLAlchemy hands it over
    return f"CAST(EXTRACT(EPOCH FROM {compiler.process(element.clause_expr, **how)}) * 1000000 AS BIGINT)"


@compiles(Position)
def _instr(element: Position, compiler: SQLCompiler, **how: Any) -> str:  # noqa: ANN401 - as SQLAlchemy hands it over
    return f"instr{compiler.process(element.clause_expr, **how)}"


@compiles(Position, "postgresql")
def _strpos(element: Position, compiler: SQLCompiler, **how: Any) -> str:  # noqa: ANN401 - as SQLAlchemy hands it over
    return f"strpos{compiler.process(element.clause_expr, **how)}"


@compiles(Ending)
def _substr(element: Ending, compiler: SQLCompiler, **how: Any) -> str:  # noqa: ANN401 - as SQLAlchemy hands it over
    text, size = (compiler.process(part, **how) for part in element.clauses)
    return f"substr({text}, -{size}, {size})"


@compiles(Ending, "postgresql")
def _right(element: Ending, compiler: SQLCompiler, **how: Any) -> str:  # noqa: ANN401 - as SQLAlchemy hands it over
    return f"right{compiler.process(element.clause_expr, **how)}"


@dataclass(frozen=True, slots=True)
class Const:
    """A value known before any row is read."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A value that differs from row to row: a bool as a condition, an int or a text."""

    expression: ColumnElement[Any]
    field: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """A list field, by the kind of its words."""

    kind: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list written in the filter that holds more than constants."""

    items: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something already reported."""


UNKNOWN: Final = Unknown()
Operand = Const | Cell | Words | Items | Unknown


def items_of(operand: Const | Items) -> tuple[Operand, ...]:
    """The elements of a list, or the keys of a map."""
    return operand.items if isinstance(operand, Items) else tuple(map(Const, operand.value))


def listed(items: Sequence[Operand]) -> Operand:
    """The list of the items, a constant if all of them are."""
    if any(isinstance(item, Unknown) for item in items):
        return UNKNOWN
    values = [item.value for item in items if isinstance(item, Const)]
    return Const(values) if len(values) == len(items) else Items(tuple(items))


def bound(operand: Operand) -> ColumnElement[Any]:
    """An int or text as SQL; constants become bound parameters, always."""
    if isinstance(operand, Cell):
        return (
            SPECIAL[operand.field](operand.expression)
            if operand.field in SPECIAL
            else operand.expression
        )
    value = operand.value if isinstance(operand, Const) else None
    if isinstance(value, str):
        if "\0" in value:
            raise Refusal("no field holds the character NUL")
        return literal(value, NAME)  # which sorts by code point, as the columns do
    if isinstance(value, int) and not isinstance(value, bool):
        return literal(value, BigInteger())
    raise Refusal("only bools, ints and strings are asked of rows")


def _tenant_name(pseudonym: ColumnElement[Any]) -> ColumnElement[Any]:
    names = tenant_pseudonym.alias()
    name = select(names.c.tenant).where(names.c.pseudonym == pseudonym).correlate_except(names)
    return func.coalesce(name.scalar_subquery(), literal("", NAME), type_=NAME)


SPECIAL: Final[Mapping[str, Any]] = {TIME: Microseconds, TENANT: _tenant_name}
"""Fields that are kept as something else than what filters read."""

TENANT_CELL: Final = Cell(decision.c.tenant, TENANT)


def condition(operand: Operand) -> ColumnElement[bool]:
    """A bool as SQL."""
    if isinstance(operand, Const):
        return true() if operand.value else false()
    if isinstance(operand, Cell):
        return operand.expression
    raise Refusal("a condition is needed here")


def negated(operand: Operand) -> Operand:
    """The opposite of a bool."""
    return (
        Const(not operand.value) if isinstance(operand, Const) else Cell(not_(condition(operand)))
    )


def joined(symbol: str, parts: Sequence[Operand]) -> Operand:
    """Bools under `&&` or `||`, constants taken out."""
    if any(isinstance(part, Unknown) for part in parts):
        return UNKNOWN
    decisive = symbol == "||"
    if any(isinstance(part, Const) and part.value is decisive for part in parts):
        return Const(decisive)
    asked = [condition(part) for part in parts if not isinstance(part, Const)]
    if not asked:
        return Const(not decisive)
    return Cell(or_(*asked) if decisive else and_(*asked))


Symbols = Mapping[str, Callable[[Any, Any], Any]]

COMPARISONS: Final[Symbols] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MIRRORED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
FIRST: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
LAST: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
SURROGATES: Final = range(0xD800, 0xE000)
LAST_CHARACTER: Final = "\U0010ffff"


def operate(name: str, type_: Type, operands: tuple[Operand, ...]) -> Operand:
    """Translate an operation of which not all operands are constant; `type_` is that of the first one."""
    if name in OF_TENANT and any(isinstance(o, Cell) and o.field == TENANT for o in operands):
        others = [o for o in operands if isinstance(o, Const)]
        if len(others) == len(operands) - 1:
            return _of_tenant(name, type_, operands)
    if name in COMPARISONS:
        return compare(name, type_, *operands)
    rule = RULES.get(name)
    if rule is None:
        raise Refusal(
            REFUSED.get(name, f"a filter calculates with constants only, not with fields: {name}")
        )
    return rule(type_, *operands)


def _of_tenant(name: str, type_: Type, operands: tuple[Operand, ...]) -> Operand:
    """Ask the names, and take their pseudonyms; what has no name there is the empty one."""
    names = tenant_pseudonym.alias()
    asked = operate(
        name, type_, tuple(Cell(names.c.tenant) if isinstance(o, Cell) else o for o in operands)
    )
    if isinstance(asked, Const):
        return asked
    of_none = OPERATIONS[name](*(o.value if isinstance(o, Const) else "" for o in operands))
    sought = not_(condition(asked)) if of_none else condition(asked)
    pseudonyms = select(names.c.pseudonym).where(sought).correlate_except(names)
    tenant = decision.c.tenant
    return Cell(tenant.not_in(pseudonyms) if of_none else tenant.in_(pseudonyms))


def compare(symbol: str, type_: Type, left: Operand, right: Operand) -> Operand:
    """Compare two bools, ints or texts."""
    if isinstance(left, Const) and isinstance(right, Const):
        return Const(OPERATIONS[symbol](left.value, right.value))
    if isinstance(left, Const):
        symbol, left, right = MIRRORED[symbol], right, left
    if type_ == BOOL:
        return _compare_bools(symbol, left, right)
    if isinstance(left, Cell) and left.field == TIME and isinstance(right, Const):
        return _compare_time(symbol, left.expression, right.value)
    return Cell(COMPARISONS[symbol](bound(left), bound(right)))


def _compare_time(symbol: str, instant: ColumnElement[Any], microseconds: int) -> Operand:
    """Compare the column itself, so that its index serves; beyond the calendar all instants compare alike."""
    if not FIRST <= microseconds <= LAST:
        return Const(COMPARISONS[symbol](0, microseconds))
    bound_instant = literal(EPOCH + microseconds * MICROSECOND, UtcTime())
    return Cell(COMPARISONS[symbol](instant, bound_instant))


def _compare_bools(symbol: str, left: Operand, right: Operand) -> Operand:
    """Order is logic: false comes before true."""
    if symbol in {"==", "!="}:
        if isinstance(right, Const):
            return left if right.value is (symbol == "==") else negated(left)
        sides = Grouping(condition(left)), Grouping(condition(right))
        return Cell(
            BinaryExpression(
                *sides, operators.eq if symbol == "==" else operators.ne, type_=Boolean()
            )
        )
    less = symbol in {"<", "<="}
    low, high = (left, right) if less else (right, left)
    return joined("&&" if symbol in {"<", ">"} else "||", [negated(low), high])


def _is_in(type_: Type, element: Operand, container: Operand) -> Operand:
    if isinstance(container, Words):
        return _held(container.kind, element)
    if not isinstance(container, Const | Items):
        raise Refusal("only list fields and lists written out are looked into")
    items = items_of(container)
    constants = [item for item in items if isinstance(item, Const)]
    rest = [item for item in items if not isinstance(item, Const)]
    if isinstance(element, Const) or type_ == BOOL:
        return joined("||", [compare("==", type_, element, item) for item in items])
    parts = [compare("==", type_, element, item) for item in rest]
    if constants:
        parts.append(Cell(bound(element).in_([bound(constant) for constant in constants])))
    return joined("||", parts)


def _held(kind: str, element: Operand) -> Operand:
    """Ask for a word: one known beforehand finds its sets by index."""
    words = finding_set_word.alias()
    if isinstance(element, Const):
        sets = select(words.c.finding_set).where(
            words.c.kind == kind, words.c.word == bound(element)
        )
        return Cell(decision.c.finding_set.in_(sets.correlate_except(words)))
    return Cell(any_word(words, kind, words.c.word == bound(element)))


def any_word(words: Any, kind: str, holds: ColumnElement[bool]) -> ColumnElement[bool]:  # noqa: ANN401 - an alias
    """Whether a word of the decision's own set is such."""
    own = (words.c.finding_set == decision.c.finding_set, words.c.kind == kind)
    return exists(select(words.c.word).where(*own, holds).correlate_except(words))


def count_words(words: Any, kind: str, *holds: ColumnElement[bool]) -> ColumnElement[int]:  # noqa: ANN401 - an alias
    """How many words of the decision's own set are such."""
    own = (words.c.finding_set == decision.c.finding_set, words.c.kind == kind)
    return (
        select(func.count())
        .select_from(words)
        .where(*own, *holds)
        .correlate_except(words)
        .scalar_subquery()
    )


def _size(_type: Type, operand: Operand) -> Operand:
    if isinstance(operand, Words):
        return Cell(count_words(finding_set_word.alias(), operand.kind))
    if isinstance(operand, Items):
        return Const(len(operand.items))
    return Cell(_length(bound(operand)))


def _length(text: ColumnElement[Any]) -> ColumnElement[int]:
    return func.length(text, type_=Integer())


def _starts_with(_type: Type, text: Operand, part: Operand) -> Operand:
    """A known beginning of a column is a range of texts, which an index serves; else the first place found is told."""
    if part == Const(""):
        return Const(value=True)
    whole, start = bound(text), bound(part)
    if not isinstance(part, Const) or not isinstance(whole, Column):
        return Cell(Position(whole, start) == literal(1, Integer()))
    ranges = [Cell(whole >= start)]
    end = after(part.value)
    if end is not None:
        ranges.append(Cell(whole < bound(Const(end))))
    return joined("&&", ranges)


def after(prefix: str) -> str | None:
    """Give the least text greater than all that begin with the prefix."""
    stem = prefix.rstrip(LAST_CHARACTER)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(SURROGATES.stop if following in SURROGATES else following)


def _ends_with(_type: Type, text: Operand, part: Operand) -> Operand:
    """Cut as many characters from the end; where there are fewer, what is cut is shorter, so not equal."""
    end = bound(part)
    size = literal(len(part.value), Integer()) if isinstance(part, Const) else _length(end)
    return Cell(Ending(bound(text), size) == end)


def _contains(_type: Type, text: Operand, part: Operand) -> Operand:
    return Cell(Position(bound(text), bound(part)) > literal(0, Integer()))


RULES: Final[Mapping[str, Callable[..., Operand]]] = {
    "in": _is_in,
    "size": _size,
    "startsWith": _starts_with,
    "endsWith": _ends_with,
    "contains": _contains,
}
OF_TENANT: Final = frozenset([*COMPARISONS, "in", "startsWith", "endsWith", "contains"])
WHOLE_LISTS: Final = "list fields are asked with in, size, exists and all only"
REFUSED: Final = {
    **dict.fromkeys(["deep ==", "deep !=", "deep in", "list []", "list +"], WHOLE_LISTS),
    **{f"int {sign}": f"a filter calculates with constants only, not with fields: {sign}" for sign in "+-*/%"},
    "int -_": "a filter calculates with constants only, not with fields: -",
    "string +": "a filter joins constants only, not fields",
    **{f"{to}({of})": f"a filter converts constants only, not fields: {to}({of})" for to, of in (
        ("double", "int"), ("string", "int"), ("string", "bool"), ("string", "string"), ("int", "double"),
    )},
}  # fmt: skip
