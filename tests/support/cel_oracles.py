"""Two other CEL engines, Google's in C++ and cel-python's interpreter, on plain Python values."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import celpy
import pytest
from celpy import celtypes
from celpy.evaluation import CELEvalError

from assay.engine.cel.values import Absent, Failure

ERROR = "error"
"""What an oracle's error becomes; no expression of ours gives this object."""


class CppOracle:
    """C++ CEL; facts are declared as maps of dynamic values, so an absent fact is a missing key."""

    def __init__(self) -> None:
        cel = pytest.importorskip(
            "cel_expr_python.cel", reason="Google's C++ CEL has wheels for Linux only"
        )
        self.error = cel.Type.ERROR
        facts = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
        self.environment = cel.NewEnv(variables={"endpoint": facts, "request": facts})

    def compile(self, text: str) -> Any:
        # Its checker infers a type for dynamic facts and so rejects some valid expressions. The
        # evaluator, which we compare with, does not need the checker.
        with contextlib.suppress(RuntimeError):
            return self.environment.compile(text)
        return self.environment.compile(text, disable_check=True)

    def evaluate(self, program: Any, data: dict[str, Any]) -> Any:
        value = program.eval(data=data)
        return ERROR if value.type() == self.error else value.plain_value()


class CelpyOracle:
    """cel-python's InterpretedRunner."""

    def __init__(self) -> None:
        self.environment = celpy.Environment(runner_class=celpy.InterpretedRunner)

    def compile(self, text: str) -> Any:
        return self.environment.program(self.environment.compile(text))

    @staticmethod
    def evaluate(program: Any, data: dict[str, Any]) -> Any:
        try:
            return _plain(program.evaluate({root: _cel(facts) for root, facts in data.items()}))
        except CELEvalError:
            return ERROR


def _cel(value: Any) -> Any:
    if isinstance(value, list):
        return celtypes.ListType([_cel(each) for each in value])
    if isinstance(value, dict):
        return celtypes.MapType(
            {celtypes.StringType(key): _cel(each) for key, each in value.items()}
        )
    types = {
        bool: celtypes.BoolType,
        int: celtypes.IntType,
        float: celtypes.DoubleType,
        str: celtypes.StringType,
    }
    return types[type(value)](value)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    plain = {
        celtypes.BoolType: bool,
        celtypes.IntType: int,
        celtypes.DoubleType: float,
        celtypes.StringType: str,
    }
    convert = plain.get(type(value))
    return value if convert is None else convert(value)


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
