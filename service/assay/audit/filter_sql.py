"""Operands of a filter on their way to SQL, and the few expressions that each database spells its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    and_,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from assay.audit.filter_fields import TENANT, TIME
from assay.store.audit_tables import decision, tenant_pseudonym
from assay.store.types import NAME


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
        return SPECIAL[operand.field](operand.expression) if operand.field in SPECIAL else operand.expression
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
    return Const(not operand.value) if isinstance(operand, Const) else Cell(not_(condition(operand)))


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
