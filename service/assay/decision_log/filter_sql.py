"""The fields that filters may name, and the SQL of each CEL operation on them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from sqlalchemy import (
    BigInteger,
    BinaryExpression,
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Select,
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

from assay.decision_log.decision_row import ROW_COLUMNS, WORD_KINDS
from assay.decision_log.tables import decision, finding_set_word
from assay.engine.cel.operations import OPERATIONS
from assay.engine.cel.schema import BOOL, INT, STRING, Fact, Schema, Type, list_of
from assay.engine.world.clock import EPOCH
from assay.store.tables import tenant_pseudonym
from assay.store.types import MICROSECOND, NAME, UtcTime

ROOT: Final = "decision"
TENANT: Final = "tenant"
TIME: Final = "time_us"
WORD_LIST: Final = list_of(STRING)


@dataclass(frozen=True, slots=True)
class FilterField:
    """A field of a filter; `stored_as` is a column of `decision` or a kind of WORD_KINDS."""

    name: str
    type: Type
    description: str
    stored_as: str

    @property
    def path(self) -> str:
        """The field as filters write it."""
        return f"{ROOT}.{self.name}"


def _filter_fields() -> tuple[FilterField, ...]:
    found: list[FilterField] = []
    for name, column in ROW_COLUMNS.items():
        if column.description:
            type_ = STRING if column.sql_type is NAME else INT
            found.append(FilterField(column.filter_name or name, type_, column.description, name))
    for kind, description in WORD_KINDS.items():
        found.append(FilterField(f"{kind}s", WORD_LIST, description, kind))
    return tuple(found)


FIELDS: Final = _filter_fields()
SCHEMA: Final = Schema(roots={ROOT: {field.name: Fact(field.type) for field in FIELDS}})


class UntranslatableError(Exception):
    """An operation that no query can express; the translator adds its place."""


class _Spelled(FunctionElement[Any]):
    """A function that the two databases spell differently; `{0}` is its first argument."""

    inherit_cache = True
    spellings: ClassVar[Mapping[str, str]]


class _Position(_Spelled):
    """Where the second text begins in the first, from 1; 0 if it does not occur."""

    inherit_cache = True
    type = Integer()
    spellings: ClassVar = {"sqlite": "instr({0}, {1})", "postgresql": "strpos({0}, {1})"}


class _Ending(_Spelled):
    """The last characters of a text, or all of a shorter one."""

    inherit_cache = True
    type = NAME
    spellings: ClassVar = {"sqlite": "substr({0}, -{1}, {1})", "postgresql": "right({0}, {1})"}


class _Microseconds(_Spelled):
    """An instant as microseconds since 1970."""

    inherit_cache = True
    type = BigInteger()
    spellings: ClassVar = {
        "sqlite": "{0}",
        "postgresql": "CAST(EXTRACT(EPOCH FROM {0}) * 1000000 AS BIGINT)",
    }


@compiles(_Spelled)
def _spell(
    element: _Spelled,
    compiler: SQLCompiler,
    **how: Any,  # noqa: ANN401 - SQLAlchemy passes anything
) -> str:
    arguments = (compiler.process(part, **how) for part in element.clauses)
    return element.spellings[compiler.dialect.name].format(*arguments)


@dataclass(frozen=True, slots=True)
class SqlConstant:
    """A value that is the same for every row."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class RowValue:
    """A value that differs from row to row: a condition, an int or a text."""

    expression: ColumnElement[Any]
    field: str = ""


@dataclass(frozen=True, slots=True)
class WordList:
    """A list field, by the kind of its words."""

    kind: str


@dataclass(frozen=True, slots=True)
class ItemList:
    """A list literal with items that are not all constant."""

    items: tuple[Operand, ...]


Operand = SqlConstant | RowValue | WordList | ItemList


def items_of(operand: Operand) -> tuple[Operand, ...]:
    """Return the items of a list, or the keys of a map."""
    if isinstance(operand, ItemList):
        return operand.items
    if isinstance(operand, SqlConstant):
        return tuple(map(SqlConstant, operand.value))
    raise UntranslatableError("in needs a list field or a list literal")


def list_operand(items: Sequence[Operand]) -> Operand:
    """Return the list of the items, as a constant if all of them are."""
    values = [item.value for item in items if isinstance(item, SqlConstant)]
    return SqlConstant(values) if len(values) == len(items) else ItemList(tuple(items))


def to_sql(operand: Operand) -> ColumnElement[Any]:
    """Return an int or text as SQL; constants always become bound parameters."""
    if isinstance(operand, RowValue):
        read = _STORED_OTHERWISE.get(operand.field)
        return operand.expression if read is None else read(operand.expression)
    value = operand.value if isinstance(operand, SqlConstant) else None
    if isinstance(value, str):
        if "\0" in value:
            raise UntranslatableError("no field holds the character NUL")
        return literal(value, NAME)  # its collation compares code points, as the columns do
    if isinstance(value, int) and not isinstance(value, bool):
        return literal(value, BigInteger())
    raise UntranslatableError("fields are compared with bools, ints and strings only")


