"""What is wrong with an expression, each fault at its place in the text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assay.engine.errors import AuthorError


@dataclass(frozen=True, slots=True, order=True)
class ExpressionFault:
    """One thing to mend; line and column count from 1 within the expression's text."""

    line: int
    column: int
    message: str


class ExpressionFaults(AuthorError):
    """An expression that cannot be used, with everything that is wrong with it."""

    def __init__(self, text: str, faults: Iterable[ExpressionFault]) -> None:
        self.text = text
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{f.line}:{f.column}: {f.message}" for f in self.faults))


def locate(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a character of `text`."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


class FaultList:
    """Faults of one text as they are found."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: set[ExpressionFault] = set()

    def add(self, offset: int, message: str) -> None:
        """Note a fault at an offset of the text."""
        self.found.add(ExpressionFault(*locate(self.text, offset), message))

    def stop(self, offset: int, message: str) -> ExpressionFaults:
        """Note a fault after which looking further makes no sense, and give what is to be raised."""
        self.add(offset, message)
        return self.error()

    def error(self) -> ExpressionFaults:
        """All faults, in the order of the text."""
        return ExpressionFaults(self.text, sorted(self.found))
