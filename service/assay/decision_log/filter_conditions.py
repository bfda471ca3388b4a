"""From the checked tree of a filter to a condition on `decision`.

How it works
------------
The translator walks the tree once and gives each node an operand: a constant, a value that differs
from row to row, the words of a list field, or a list written in the filter. Constant parts are
evaluated here, by the same operations as rules use, and reach the database as bound parameters.

Fields of the table are columns. Words of list fields are rows of `finding_set_word`, so
`"x" in decision.reasons` asks whether the decision's set is among the sets with that word: the
sub-select does not depend on the decision, and an index answers it once. A macro over a list field
becomes such a sub-select too, unless its body reads other fields; then it is an EXISTS per row. A
macro over a list written in the filter is unrolled, once per item.

A tenant's name is in no decision. A comparison with it becomes a sub-select of the pseudonyms
of the tenants for which it holds; pseudonyms without a name count as the empty name.

INVARIANT: the condition and `cel.exact_evaluator` agree on every row. So operations that SQL would
do otherwise, such as arithmetic on fields, are faults at their place in the filter. After a fault
the walk continues with UNKNOWN, so that all faults are reported together.

Databases bound how large a statement may be, so `_Budget` bounds what one filter may use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, case, not_, select

from assay.decision_log.filter_sql import (
    FIELDS,
    TENANT,
    TENANT_VALUE,
    UNKNOWN,
    WORD_LIST,
    ItemList,
    Operand,
    RowValue,
    SqlConstant,
    Unknown,
    UntranslatableError,
    WordList,
    any_word,
    combine,
    condition,
    count_words,
    items_of,
    list_operand,
    negate,
    operate,
    to_sql,
)
from assay.decision_log.tables import decision, finding_set_word
from assay.engine.cel import checked_tree as tree
from assay.engine.cel.faults import ExpressionFault
from assay.engine.cel.operations import OPERATIONS
from assay.engine.cel.schema import BOOL, INT, STRING

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


class TooComplex(Exception):
    """The filter exceeds a limit; the walk ends."""

    def __init__(self, node: tree.CheckedNode, message: str) -> None:
        super().__init__(message)
        self.fault = ExpressionFault(node.line, node.column, f"too complex: {message}")


class _Budget:
    """How much of each limit the walk has used."""

    def __init__(self) -> None:
        self.steps = self.weight = self.lookups = 0

    def enter(self, node: tree.CheckedNode) -> None:
        """Count a node; its weight counts until it is left."""
        self.steps += 1
        self.weight += _weight_of(node)
        if self.steps > _MAX_STEPS:
            raise TooComplex(node, f"more than {_MAX_STEPS} steps after unrolling lists")
        if self.weight > _MAX_WEIGHT:
            raise TooComplex(node, "nested too deeply for a query")

    def leave(self, node: tree.CheckedNode) -> None:
        """Take back the weight of a node."""
        self.weight -= _weight_of(node)

    def look_up(self, node: tree.CheckedNode, count: int = 1) -> None:
        """Count sub-selects."""
        self.lookups += count
        if self.lookups > _MAX_LOOKUPS:
            better = "use list.exists(x, x in […]) for many words at once"
            raise TooComplex(
                node, f"more than {_MAX_LOOKUPS} lookups of words or tenants: {better}"
            )


def _weight_of(node: tree.CheckedNode) -> int:
    """Return how many symbols a node keeps on the parser's stack while its parts are read."""
    known = _WEIGHTS.get(type(node), 0)
    return _HEAVY.get(node.name, known) if isinstance(node, tree.Operation) else known


