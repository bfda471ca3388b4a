"""Auditors' filters: CEL over the fields of a decision, evaluated by the database or on a row.

Every accepted filter is true or false for every row: operations that could fail, such as arithmetic
on fields, are rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement

from assay.decision_log.decision_row import WORD_KINDS, DerivedDecision
from assay.decision_log.filter_conditions import FilterTranslator, TooComplex
from assay.decision_log.filter_sql import FIELDS, ROOT, SCHEMA, TENANT, TIME, condition
from assay.engine.cel.check import CheckedExpression, check
from assay.engine.cel.exact_evaluator import evaluate
from assay.engine.cel.faults import ExpressionFault, ExpressionFaults
from assay.engine.cel.schema import BOOL
from assay.engine.errors import CallerError
from assay.engine.policy.faults import Fault
from assay.engine.policy.rule_set import Place
from assay.engine.world.clock import EPOCH
from assay.store.types import MICROSECOND

FILE: Final = "filter"
"""The file name in the place of a fault."""

_MAX_FAULTS_SHOWN: Final = 10


class InvalidFilter(CallerError):
    """A filter with faults; `faults` lists all of them, for `rule_files.render` under FILE."""

    def __init__(self, text: str, faults: Iterable[ExpressionFault]) -> None:
        self.text = text
        self.faults = tuple(Fault(Place(FILE, f.line, f.column), f.message) for f in sorted(faults))
        shown = "; ".join(map(str, self.faults[:_MAX_FAULTS_SHOWN]))
        more = len(self.faults) - _MAX_FAULTS_SHOWN
        super().__init__(f"{shown} (and {more} more)" if more > 0 else shown)


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """A valid filter; in `condition`, on the table `decision`, every constant is a parameter."""

    checked: CheckedExpression
    condition: ColumnElement[bool]

    @property
    def text(self) -> str:
        """The filter as written."""
        return self.checked.text


def read_filter(text: str) -> Filter:
    """Parse and translate a filter; raise InvalidFilter with every fault."""
    try:
        checked = check(text, SCHEMA, expected=BOOL)
    except ExpressionFaults as error:
        raise InvalidFilter(text, error.faults) from error
    translator = FilterTranslator()
    try:
        translated = translator.translate(checked.tree)
    except TooComplex as error:
        raise InvalidFilter(text, translator.faults | {error.fault}) from error
    if translator.faults:
        raise InvalidFilter(text, translator.faults)
    return Filter(checked, condition(translated))


def filter_row(row: DerivedDecision, tenants: Mapping[str, str]) -> dict[str, object]:
    """Return a decision as filters see it; `tenants` maps pseudonyms to the names of tenants."""
    values: dict[str, object] = {}
    for field in FIELDS:
        is_words = field.stored_as in WORD_KINDS
        values[field.name] = (
            row.words.get(field.stored_as, ()) if is_words else getattr(row, field.stored_as)
        )
    values[TIME] = (row.decided_at - EPOCH) // MICROSECOND
    values[TENANT] = tenants.get(row.tenant, "")
    return values


def matches(filter_: Filter, row: Mapping[str, object]) -> bool:
    """Return whether a filter holds for a row of `filter_row`."""
    result = evaluate(filter_.checked, {ROOT: row})
    if not isinstance(result, bool):
        raise TypeError(f"expected a row with every field, got {result}")
    return result