def _tenant_name(pseudonym: ColumnElement[Any]) -> ColumnElement[Any]:
    names = tenant_pseudonym.alias()
    name = select(names.c.tenant).where(names.c.pseudonym == pseudonym).correlate_except(names)
    return func.coalesce(name.scalar_subquery(), literal("", NAME), type_=NAME)


_STORED_OTHERWISE: Final[Mapping[str, Any]] = {TIME: _Microseconds, TENANT: _tenant_name}
"""Fields that are stored in another form than filters read."""

TENANT_VALUE: Final = RowValue(decision.c.tenant, TENANT)


def condition(operand: Operand) -> ColumnElement[bool]:
    """Return a bool as SQL."""
    if isinstance(operand, SqlConstant):
        return true() if operand.value else false()
    if isinstance(operand, RowValue):
        return operand.expression
    raise UntranslatableError("a condition is needed here")


def negate(operand: Operand) -> Operand:
    """Return the negation of a bool."""
    if isinstance(operand, SqlConstant):
        return SqlConstant(not operand.value)
    return RowValue(not_(condition(operand)))


def combine(symbol: str, parts: Sequence[Operand]) -> Operand:
    """Combine bools by `&&` or `||`, with constants evaluated."""
    decisive = symbol == "||"
    if any(isinstance(part, SqlConstant) and part.value is decisive for part in parts):
        return SqlConstant(decisive)
    translated = [condition(part) for part in parts if not isinstance(part, SqlConstant)]
    if not translated:
        return SqlConstant(not decisive)
    return RowValue(or_(*translated) if decisive else and_(*translated))


_Symbols = Mapping[str, Callable[[Any, Any], Any]]

_COMPARISONS: Final[_Symbols] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_FIRST_TIME: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
_LAST_TIME: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
_SURROGATES: Final = range(0xD800, 0xE000)
_LAST_CHARACTER: Final = "\U0010ffff"


def operate(name: str, type_: Type, operands: tuple[Operand, ...]) -> Operand:
    """Translate an operation on operands of which the first is of `type_`; not all are constant."""
    if name in _ON_TENANT and any(isinstance(o, RowValue) and o.field == TENANT for o in operands):
        others = [o for o in operands if isinstance(o, SqlConstant)]
        if len(others) == len(operands) - 1:
            return _of_tenant(name, type_, operands)
    if name in _COMPARISONS:
        return _compare(name, type_, *operands)
    rule = _OPERATIONS_ON_FIELDS.get(name)
    if rule is None:
        raise UntranslatableError(_REJECTED.get(name, f"{_ARITHMETIC}: {name}"))
    return rule(type_, *operands)


def _of_tenant(name: str, type_: Type, operands: tuple[Operand, ...]) -> Operand:
    """Compare the names of tenants; a pseudonym without a name has the empty name."""
    names = tenant_pseudonym.alias()
    translated = operate(
        name,
        type_,
        tuple(RowValue(names.c.tenant) if isinstance(o, RowValue) else o for o in operands),
    )
    if isinstance(translated, SqlConstant):
        return translated
    holds_for_no_name = OPERATIONS[name](
        *(o.value if isinstance(o, SqlConstant) else "" for o in operands)
    )
    wanted = not_(condition(translated)) if holds_for_no_name else condition(translated)
    pseudonyms = select(names.c.pseudonym).where(wanted).correlate_except(names)
    tenant = decision.c.tenant
    return RowValue(tenant.not_in(pseudonyms) if holds_for_no_name else tenant.in_(pseudonyms))


def _compare(symbol: str, type_: Type, left: Operand, right: Operand) -> Operand:
    """Compare two bools, ints or texts."""
    if isinstance(left, SqlConstant) and isinstance(right, SqlConstant):
        return SqlConstant(OPERATIONS[symbol](left.value, right.value))
    if isinstance(left, SqlConstant):
        symbol, left, right = _MIRRORED[symbol], right, left
    if type_ == BOOL:
        return _compare_bools(symbol, left, right)
    if isinstance(left, RowValue) and left.field == TIME and isinstance(right, SqlConstant):
        return _compare_time(symbol, left.expression, right.value)
    return RowValue(_COMPARISONS[symbol](to_sql(left), to_sql(right)))


def _compare_time(symbol: str, instant: ColumnElement[Any], microseconds: int) -> Operand:
    """Compare the column itself, so that its index is used; out of range the result is constant."""
    if not _FIRST_TIME <= microseconds <= _LAST_TIME:
        return SqlConstant(_COMPARISONS[symbol](0, microseconds))
    instant_sql = literal(EPOCH + microseconds * MICROSECOND, UtcTime())
    return RowValue(_COMPARISONS[symbol](instant, instant_sql))


def _compare_bools(symbol: str, left: Operand, right: Operand) -> Operand:
    """Compare bools by logic: false is less than true."""
    if symbol in {"==", "!="}:
        if isinstance(right, SqlConstant):
            return left if right.value is (symbol == "==") else negate(left)
        sides = Grouping(condition(left)), Grouping(condition(right))
        return RowValue(
            BinaryExpression(
                *sides, operators.eq if symbol == "==" else operators.ne, type_=Boolean()
            )
        )
    less = symbol in {"<", "<="}
    low, high = (left, right) if less else (right, left)
    return combine("&&" if symbol in {"<", ">"} else "||", [negate(low), high])


