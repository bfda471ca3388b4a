"""What it may cost to judge by a schema: bounds that hold for any arguments, so that none can stall a process.

The compiler keeps no answers but those of references that recur, so references that are followed from two places double
the work, and a chain of them doubles it at every link. A schema is therefore weighed as if every reference were a copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from assay.toolcalls.draft7 import BESIDE, BESIDE_BY_NAME, TOGETHER, TOGETHER_BY_NAME, Node, parts

HEAVIEST: Final = 1 << 16
HEAVIEST_KEPT: Final = 1 << 13
LONGEST_PATH: Final = 200
LONGEST_PATH_BESIDE: Final = 32
PATHS_PER_REFERENCE: Final = 1.45
"""With n references no part is reached by more than 3^(n/3) ways, and 3^(1/3) is less than this."""

FRACTION: Final = 250
"""A multiple of a fraction is found with exact arithmetic."""

MOST_STATES: Final = 1 << 14
CHARACTER_CLASS: Final = 100
"""What a class of characters such as `\\p{L}` takes, in states."""

TOKEN: Final = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d{1,9})(?:,(\d{0,9}))?\}|.", re.DOTALL
)


class TooHeavyError(ValueError):
    """A schema that costs too much to judge by, or that has no end."""


@dataclass(frozen=True, slots=True)
class Weight:
    """`kept`: what the schema holds, in steps; `judging`: steps that one value of the arguments may cost."""

    kept: int
    judging: int


def weigh(nodes: list[Node]) -> Weight:
    """The weight of a lowered schema, given every schema in it, itself first; raises `TooHeavyError` beyond bounds."""
    everywhere = list(_mappings(nodes[0]))
    kept = sum(map(own, everywhere))
    if kept > HEAVIEST_KEPT:
        raise TooHeavyError
    scale = _Scale(nodes[0], {id(node) for node in nodes})
    scale.astray = any("$id" in node for node in everywhere[1:])
    judging, returns = scale.unfolded(nodes[0], 0)
    for node in nodes:
        if scale.astray or id(node) in scale.known:
            scale.height(node, 0)
    judging *= 1 + returns
    if scale.astray:
        references = min(sum("$ref" in node for node in everywhere), LONGEST_PATH)
        paths = int(PATHS_PER_REFERENCE**references)
        judging = kept * paths * (1 + references * paths)
    if judging > HEAVIEST:
        raise TooHeavyError
    return Weight(kept, judging)


def _mappings(value: object) -> Iterator[Node]:
    """Every mapping in a value, itself first, whether it is a schema or not: some reference may lead to it."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def own(node: Node) -> int:
    """The steps of a schema without the schemas in it."""
    steps = 1 + sum(
        _size(node[word]) for word in ("const", "dependencies", "enum", "required") if word in node
    )
    if isinstance(node.get("multipleOf"), float):
        steps += FRACTION
    patterns = [node["pattern"]] if "pattern" in node else []
    if isinstance(named := node.get("patternProperties"), dict):
        patterns += named
    return steps + sum(_states(pattern) for pattern in patterns if isinstance(pattern, str))


def _size(value: object) -> int:
    """How many values a value holds."""
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1


def _states(pattern: str) -> int:
    """How many states a pattern may have: its characters, each as often as the counts around it say."""
    sums, last = [0], 0
    for token in TOKEN.finditer(pattern):
        least, most = token.groups()
        if least is not None:
            more = last * max(int(most or least) - 1, 0)
        elif token[0] == "(":
            sums.append(0)
            continue
        elif token[0] == ")" and len(sums) > 1:
            more = last = sums.pop()
        else:
            more = last = 1 + CHARACTER_CLASS * token[0].lower().count("\\p")
        sums[-1] += more
        last = more if least is None else last + more
    return min(sum(sums), MOST_STATES)


@dataclass(slots=True)
class _Scale:
    """Weighs the parts of one schema, each once."""

    root: Node
    schemas: set[int]
    astray: bool = False
    """Whether some reference is no pointer into the schema as a whole, so that it may lead to any part."""

    open: set[int] = field(default_factory=set)
    known: dict[int, tuple[int, int]] = field(default_factory=dict)
    heights: dict[int, int] = field(default_factory=dict)

    def unfolded(self, node: object, depth: int) -> tuple[int, int]:
        """Steps with all references followed, and how often they come back to a part that is being weighed."""
        if not isinstance(node, dict):
            return 1, 0
        if id(node) in self.known:
            return self.known[id(node)]
        if id(node) in self.open:
            return 1, 1
        if depth > LONGEST_PATH:
            raise TooHeavyError
        self.open.add(id(node))
        together, apart = self._handed_on(node)
        sums = [self.unfolded(part, depth + 1) for part in together]
        either = [self.unfolded(part, depth + 1) for part in apart]
        steps = (
            own(node)
            + len(either)
            + sum(more for more, _ in sums)
            + max((more for more, _ in either), default=0)
        )
        returns = sum(back for _, back in sums) + max((back for _, back in either), default=0)
        self.open.remove(id(node))
        if steps > HEAVIEST:
            raise TooHeavyError
        self.known[id(node)] = steps, returns
        return steps, returns

    def height(self, node: object, depth: int) -> int:
        """How many schemas in a row judge one value; a row that comes back to itself has no end."""
        if not isinstance(node, dict):
            return 0
        if depth > LONGEST_PATH_BESIDE:
            raise TooHeavyError
        if id(node) not in self.heights:
            self.heights[id(node)] = LONGEST_PATH_BESIDE
            beside = self._followed(node, parts(node, BESIDE, BESIDE_BY_NAME))
            self.heights[id(node)] = 1 + max(
                (self.height(part, depth + 1) for part in beside), default=0
            )
        if depth + self.heights[id(node)] > LONGEST_PATH_BESIDE:
            raise TooHeavyError
        return self.heights[id(node)]

    def _handed_on(self, node: Node) -> tuple[list[object], list[object]]:
        """The schemas that may judge one value all, and those of which each judges a value of its own."""
        items = node.get("items")
        apart = list(parts(node, ("items",) if isinstance(items, list) else (), ("properties",)))
        together = parts(
            node, TOGETHER if isinstance(items, list) else (*TOGETHER, "items"), TOGETHER_BY_NAME
        )
        return list(self._followed(node, together)), [] if "$ref" in node else apart

    def _followed(self, node: Node, own_parts: Iterator[object]) -> Iterator[object]:
        """The schemas that a schema hands on to: the one that it refers to, else those in it."""
        if "$ref" not in node:
            yield from own_parts
            return
        target = self._target(node["$ref"])
        self.astray |= target is None
        yield target

    def _target(self, reference: object) -> Any | None:  # noqa: ANN401 - any part of a schema
        """What a pointer into the schema points to."""
        document, _, pointer = (
            unquote(reference).partition("/") if isinstance(reference, str) else ("", "", "")
        )
        if document != "#":
            return None
        part: Any = self.root
        for step in pointer.split("/") if pointer else ():
            word = step.replace("~1", "/").replace("~0", "~")
            if isinstance(part, Mapping) and word in part:
                part = part[word]
            elif isinstance(part, list) and word.isdecimal() and int(word) < len(part):
                part = part[int(word)]
            else:
                return None
        if isinstance(part, dict) and id(part) not in self.schemas:
            raise TooHeavyError
        return part if isinstance(part, dict | bool) else None
