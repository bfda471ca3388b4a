"""What each CEL operation becomes in SQL where an operand differs from row to row."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import BinaryExpression, Boolean, Column, ColumnElement, Integer, exists, func, literal, not_, select
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import Grouping

from assay.audit.filter_fields import TENANT, TIME
from assay.audit.filter_sql import (
    Cell,
    Const,
    Ending,
    Items,
    Operand,
    Position,
    Refusal,
    Words,
    bound,
    condition,
    items_of,
    joined,
    negated,
)
from assay.engine.cel.operations import OPERATIONS
from assay.engine.cel.schema import BOOL, Type
from assay.store.audit_tables import decision, finding_set_word, tenant_pseudonym
from assay.store.types import EPOCH, MICROSECOND, UtcTime

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
        raise Refusal(REFUSED.get(name, f"a filter calculates with constants only, not with fields: {name}"))
    return rule(type_, *operands)


def _of_tenant(name: str, type_: Type, operands: tuple[Operand, ...]) -> Operand:
    """Ask the names, and take their pseudonyms; what has no name there is the empty one."""
    names = tenant_pseudonym.alias()
    asked = operate(name, type_, tuple(Cell(names.c.tenant) if isinstance(o, Cell) else o for o in operands))
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
        return Cell(BinaryExpression(*sides, operators.eq if symbol == "==" else operators.ne, type_=Boolean()))
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
        sets = select(words.c.finding_set).where(words.c.kind == kind, words.c.word == bound(element))
        return Cell(decision.c.finding_set.in_(sets.correlate_except(words)))
    return Cell(any_word(words, kind, words.c.word == bound(element)))


def any_word(words: Any, kind: str, holds: ColumnElement[bool]) -> ColumnElement[bool]:  # noqa: ANN401 - an alias
    """Whether a word of the decision's own set is such."""
    own = (words.c.finding_set == decision.c.finding_set, words.c.kind == kind)
    return exists(select(words.c.word).where(*own, holds).correlate_except(words))


def count_words(words: Any, kind: str, *holds: ColumnElement[bool]) -> ColumnElement[int]:  # noqa: ANN401 - an alias
    """How many words of the decision's own set are such."""
    own = (words.c.finding_set == decision.c.finding_set, words.c.kind == kind)
    return select(func.count()).select_from(words).where(*own, *holds).correlate_except(words).scalar_subquery()


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
