"""How large an expression may be; enforced before cel-python or our own recursion sees it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one expression; `chain` counts operators in a row other than `&&` and `||`, which are kept flat."""

    bytes: int = 4096
    tokens: int = 800
    nodes: int = 500
    brackets: int = 32
    unary: int = 32
    chain: int = 64
    depth: int = 100
    macros: int = 2
    elements: int = 200


LIMITS = Limits()
