"""From the checked tree of a filter to a condition on `decision`: constants folded, macros unrolled or sub-selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, case, not_, select

from assay.decision_log.filter_fields import BY_NAME, TENANT, WORDS
from assay.decision_log.filter_limits import Spent
from assay.decision_log.filter_sql import (
    TENANT_CELL,
    UNKNOWN,
    Cell,
    Const,
    Items,
    Operand,
    Refusal,
    Unknown,
    Words,
    any_word,
    bound,
    condition,
    count_words,
    items_of,
    joined,
    listed,
    negated,
    operate,
)
from assay.decision_log.tables import decision, finding_set_word
from assay.engine.cel import checked_tree as tree
from assay.engine.cel.faults import Fault
from assay.engine.cel.operations import OPERATIONS
from assay.engine.cel.schema import BOOL, INT, STRING


class Walker:
    """Walks one tree once, noting every refusal at its place; `locals` are the variables of enclosing macros."""

    def __init__(self) -> None:
        self.faults: set[Fault] = set()
        self.locals: list[Operand] = []
        self.spent = Spent()

    def give(self, node: tree.Node) -> Operand:
        """Translate one node; what is refused becomes unknown and the walk goes on."""
        self.spent.enter(node)
        try:
            return RULES[type(node)](self, node)
        except Refusal as refusal:
            return self._refuse(node, str(refusal))
        finally:
            self.spent.leave(node)

    def _refuse(self, node: tree.Node, message: str) -> Operand:
        self.faults.add(Fault(node.line, node.column, message))
        return UNKNOWN

    def literal(self, node: tree.Literal) -> Operand:
        """A constant."""
        return Const(node.value)

    def fact(self, node: tree.FactRead) -> Operand:
        """A field."""
        field = BY_NAME[node.key]
        if field.type == WORDS:
            return Words(field.kept_as)
        return TENANT_CELL if field.name == TENANT else Cell(decision.c[field.kept_as], field.name)

    def local(self, node: tree.LocalRead) -> Operand:
        """A macro's variable."""
        return self.locals[node.slot]

    def operation(self, node: tree.Operation) -> Operand:
        """An operator or function: worked out here if all is constant, as the evaluator would."""
        operands = tuple(map(self.give, node.operands))
        if any(isinstance(operand, Unknown) for operand in operands):
            return UNKNOWN
        if node.name == "!":
            return negated(operands[0])
        values = [operand.value for operand in operands if isinstance(operand, Const)]
        if len(values) < len(operands):
            self.spent.look_up(
                node,
                sum(operand is TENANT_CELL or isinstance(operand, Words) for operand in operands),
            )
            return operate(node.name, node.operands[0].type, operands)
        try:
            return Const(OPERATIONS[node.name](*values))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise Refusal(str(error)) from None

    def logic(self, node: tree.Logic) -> Operand:
        """`&&` and `||`."""
        return joined(node.symbol, [self.give(part) for part in node.parts])

    def choice(self, node: tree.Choice) -> Operand:
        """`?:`; one between bools is logic where a branch is constant."""
        asked, then, otherwise = map(self.give, (node.condition, node.then, node.otherwise))
        if any(isinstance(part, Unknown) for part in (asked, then, otherwise)):
            return UNKNOWN
        if isinstance(asked, Const):
            return then if asked.value else otherwise
        if node.type == BOOL and isinstance(then, Const):
            return (
                joined("||", [asked, otherwise])
                if then.value
                else joined("&&", [negated(asked), otherwise])
            )
        if node.type == BOOL and isinstance(otherwise, Const):
            return (
                joined("||", [negated(asked), then])
                if otherwise.value
                else joined("&&", [asked, then])
            )
        if node.type not in {BOOL, INT, STRING}:
            raise Refusal(f"?: chooses between bools, ints and strings only, not {node.type}")
        spelled: Callable[[Operand], ColumnElement[Any]] = condition if node.type == BOOL else bound
        return Cell(case((condition(asked), spelled(then)), else_=spelled(otherwise)))

    def list_of(self, node: tree.ListOf) -> Operand:
        """A list written out."""
        return listed([self.give(item) for item in node.items])

    def map_of(self, node: tree.MapOf) -> Operand:
        """A map of constants."""
        parts = listed([self.give(part) for entry in node.entries for part in entry])
        if isinstance(parts, Unknown):
            return UNKNOWN
        if not isinstance(parts, Const):
            raise Refusal("a map holds constants only")
        try:
            return Const(OPERATIONS["map"](*parts.value))
        except LookupError as error:
            raise Refusal(str(error)) from None

    def match(self, node: tree.Match) -> Operand:
        """`matches`, of a constant."""
        operand = self.give(node.operand)
        if isinstance(operand, Const):
            return Const(node.search(operand.value) is not None)
        if isinstance(operand, Unknown):
            return UNKNOWN
        raise Refusal("matches is not asked of fields: use startsWith, endsWith and contains")

    def macro(self, node: tree.Macro) -> Operand:
        """A macro, over the words of a list field or over what is written out."""
        elements = self.give(node.elements)
        if isinstance(elements, Words):
            return self._over_words(node, elements)
        return self._unrolled(node, elements) if isinstance(elements, Const | Items) else UNKNOWN

    def _unrolled(self, node: tree.Macro, elements: Const | Items) -> Operand:
        kept: list[Operand] = []
        made: list[Operand] = []
        for item in items_of(elements):
            self.locals.append(item)
            holds = Const(value=True) if node.condition is None else self.give(node.condition)
            result = item if node.result is None else self.give(node.result)
            self.locals.pop()
            kept.append(holds)
            made += [result] if isinstance(holds, Const) and holds.value else []
        if node.kind in {"exists", "all"}:
            return joined("||" if node.kind == "exists" else "&&", kept)
        if any(isinstance(holds, Unknown) for holds in kept):
            return UNKNOWN
        if not all(isinstance(holds, Const) for holds in kept):
            raise Refusal(f"{node.kind} over a list written out asks constants only")
        return Const(len(made) == 1) if node.kind == "exists_one" else listed(made)

    def _over_words(self, node: tree.Macro, elements: Words) -> Operand:
        if node.kind not in {"exists", "all", "exists_one"} or node.condition is None:
            raise Refusal(
                f"{node.kind} over a list field makes a list, which no query can hold: use exists or all"
            )
        self.spent.look_up(node)
        words = finding_set_word.alias()
        word = Cell(words.c.word)
        self.locals.append(word)
        asked = self.give(node.condition)
        alone = not self._reads_other_cells(node.condition, word)
        self.locals.pop()
        if isinstance(asked, Unknown):
            return UNKNOWN
        if node.kind == "exists_one":
            return Cell(count_words(words, elements.kind, condition(asked)) == bound(Const(1)))
        each = node.kind == "all"
        holds = not_(condition(asked)) if each else condition(asked)
        if not alone:
            found = any_word(words, elements.kind, holds)
            return Cell(not_(found) if each else found)
        sets = (
            select(words.c.finding_set)
            .where(words.c.kind == elements.kind, holds)
            .correlate_except(words)
        )
        return Cell(
            decision.c.finding_set.not_in(sets) if each else decision.c.finding_set.in_(sets)
        )

    def _reads_other_cells(self, node: tree.Node, word: Cell) -> bool:
        """Whether a body reads the row or another macro's words; those that do not are asked once for all rows."""
        if isinstance(node, tree.LocalRead):
            known = self.locals[node.slot] if node.slot < len(self.locals) else word
            return not isinstance(known, Const) and known is not word
        return isinstance(node, tree.FactRead) or any(
            self._reads_other_cells(part, word) for part in parts_of(node)
        )


