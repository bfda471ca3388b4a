"""Faults of rule files, each with its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assay.engine.errors import AuthorError
from assay.engine.policy.rule_set import Place


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault for the author to fix, with its place."""

    place: Place
    message: str

    def __str__(self) -> str:
        """Return `file:line:column: message`, which editors and terminals can jump to."""
        return f"{self.place.file}:{self.place.line}:{self.place.column}: {self.message}"


class PolicyFaults(AuthorError):
    """Rule files have faults; `faults` holds each of them once, ordered by place."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        first, *more = map(str, self.faults)
        super().__init__(f"{first} (and {len(more)} more)" if more else first)
