"""Auditors' filters: CEL over the fields of a decision, evaluated by the database.

Every accepted filter is true or false for every row: operations that could fail, such as arithmetic
on fields, are rejected.

How it works
------------
The translator walks the checked tree once and gives each node an operand: a constant, a value that
differs from row to row, the words of a list field, or a list written in the filter. Constant parts
are evaluated here, by the same operations as rules use, and reach the database as bound parameters.

Fields of the table are columns. Words of list fields are rows of `finding_set_word`, so
`"x" in decision.reasons` asks whether the decision's set is among the sets with that word: the
sub-select does not depend on the decision, and an index answers it once. A macro over a list field
becomes such a sub-select too, unless its body reads other fields; then it is an EXISTS per row. A
macro over a list written in the filter is unrolled, once per item.

A tenant's name is in no decision. A comparison with it becomes a sub-select of the pseudonyms
of the tenants for which it holds; pseudonyms without a name count as the empty name.

INVARIANT: the condition and `cel.exact_evaluator` agree on every row. So operations that SQL would
do otherwise, such as arithmetic on fields, are faults at their place in the filter. After a fault
the walk continues with None, so that all faults are reported together.

Databases bound how large a statement may be, so the translator bounds steps, nesting and lookups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, case, not_

from assay.decision_log.filter_sql import (
    FIELDS,
    SCHEMA,
    TENANT,
    TENANT_VALUE,
    WORD_LIST,
    Operand,
    RowValue,
    SqlConstant,
    UntranslatableError,
    WordList,
    combine,
    condition,
    count_words,
    has_word,
    items_of,
    list_operand,
    negate,
    operate,
    to_sql,
)
from assay.decision_log.tables import decision, finding_set_word
from assay.engine.cel import checked_tree as tree
from assay.engine.cel.check import CheckedExpression, check
from assay.engine.cel.faults import ExpressionFault, ExpressionFaults
from assay.engine.cel.operations import OPERATIONS
from assay.engine.cel.schema import BOOL, INT, STRING
from assay.engine.errors import CallerError
from assay.engine.policy.faults import Fault
from assay.engine.policy.rule_set import Place

FILE: Final = "filter"
"""The file name in the place of a fault."""

_MAX_FAULTS_SHOWN: Final = 10
_MAX_STEPS: Final = 900
"""Nodes, including those of unrolled macros: SQLite allows 1,000 levels of OR."""

_MAX_WEIGHT: Final = 60
"""Nesting: the stack of SQLite's parser, before 2024, held 100 symbols of the whole query."""

_MAX_LOOKUPS: Final = 16
"""Sub-selects: PostgreSQL takes 40 ms to plan 16 of them, and 11 s for 200."""

_WEIGHTS: Final[Mapping[type[tree.CheckedNode], int]] = {
    tree.Operation: 3,
    tree.Logic: 3,
    tree.Choice: 6,
    tree.Macro: 12,
}
_HEAVY: Final = {"endsWith": 9, "size": 6}
_FIELDS: Final = {field.name: field for field in FIELDS}


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
    translator = _FilterTranslator()
    try:
        translated = translator.translate(checked.tree)
    except _TooComplexError as error:
        raise InvalidFilter(text, translator.faults | {error.fault}) from error
    if translated is None:
        raise InvalidFilter(text, translator.faults)
    return Filter(checked, condition(translated))


class _TooComplexError(Exception):
    """The filter exceeds a limit; the walk ends."""

    def __init__(self, node: tree.CheckedNode, message: str) -> None:
        super().__init__(message)
        self.fault = ExpressionFault(node.line, node.column, f"too complex: {message}")


class _PartRejectedError(Exception):
    """A part of this node has a fault, which is already reported."""