def parts_of(node: tree.Node) -> list[tree.Node]:
    """The nodes right below a node."""
    held = [getattr(node, name) for name in PARTS.get(type(node), ())]
    flat = [part for each in held for part in (each if isinstance(each, tuple) else (each,))]
    return [
        node
        for part in flat
        for node in (part if isinstance(part, tuple) else (part,))
        if node is not None
    ]


PARTS: Final[Mapping[type[tree.Node], tuple[str, ...]]] = {
    tree.Operation: ("operands",),
    tree.Logic: ("parts",),
    tree.Choice: ("condition", "then", "otherwise"),
    tree.ListOf: ("items",),
    tree.MapOf: ("entries",),
    tree.Match: ("operand",),
    tree.Macro: ("elements", "condition", "result"),
}
RULES: Final[Mapping[type[tree.Node], Callable[[Walker, Any], Operand]]] = {
    tree.Literal: Walker.literal,
    tree.FactRead: Walker.fact,
    tree.HasFact: lambda _walker, _node: Const(value=True),
    tree.LocalRead: Walker.local,
    tree.Operation: Walker.operation,
    tree.Logic: Walker.logic,
    tree.Choice: Walker.choice,
    tree.ListOf: Walker.list_of,
    tree.MapOf: Walker.map_of,
    tree.Match: Walker.match,
    tree.Macro: Walker.macro,
}
