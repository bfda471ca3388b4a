"""Outcomes of an expression without a value: absent, failed, or not asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Absent:
    """A fact that the expression needed is missing."""

    path: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The expression failed: overflow, division by zero, index out of range, invalid argument."""

    message: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class NotAsked:
    """The rule's own `when` is false for this row."""


NOT_ASKED = NotAsked()

Outcome = bool | str | Absent | Failure | NotAsked
"""A str means false, with the rule's message for the row."""