class _FilterTranslator:
    """Walks one tree once and collects every fault.

    `_locals` are the variables of open macros; `_reads` are the fields and variables read so far.
    """

    def __init__(self) -> None:
        self.faults: set[ExpressionFault] = set()
        self._locals: list[Operand] = []
        self._reads: list[Operand] = []
        self._steps = self._weight = self._lookups = 0
        self._rules: Mapping[type[tree.CheckedNode], Callable[[Any], Operand]] = {
            tree.Literal: lambda node: SqlConstant(node.value),
            tree.FactRead: self._fact,
            tree.HasFact: lambda _: SqlConstant(value=True),
            tree.LocalRead: self._local,
            tree.Operation: self._operation,
            tree.Logic: lambda node: combine(node.symbol, self._translate_all(node.parts)),
            tree.Choice: self._choice,
            tree.ListOf: lambda node: list_operand(self._translate_all(node.items)),
            tree.MapOf: self._map_of,
            tree.Match: self._match,
            tree.Macro: self._macro,
        }

    def translate(self, node: tree.CheckedNode) -> Operand | None:
        """Translate one node; return None if it has a fault, which is then in `faults`."""
        weight = _WEIGHTS.get(type(node), 0)  # symbols on the parser's stack while parts are read
        if isinstance(node, tree.Operation):
            weight = _HEAVY.get(node.name, weight)
        self._steps += 1
        self._weight += weight
        if self._steps > _MAX_STEPS:
            raise _TooComplexError(node, f"more than {_MAX_STEPS} steps after unrolling lists")
        if self._weight > _MAX_WEIGHT:
            raise _TooComplexError(node, "nested too deeply for a query")
        try:
            return self._rules[type(node)](node)
        except UntranslatableError as refusal:
            self.faults.add(ExpressionFault(node.line, node.column, str(refusal)))
        except _PartRejectedError:
            pass
        finally:
            self._weight -= weight
        return None

    def _translate_all(self, nodes: Iterable[tree.CheckedNode]) -> list[Operand]:
        return _require_all([self.translate(node) for node in nodes])

    def _look_up(self, node: tree.CheckedNode, count: int = 1) -> None:
        """Count sub-selects."""
        self._lookups += count
        if self._lookups > _MAX_LOOKUPS:
            better = "use list.exists(x, x in […]) for many words at once"
            raise _TooComplexError(
                node, f"more than {_MAX_LOOKUPS} lookups of words or tenants: {better}"
            )

    def _fact(self, node: tree.FactRead) -> Operand:
        field = _FIELDS[node.key]
        value: Operand
        if field.type == WORD_LIST:
            value = WordList(field.stored_as)
        elif field.name == TENANT:
            value = TENANT_VALUE
        else:
            value = RowValue(decision.c[field.stored_as], field.name)
        self._reads.append(value)
        return value

    def _local(self, node: tree.LocalRead) -> Operand:
        value = self._locals[node.slot]
        if not isinstance(value, SqlConstant):
            self._reads.append(value)
        return value

    def _operation(self, node: tree.Operation) -> Operand:
        """Translate an operator or function; on constants it is evaluated here."""
        operands = tuple(self._translate_all(node.operands))
        if node.name == "!":
            return negate(operands[0])
        values = [operand.value for operand in operands if isinstance(operand, SqlConstant)]
        if len(values) < len(operands):
            lookups = [o for o in operands if o is TENANT_VALUE or isinstance(o, WordList)]
            self._look_up(node, len(lookups))
            return operate(node.name, node.operands[0].type, operands)
        try:
            return SqlConstant(OPERATIONS[node.name](*values))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise UntranslatableError(str(error)) from None

    def _choice(self, node: tree.Choice) -> Operand:
        """Translate `?:`; between bools it is logic if a branch is constant."""
        test, then, otherwise = self._translate_all((node.condition, node.then, node.otherwise))
        if isinstance(test, SqlConstant):
            return then if test.value else otherwise
        if node.type == BOOL and isinstance(then, SqlConstant):
            symbol, first = ("||", test) if then.value else ("&&", negate(test))
            return combine(symbol, [first, otherwise])
        if node.type == BOOL and isinstance(otherwise, SqlConstant):
            symbol, first = ("||", negate(test)) if otherwise.value else ("&&", test)
            return combine(symbol, [first, then])
        if node.type not in {BOOL, INT, STRING}:
            raise UntranslatableError(
                f"?: chooses between bools, ints and strings only, not {node.type}"
            )
        spell: Callable[[Operand], ColumnElement[Any]] = condition if node.type == BOOL else to_sql
        return RowValue(case((condition(test), spell(then)), else_=spell(otherwise)))

    def _map_of(self, node: tree.MapOf) -> Operand:
        parts = list_operand(self._translate_all(part for entry in node.entries for part in entry))
        if not isinstance(parts, SqlConstant):
            raise UntranslatableError("a map holds constants only")
        try:
            return SqlConstant(OPERATIONS["map"](*parts.value))
        except LookupError as error:
            raise UntranslatableError(str(error)) from None

    def _match(self, node: tree.Match) -> Operand:
        (operand,) = self._translate_all([node.operand])
        if not isinstance(operand, SqlConstant):
            raise UntranslatableError(
                "matches works on constants only: use startsWith, endsWith or contains"
            )
        return SqlConstant(node.search(operand.value) is not None)

    def _macro(self, node: tree.Macro) -> Operand:
        """Translate a macro over a list field, or unroll one over a list literal."""
        (elements,) = self._translate_all([node.elements])
        if isinstance(elements, WordList):
            return self._over_words(node, elements)
        kept: list[Operand | None] = []
        made: list[Operand | None] = []
        for item in items_of(elements):
            self._locals.append(item)
            holds = (
                SqlConstant(value=True)
                if node.condition is None
                else self.translate(node.condition)
            )
            result = item if node.result is None else self.translate(node.result)
            self._locals.pop()
            kept.append(holds)
            made += [result] if isinstance(holds, SqlConstant) and holds.value else []
        conditions = _require_all(kept)
        if node.kind in {"exists", "all"}:
            return combine("||" if node.kind == "exists" else "&&", conditions)
        if not all(isinstance(holds, SqlConstant) for holds in conditions):
            raise UntranslatableError(
                f"{node.kind} over a list literal needs conditions on constants"
            )
        if node.kind == "exists_one":
            return SqlConstant(len(made) == 1)
        return list_operand(_require_all(made))

    def _over_words(self, node: tree.Macro, elements: WordList) -> Operand:
        if node.kind not in {"exists", "all", "exists_one"} or node.condition is None:
            raise UntranslatableError(
                f"{node.kind} over a list field builds a list, which no query can: "
                "use exists or all"
            )
        self._look_up(node)
        words = finding_set_word.alias()
        word = RowValue(words.c.word)
        reads_before, self._reads = self._reads, []
        self._locals.append(word)
        (test,) = self._translate_all([node.condition])
        self._locals.pop()
        per_row = any(read is not word for read in self._reads)
        self._reads += reads_before
        if node.kind == "exists_one":
            count = count_words(words, elements.kind, condition(test))
            return RowValue(count == to_sql(SqlConstant(1)))
        each = node.kind == "all"
        holds = not_(condition(test)) if each else condition(test)
        found = has_word(words, elements.kind, holds, per_row=per_row)
        return RowValue(not_(found) if each else found)


def _require_all(operands: Sequence[Operand | None]) -> list[Operand]:
    """Return the operands; raise _PartRejectedError if one has a fault."""
    known = [operand for operand in operands if operand is not None]
    if len(known) < len(operands):
        raise _PartRejectedError
    return known
