"""Auditors' filters: CEL over named fields of a decision, asked of the database and, the same tree, of a row in Python.

Every filter that is accepted comes to true or false for every row: what could fail (arithmetic on fields) is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement

from assay.decision_log.filter_conditions import Walker
from assay.decision_log.filter_fields import FIELDS, ROOT, SCHEMA, Field
from assay.decision_log.filter_limits import TooComplex
from assay.decision_log.filter_sql import condition
from assay.engine.cel.check import Checked, check
from assay.engine.cel.exact_evaluator import evaluate
from assay.engine.cel.faults import ExpressionFaults, Fault as ExpressionFault
from assay.engine.cel.schema import BOOL
from assay.engine.errors import CallerError
from assay.engine.policy.faults import Fault
from assay.engine.policy.rule_set import Place

FILE: Final = "filter"
"""What stands for the file in a fault's place."""

TOLD: Final = 10


class InvalidFilter(CallerError):
    """A filter that cannot be asked; `faults` holds all that is wrong with it, for `rule_files.render` under FILE."""

    def __init__(self, text: str, faults: Iterable[ExpressionFault]) -> None:
        self.text = text
        self.faults = tuple(Fault(Place(FILE, f.line, f.column), f.message) for f in sorted(faults))
        told = "; ".join(map(str, self.faults[:TOLD]))
        more = len(self.faults) - TOLD
        super().__init__(f"{told} (and {more} more)" if more > 0 else told)


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """A filter that can be asked, as written, as checked and as a condition on the `decision` table."""

    checked: Checked
    condition: ColumnElement[bool]

    @property
    def text(self) -> str:
        """The filter as written."""
        return self.checked.text


def read_filter(text: str) -> Filter:
    """Read a filter; raise InvalidFilter with everything that is wrong with it."""
    try:
        checked = check(text, SCHEMA, expected=BOOL)
    except ExpressionFaults as error:
        raise InvalidFilter(text, error.faults) from error
    walker = Walker()
    try:
        asked = walker.give(checked.tree)
    except TooComplex as error:
        raise InvalidFilter(text, walker.faults | {error.fault}) from error
    if walker.faults:
        raise InvalidFilter(text, walker.faults)
    return Filter(checked, condition(asked))


def where(filter_: Filter) -> ColumnElement[bool]:
    """Give the filter as a condition on `decision`; every constant in it is a bound parameter."""
    return filter_.condition


def matches(filter_: Filter, row: Mapping[str, object]) -> bool:
    """Tell whether a row is meant; it holds every field by its name, as `filter_fields.row_of` gives them."""
    outcome = evaluate(filter_.checked, {ROOT: row})
    if not isinstance(outcome, bool):
        raise TypeError(f"a row that is none: {outcome}")
    return outcome


def fields() -> tuple[Field, ...]:
    """Every field that a filter may name, in the order of the documentation."""
    return FIELDS
