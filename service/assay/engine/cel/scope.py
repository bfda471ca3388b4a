"""The state of one check, which the rules for names and calls share with the checker."""

from __future__ import annotations

from abc import ABC, abstractmethod

from assay.engine.cel import checked_tree as tree, syntax
from assay.engine.cel.faults import FaultList, locate
from assay.engine.cel.schema import BROKEN, Schema, Type
from assay.engine.cel.tokens import Limits


class CheckScope(ABC):
    """The names that an expression may use, and the reads and faults found so far.

    `macro_variables` holds the variables of the macros around the present node, outermost first.
    `reads`, `roots`, `functions` and `absorbs` become the fields of the checked expression.
    """

    def __init__(self, schema: Schema, faults: FaultList, limits: Limits, *, judging: bool) -> None:
        self.schema, self.faults, self.limits, self.judging = schema, faults, limits, judging
        self.macro_variables: list[tuple[str, Type]] = []
        self.reads: set[str] = set()
        self.roots: set[str] = set()
        self.functions: set[str] = set()
        self.absorbs = False

    @abstractmethod
    def check(self, node: syntax.SyntaxNode) -> tree.CheckedNode:
        """Check a node and all below it."""

    def place(self, node: syntax.SyntaxNode) -> tuple[int, int]:
        """Return the line and column of a node."""
        return locate(self.faults.text, node.offset)

    def broken(self, node: syntax.SyntaxNode) -> tree.CheckedNode:
        """Return the placeholder for a node whose fault has been reported."""
        return tree.Literal(BROKEN, *self.place(node), None)

    def fault(self, node: syntax.SyntaxNode, message: str) -> tree.CheckedNode:
        """Report a fault at a node, and return the node's placeholder."""
        self.faults.add(node.offset, message)
        return self.broken(node)

    def read(self, root: str | None, path: str) -> None:
        """Record that the expression reads a path."""
        self.reads.add(path)
        if root is not None:
            self.roots.add(root)