class FilterTranslator:
    """Walks one tree once and collects every fault; `_locals` are the variables of open macros."""

    def __init__(self) -> None:
        self.faults: set[ExpressionFault] = set()
        self._locals: list[Operand] = []
        self._budget = _Budget()
        self._rules: Mapping[type[tree.CheckedNode], Callable[[Any], Operand]] = {
            tree.Literal: self._literal,
            tree.FactRead: self._fact,
            tree.HasFact: lambda _: SqlConstant(value=True),
            tree.LocalRead: self._local,
            tree.Operation: self._operation,
            tree.Logic: self._logic,
            tree.Choice: self._choice,
            tree.ListOf: self._list_of,
            tree.MapOf: self._map_of,
            tree.Match: self._match,
            tree.Macro: self._macro,
        }

    def translate(self, node: tree.CheckedNode) -> Operand:
        """Translate one node; a node with a fault becomes UNKNOWN and the walk continues."""
        self._budget.enter(node)
        try:
            return self._rules[type(node)](node)
        except UntranslatableError as refusal:
            return self._refuse(node, str(refusal))
        finally:
            self._budget.leave(node)

    def _refuse(self, node: tree.CheckedNode, message: str) -> Operand:
        self.faults.add(ExpressionFault(node.line, node.column, message))
        return UNKNOWN

    def _literal(self, node: tree.Literal) -> Operand:
        return SqlConstant(node.value)

    def _fact(self, node: tree.FactRead) -> Operand:
        field = _FIELDS[node.key]
        if field.type == WORD_LIST:
            return WordList(field.stored_as)
        return (
            TENANT_VALUE
            if field.name == TENANT
            else RowValue(decision.c[field.stored_as], field.name)
        )

    def _local(self, node: tree.LocalRead) -> Operand:
        return self._locals[node.slot]

    def _operation(self, node: tree.Operation) -> Operand:
        """Translate an operator or function; on constants it is evaluated here."""
        operands = tuple(map(self.translate, node.operands))
        if any(isinstance(operand, Unknown) for operand in operands):
            return UNKNOWN
        if node.name == "!":
            return negate(operands[0])
        values = [operand.value for operand in operands if isinstance(operand, SqlConstant)]
        if len(values) < len(operands):
            self._budget.look_up(
                node,
                sum(
                    operand is TENANT_VALUE or isinstance(operand, WordList) for operand in operands
                ),
            )
            return operate(node.name, node.operands[0].type, operands)
        try:
            return SqlConstant(OPERATIONS[node.name](*values))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise UntranslatableError(str(error)) from None

    def _logic(self, node: tree.Logic) -> Operand:
        return combine(node.symbol, [self.translate(part) for part in node.parts])

    def _choice(self, node: tree.Choice) -> Operand:
        """Translate `?:`; between bools it is logic if a branch is constant."""
        test, then, otherwise = map(self.translate, (node.condition, node.then, node.otherwise))
        if any(isinstance(part, Unknown) for part in (test, then, otherwise)):
            return UNKNOWN
        if isinstance(test, SqlConstant):
            return then if test.value else otherwise
        if node.type == BOOL and isinstance(then, SqlConstant):
            return (
                combine("||", [test, otherwise])
                if then.value
                else combine("&&", [negate(test), otherwise])
            )
        if node.type == BOOL and isinstance(otherwise, SqlConstant):
            return (
                combine("||", [negate(test), then])
                if otherwise.value
                else combine("&&", [test, then])
            )
        if node.type not in {BOOL, INT, STRING}:
            raise UntranslatableError(
                f"?: chooses between bools, ints and strings only, not {node.type}"
            )
        spelled: Callable[[Operand], ColumnElement[Any]] = (
            condition if node.type == BOOL else to_sql
        )
        return RowValue(case((condition(test), spelled(then)), else_=spelled(otherwise)))

    def _list_of(self, node: tree.ListOf) -> Operand:
        return list_operand([self.translate(item) for item in node.items])

    def _map_of(self, node: tree.MapOf) -> Operand:
        parts = list_operand([self.translate(part) for entry in node.entries for part in entry])
        if isinstance(parts, Unknown):
            return UNKNOWN
        if not isinstance(parts, SqlConstant):
            raise UntranslatableError("a map holds constants only")
        try:
            return SqlConstant(OPERATIONS["map"](*parts.value))
        except LookupError as error:
            raise UntranslatableError(str(error)) from None

    def _match(self, node: tree.Match) -> Operand:
        operand = self.translate(node.operand)
        if isinstance(operand, SqlConstant):
            return SqlConstant(node.search(operand.value) is not None)
        if isinstance(operand, Unknown):
            return UNKNOWN
        raise UntranslatableError(
            "matches works on constants only: use startsWith, endsWith or contains"
        )

    def _macro(self, node: tree.Macro) -> Operand:
        """Translate a macro over a list field or a list literal."""
        elements = self.translate(node.elements)
        if isinstance(elements, WordList):
            return self._over_words(node, elements)
        return (
            self._unrolled(node, elements)
            if isinstance(elements, SqlConstant | ItemList)
            else UNKNOWN
        )

    def _unrolled(self, node: tree.Macro, elements: SqlConstant | ItemList) -> Operand:
        kept: list[Operand] = []
        made: list[Operand] = []
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
        if node.kind in {"exists", "all"}:
            return combine("||" if node.kind == "exists" else "&&", kept)
        if any(isinstance(holds, Unknown) for holds in kept):
            return UNKNOWN
        if not all(isinstance(holds, SqlConstant) for holds in kept):
            raise UntranslatableError(
                f"{node.kind} over a list literal needs conditions on constants"
            )
        return SqlConstant(len(made) == 1) if node.kind == "exists_one" else list_operand(made)

    def _over_words(self, node: tree.Macro, elements: WordList) -> Operand:
        if node.kind not in {"exists", "all", "exists_one"} or node.condition is None:
            raise UntranslatableError(
                f"{node.kind} over a list field builds a list, which no query can: "
                "use exists or all"
            )
        self._budget.look_up(node)
        words = finding_set_word.alias()
        word = RowValue(words.c.word)
        self._locals.append(word)
        test = self.translate(node.condition)
        alone = not self._reads_other_cells(node.condition, word)
        self._locals.pop()
        if isinstance(test, Unknown):
            return UNKNOWN
        if node.kind == "exists_one":
            return RowValue(
                count_words(words, elements.kind, condition(test)) == to_sql(SqlConstant(1))
            )
        each = node.kind == "all"
        holds = not_(condition(test)) if each else condition(test)
        if not alone:
            found = any_word(words, elements.kind, holds)
            return RowValue(not_(found) if each else found)
        sets = (
            select(words.c.finding_set)
            .where(words.c.kind == elements.kind, holds)
            .correlate_except(words)
        )
        return RowValue(
            decision.c.finding_set.not_in(sets) if each else decision.c.finding_set.in_(sets)
        )

    def _reads_other_cells(self, node: tree.CheckedNode, word: RowValue) -> bool:
        """Return whether a body reads the row or another macro's words, and so is per row."""
        if isinstance(node, tree.LocalRead):
            known = self._locals[node.slot] if node.slot < len(self._locals) else word
            return not isinstance(known, SqlConstant) and known is not word
        return isinstance(node, tree.FactRead) or any(
            self._reads_other_cells(part, word) for part in _parts_of(node)
        )


def _parts_of(node: tree.CheckedNode) -> list[tree.CheckedNode]:
    """Return the children of a node."""
    parts: list[tree.CheckedNode] = []
    waiting: list[Any] = [getattr(node, name) for name in _PARTS.get(type(node), ())]
    for part in waiting:  # grows: the entries of a map are tuples in a tuple
        if isinstance(part, tuple):
            waiting += part
        elif part is not None:
            parts.append(part)
    return parts


_PARTS: Final[Mapping[type[tree.CheckedNode], tuple[str, ...]]] = {
    tree.Operation: ("operands",),
    tree.Logic: ("parts",),
    tree.Choice: ("condition", "then", "otherwise"),
    tree.ListOf: ("items",),
    tree.MapOf: ("entries",),
    tree.Match: ("operand",),
    tree.Macro: ("elements", "condition", "result"),
}
_FIELDS: Final = {field.name: field for field in FIELDS}