def _is_in(type_: Type, element: Operand, container: Operand) -> Operand:
    if isinstance(container, WordList):
        words, per_row = finding_set_word.alias(), not isinstance(element, SqlConstant)
        holds = words.c.word == to_sql(element)
        return RowValue(has_word(words, container.kind, holds, per_row=per_row))
    items = items_of(container)
    if isinstance(element, SqlConstant) or type_ == BOOL:
        return combine("||", [_compare("==", type_, element, item) for item in items])
    rest = [item for item in items if not isinstance(item, SqlConstant)]
    parts = [_compare("==", type_, element, item) for item in rest]
    constants = [to_sql(item) for item in items if isinstance(item, SqlConstant)]
    if constants:
        parts.append(RowValue(to_sql(element).in_(constants)))
    return combine("||", parts)


def has_word(
    words: FromClause, kind: str, holds: ColumnElement[bool], *, per_row: bool
) -> ColumnElement[bool]:
    """Return whether the condition holds for a word of the decision.

    Unless it must be evaluated `per_row`, an index finds the sets that have such a word once.
    """
    if per_row:
        return exists(_own_words(words, words.c.word, kind, holds))
    sets = select(words.c.finding_set).where(words.c.kind == kind, holds).correlate_except(words)
    return decision.c.finding_set.in_(sets)


def count_words(words: FromClause, kind: str, *holds: ColumnElement[bool]) -> ColumnElement[int]:
    """Return for how many words of the decision the conditions hold."""
    return _own_words(words, func.count(), kind, *holds).scalar_subquery()


def _own_words(
    words: FromClause, what: ColumnElement[Any], kind: str, *holds: ColumnElement[bool]
) -> Select[Any]:
    own = (words.c.finding_set == decision.c.finding_set, words.c.kind == kind)
    return select(what).select_from(words).where(*own, *holds).correlate_except(words)


def _size(_type: Type, operand: Operand) -> Operand:
    if isinstance(operand, WordList):
        return RowValue(count_words(finding_set_word.alias(), operand.kind))
    if isinstance(operand, ItemList):
        return SqlConstant(len(operand.items))
    return RowValue(_length(to_sql(operand)))


def _length(text: ColumnElement[Any]) -> ColumnElement[int]:
    return func.length(text, type_=Integer())


def _starts_with(_type: Type, text: Operand, part: Operand) -> Operand:
    """Test a constant prefix as a range, which an index serves; otherwise by position."""
    if part == SqlConstant(""):
        return SqlConstant(value=True)
    whole, start = to_sql(text), to_sql(part)
    if not isinstance(part, SqlConstant) or not isinstance(whole, Column):
        return RowValue(_Position(whole, start) == literal(1, Integer()))
    ranges = [RowValue(whole >= start)]
    end = text_after_prefix(part.value)
    if end is not None:
        ranges.append(RowValue(whole < to_sql(SqlConstant(end))))
    return combine("&&", ranges)


def text_after_prefix(prefix: str) -> str | None:
    """Return the least text that is greater than all texts with this prefix."""
    stem = prefix.rstrip(_LAST_CHARACTER)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)


def _ends_with(_type: Type, text: Operand, part: Operand) -> Operand:
    """Compare as many characters from the end; a shorter text is never equal."""
    end = to_sql(part)
    size = literal(len(part.value), Integer()) if isinstance(part, SqlConstant) else _length(end)
    return RowValue(_Ending(to_sql(text), size) == end)


def _contains(_type: Type, text: Operand, part: Operand) -> Operand:
    return RowValue(_Position(to_sql(text), to_sql(part)) > literal(0, Integer()))


_OPERATIONS_ON_FIELDS: Final[Mapping[str, Callable[..., Operand]]] = {
    "in": _is_in,
    "size": _size,
    "startsWith": _starts_with,
    "endsWith": _ends_with,
    "contains": _contains,
}
_ON_TENANT: Final = frozenset([*_COMPARISONS, "in", "startsWith", "endsWith", "contains"])
_ARITHMETIC: Final = "arithmetic works on constants only, not on fields"
_CONVERSION: Final = "conversion works on constants only, not on fields"
_CONVERSIONS: Final = (
    "double(int)",
    "string(int)",
    "string(bool)",
    "string(string)",
    "int(double)",
)
_REJECTED: Final = {
    **dict.fromkeys(
        ["deep ==", "deep !=", "deep in", "list []", "list +"],
        "list fields support in, size, exists and all only",
    ),
    **{f"int {sign}": f"{_ARITHMETIC}: {sign}" for sign in "+-*/%"},
    "int -_": f"{_ARITHMETIC}: -",
    "string +": "concatenation works on constants only, not on fields",
    **{name: f"{_CONVERSION}: {name}" for name in _CONVERSIONS},
}
