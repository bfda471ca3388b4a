"""The operand types, result type and operation of each operator and standard function."""

from __future__ import annotations

from collections.abc import Mapping

from assay.engine.cel.schema import BOOL, DOUBLE, INT, KEYS, NULL, ORDERED, STRING, Type, join

Resolved = tuple[Type, str]
"""The type of the result and the name of the operation."""

_ARITHMETIC = {(symbol, INT): f"int {symbol}" for symbol in "+-*/%"}
_ARITHMETIC |= {(symbol, DOUBLE): f"double {symbol}" for symbol in "+-*/"}
_ARITHMETIC[("+", STRING)] = "string +"
_COMPARISONS = frozenset({"<", "<=", ">", ">="})

IDENTITY = ""
"""The operation of a conversion to the same type."""

FUNCTIONS: Mapping[str, Mapping[Type, Resolved]] = {
    "int": {INT: (INT, IDENTITY), DOUBLE: (INT, "int(double)")},
    "double": {DOUBLE: (DOUBLE, IDENTITY), INT: (DOUBLE, "double(int)")},
    "string": {
        STRING: (STRING, IDENTITY),
        INT: (STRING, "string(int)"),
        DOUBLE: (STRING, "string(double)"),
        BOOL: (STRING, "string(bool)"),
    },
    "bool": {BOOL: (BOOL, IDENTITY)},
}
"""Conversions, by the type of their argument."""

STRING_METHODS = frozenset({"startsWith", "endsWith", "contains"})

OUTSIDE = frozenset(
    [
        "uint",
        "bytes",
        "timestamp",
        "duration",
        "dyn",
        "type",
        "getFullYear",
        "getMonth",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
        "existsOne",
        "transformList",
        "transformMap",
        "transformMapEntry",
        "charAt",
        "indexOf",
        "lastIndexOf",
        "lowerAscii",
        "upperAscii",
        "replace",
        "split",
        "substring",
        "trim",
        "join",
        "quote",
        "format",
        "reverse",
        "orValue",
        "optMap",
        "optFlatMap",
        "hasValue",
        "value",
    ]
)
"""Functions of CEL and its extensions that are not in the portable subset."""


def unary(symbol: str, operand: Type) -> Resolved | None:
    """Resolve `-x`; `!x` is resolved by the checker."""
    known = {("-", INT): "int -_", ("-", DOUBLE): "double -_"}.get((symbol, operand))
    return None if known is None else (operand, known)


def binary(symbol: str, left: Type, right: Type) -> Resolved | None:
    """Resolve an operator with two operands; None if it does not take them."""
    if symbol in {"in", "[]"}:
        return _in(left, right) if symbol == "in" else _index(left, right)
    both = join(left, right)
    if both is None or both.name == "record":
        return None
    if symbol in {"==", "!="}:
        return BOOL, f"deep {symbol}" if both.parameters else symbol
    if symbol in _COMPARISONS:
        return (BOOL, symbol) if both in ORDERED else None
    known = "list +" if (symbol, both.name) == ("+", "list") else _ARITHMETIC.get((symbol, both))
    return None if known is None else (both, known)


def _in(element: Type, container: Type) -> Resolved | None:
    if container.name not in {"list", "map"}:
        return None
    both = join(element, container.parameters[0])
    if both is None:
        return None
    deep = container.name == "list" and (both == DOUBLE or bool(both.parameters))
    return BOOL, "deep in" if deep else "in"


def _index(container: Type, index: Type) -> Resolved | None:
    if container.name == "list":
        return (container.parameters[0], "list []") if join(index, INT) else None
    if container.name == "map" and join(index, container.parameters[0]):
        return container.parameters[1], "map []"
    return None


def operator_fault(symbol: str, left: Type, right: Type) -> str:
    """Return why `binary` returned None, with a hint if there is one."""
    if symbol == "in" and right.name not in {"list", "map"}:
        return f"in looks into a list or a map, not {right}"
    if symbol == "[]":
        return f"{left} cannot be indexed by {right}"
    message = f"{symbol} cannot take {left} and {right}"
    if NULL in {left, right} and left != right:
        return f"{message}: only null equals null, ask has(…) whether a fact is there"
    return message


def is_key(type_: Type) -> bool:
    """Return whether values of the type may be keys of a map."""
    return any(join(type_, key) for key in KEYS)
