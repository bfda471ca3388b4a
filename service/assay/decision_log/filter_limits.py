"""How large a filter's statement may become, beyond what the checker bounds in its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from assay.engine.cel import checked_tree as tree
from assay.engine.cel.faults import Fault

STEPS: Final = 900
"""Nodes walked, those of unrolled macros each time: SQLite allows 1,000 levels of OR."""

WEIGHT: Final = 60
"""How deep conditions may nest: SQLite's parser of before 2024 holds 100 things at once, the query around included."""

LOOKUPS: Final = 16
"""Sub-selects: PostgreSQL weighs the order of all of them, 40 ms of planning for 16 and 11 s for 200."""

WEIGHTS: Final[Mapping[type[tree.Node], int]] = {
    tree.Operation: 3,
    tree.Logic: 3,
    tree.Choice: 6,
    tree.Macro: 12,
}
HEAVY: Final = {"endsWith": 9, "size": 6}


class TooComplex(Exception):
    """The filter is over a limit; nothing more is looked at."""

    def __init__(self, node: tree.Node, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(node.line, node.column, f"too complex: {message}")


class Spent:
    """What a walk has used of the limits so far."""

    def __init__(self) -> None:
        self.steps = self.weight = self.lookups = 0

    def enter(self, node: tree.Node) -> None:
        """Count a node, and what it adds while what is below it is read."""
        self.steps += 1
        self.weight += weight_of(node)
        if self.steps > STEPS:
            raise TooComplex(node, f"more than {STEPS} steps once lists are written out")
        if self.weight > WEIGHT:
            raise TooComplex(node, "nested too deep for a query")

    def leave(self, node: tree.Node) -> None:
        """Give back what the node added."""
        self.weight -= weight_of(node)

    def look_up(self, node: tree.Node, count: int = 1) -> None:
        """Count sub-selects."""
        self.lookups += count
        if self.lookups > LOOKUPS:
            better = "list.exists(x, x in […]) asks for many words at once"
            raise TooComplex(node, f"more than {LOOKUPS} look-ups of words or tenants, {better}")


def weight_of(node: tree.Node) -> int:
    """How much a node adds to what a parser holds while it reads what is below."""
    known = WEIGHTS.get(type(node), 0)
    return HEAVY.get(node.name, known) if isinstance(node, tree.Operation) else known
