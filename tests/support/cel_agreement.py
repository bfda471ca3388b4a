"""When two engines' outcomes agree: the same kind, the same value, NaN like NaN, one error like another."""

from __future__ import annotations

import math
from typing import Any

from assay.engine.cel.values import Absent, Failure


def is_error(value: Any) -> bool:
    return isinstance(value, Absent | Failure)


def same_value(left: Any, right: Any) -> bool:
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same_value, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_value(v, right[k]) for k, v in left.items())
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and (math.isnan(left) or math.isnan(right)):
        return math.isnan(left) and math.isnan(right)
    return bool(left == right)
