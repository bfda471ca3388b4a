"""The strict operators and standard functions of CEL on Python values."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from assay.engine.cel.tokens import INT_MAX, INT_MIN

LARGEST = 100_000
"""The longest string or list that joining may make, so that no expression fills the memory."""


def _int(value: int) -> int:
    if INT_MIN <= value <= INT_MAX:
        return value
    raise ArithmeticError("integer overflow")


def _divide_int(left: int, right: int) -> int:
    """Divide, rounding towards zero."""
    if right == 0:
        raise ArithmeticError("division by zero")
    quotient = abs(left) // abs(right)
    return _int(quotient if (left < 0) == (right < 0) else -quotient)


def _modulo_int(left: int, right: int) -> int:
    """Return the remainder, with the sign of the dividend."""
    if right == 0:
        raise ArithmeticError("modulus by zero")
    if left == INT_MIN and right == -1:
        raise ArithmeticError("integer overflow")
    remainder = abs(left) % abs(right)
    return -remainder if left < 0 else remainder


def _divide_double(left: float, right: float) -> float:
    """Divide as IEEE 754 does: by zero gives an infinity or NaN."""
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _join_strings(left: str, right: str) -> str:
    if len(left) + len(right) > LARGEST:
        raise ArithmeticError(f"a string of more than {LARGEST} characters")
    return left + right


def _join_lists(left: Iterable[object], right: Iterable[object]) -> list[object]:
    joined = [*left, *right]
    if len(joined) > LARGEST:
        raise ArithmeticError(f"a list of more than {LARGEST} elements")
    return joined


def _same(left: object, right: object) -> bool:
    """Compare deeply; unlike Python's, NaN within lists and maps differs from itself."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return len(left) == len(right) and all(
            k in right and _same(v, right[k]) for k, v in left.items()
        )
    if isinstance(left, set | frozenset) or isinstance(right, set | frozenset):
        raise TypeError("a list given as a set has no order to compare")
    return left == right


def _at(elements: Sequence[object], index: int) -> object:
    if 0 <= index < len(elements):
        return elements[index]
    raise LookupError(f"index {index} is outside a list of {len(elements)}")


def _entry(mapping: Mapping[object, object], key: object) -> object:
    if key in mapping:
        return mapping[key]
    raise LookupError(f"no such key: {key!r}")


def map_of(*parts: object) -> dict[object, object]:
    """Build a map from alternating keys and values; a key may occur once."""
    result = dict(zip(parts[::2], parts[1::2], strict=True))
    if 2 * len(result) != len(parts):
        raise LookupError("a key occurs twice in a map")
    return result


def _int_of_double(value: float) -> int:
    if not INT_MIN < value < INT_MAX:
        raise ArithmeticError("double outside the range of int")
    return int(value)


def _string_of_double(value: float) -> str:
    """Return the shortest digits that parse back to the value, laid out as in Google's C++ CEL."""
    if not math.isfinite(value):
        return str(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    figures = "".join(map(str, digits))
    point = len(figures) + int(exponent) - 1
    minus = "-" if sign else ""
    if value == 0:
        return f"{minus}0"
    if -4 <= point < 6:  # noqa: PLR2004 - where %g turns to an exponent
        return minus + format(Decimal((0, digits, int(exponent))), "f")
    fraction = f".{figures[1:]}" if len(figures) > 1 else ""
    return f"{minus}{figures[0]}{fraction}e{point:+03d}"


OPERATIONS: Mapping[str, Callable[..., object]] = {
    "int +": lambda left, right: _int(left + right),
    "int -": lambda left, right: _int(left - right),
    "int *": lambda left, right: _int(left * right),
    "int /": _divide_int,
    "int %": _modulo_int,
    "int -_": lambda value: _int(-value),
    "double +": operator.add,
    "double -": operator.sub,
    "double *": operator.mul,
    "double /": _divide_double,
    "double -_": operator.neg,
    "string +": _join_strings,
    "list +": _join_lists,
    "==": operator.eq,
    "!=": operator.ne,
    "deep ==": _same,
    "deep !=": lambda left, right: not _same(left, right),
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda element, elements: element in elements,
    "deep in": lambda element, elements: any(_same(element, each) for each in elements),
    "list []": _at,
    "map []": _entry,
    "map has": operator.contains,
    "map": map_of,
    "size": len,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": operator.contains,
    "int(double)": _int_of_double,
    "double(int)": float,
    "string(int)": str,
    "string(double)": _string_of_double,
    "string(bool)": lambda value: "true" if value else "false",
}
