"""Faults of an expression, each with its position in the text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assay.engine.errors import AuthorError


@dataclass(frozen=True, slots=True, order=True)
class ExpressionFault:
    """One fault; line and column count from 1 within the expression's text."""

    line: int
    column: int
    message: str


class ExpressionFaults(AuthorError):
    """An expression was rejected; `faults` holds all of its faults."""

    def __init__(self, text: str, faults: Iterable[ExpressionFault]) -> None:
        self.text = text
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{f.line}:{f.column}: {f.message}" for f in self.faults))


def locate(text: str, offset: int) -> tuple[int, int]:
    """Return the line and column, from 1, of a character of `text`."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


class FaultList:
    """Collects the faults of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: set[ExpressionFault] = set()

    def add(self, offset: int, message: str) -> None:
        """Add a fault at an offset of the text."""
        self.found.add(ExpressionFault(*locate(self.text, offset), message))

    def stop(self, offset: int, message: str) -> ExpressionFaults:
        """Add a fault that ends the check, and return the error to raise."""
        self.add(offset, message)
        return self.error()

    def error(self) -> ExpressionFaults:
        """Return the error with all faults, in the order of the text."""
        return ExpressionFaults(self.text, sorted(self.found))
