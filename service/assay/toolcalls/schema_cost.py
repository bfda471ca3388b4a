"""The cost of checks by a schema: upper bounds for any arguments, so that none can stall a process.

How it works. The compiled validator caches no results except those of recursive references. A
schema that two references lead to is therefore checked twice, and a chain of such pairs doubles the
work at every link. `cost_of` counts the steps as if each reference were a copy of its target:

- `_step_count` is the cost of a schema without its subschemas: enum and const values, and the
  states of its regular expressions, with counted repetitions unrolled.
- `_CostModel.unfold` adds what one value may pass through. Subschemas that can check the same value
  add up; of `properties`, each value meets one, so only the most expensive counts. It also counts
  the references that return to an open schema, since each may start the recursion again.
- `_CostModel.height` bounds the chains of schemas that check one value without going deeper into
  it; such a chain can also be a cycle, which would never end.
- If some reference cannot be resolved to a subschema (it is `astray`), it may lead anywhere, so the
  bound uses the number of possible paths instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from assay.toolcalls.draft7 import (
    ALL_OF_ONE,
    ALL_OF_ONE_BY_NAME,
    SAME_VALUE,
    SAME_VALUE_BY_NAME,
    Node,
    subschemas,
)

_MOST_STEPS: Final = 1 << 16
_MOST_STORED: Final = 1 << 13
_LONGEST_PATH: Final = 200
_LONGEST_PATH_OF_ONE_VALUE: Final = 32
_PATHS_PER_REFERENCE: Final = 1.45
"""With n references at most 3^(n/3) paths lead to a subschema, and 3^(1/3) is below this."""

_FRACTION: Final = 250
"""The cost of a fractional `multipleOf`, which uses exact arithmetic."""

_MOST_STATES: Final = 1 << 14
_CHARACTER_CLASS: Final = 100
"""The states of a class of characters such as `\\p{L}`."""

_TOKEN: Final = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d{1,9})(?:,(\d{0,9}))?\}|.", re.DOTALL
)


class TooCostlyError(ValueError):
    """A schema whose checks cost too much, or may never end."""


@dataclass(frozen=True, slots=True)
class SchemaCost:
    """Steps that the schema holds in memory, and steps that one value of the arguments may cost."""

    stored: int
    per_value: int


def cost_of(nodes: list[Node]) -> SchemaCost:
    """Return the cost of a lowered schema, given all its subschemas, itself first.

    Raises `TooCostlyError` beyond the bounds.
    """
    mappings = list(_mappings(nodes[0]))
    stored = sum(map(_step_count, mappings))
    if stored > _MOST_STORED:
        raise TooCostlyError
    model = _CostModel(nodes[0], {id(node) for node in nodes})
    model.astray = any("$id" in node for node in mappings[1:])
    per_value, returns = model.unfold(nodes[0], 0)
    for node in nodes:
        if model.astray or id(node) in model.known:
            model.height(node, 0)
    per_value *= 1 + returns
    if model.astray:
        references = min(sum("$ref" in node for node in mappings), _LONGEST_PATH)
        paths = int(_PATHS_PER_REFERENCE**references)
        per_value = stored * paths * (1 + references * paths)
    if per_value > _MOST_STEPS:
        raise TooCostlyError
    return SchemaCost(stored, per_value)


def _mappings(value: object) -> Iterator[Node]:
    """Yield every mapping in a value, itself first; a reference may lead to any of them."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _step_count(node: Node) -> int:
    """Return the steps of a schema without its subschemas."""
    data = [node[word] for word in ("const", "dependencies", "enum", "required") if word in node]
    steps = 1 + sum(map(_size, data))
    if isinstance(node.get("multipleOf"), float):
        steps += _FRACTION
    patterns = [node["pattern"]] if "pattern" in node else []
    if isinstance(named := node.get("patternProperties"), dict):
        patterns += named
    return steps + sum(_states(pattern) for pattern in patterns if isinstance(pattern, str))


def _size(value: object) -> int:
    """Return how many values a value holds, itself included."""
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1


def _states(pattern: str) -> int:
    """Return how many states a pattern may have: each character times the counts around it."""
    sums, last = [0], 0
    for token in _TOKEN.finditer(pattern):
        least, most = token.groups()
        if least is not None:
            more = last * max(int(most or least) - 1, 0)
        elif token[0] == "(":
            sums.append(0)
            continue
        elif token[0] == ")" and len(sums) > 1:
            more = last = sums.pop()
        else:
            more = last = 1 + _CHARACTER_CLASS * token[0].lower().count("\\p")
        sums[-1] += more
        last = more if least is None else last + more
    return min(sum(sums), _MOST_STATES)


@dataclass(slots=True)
class _CostModel:
    """Computes the cost of each subschema once."""

    root: Node
    schemas: set[int]
    astray: bool = False
    open: set[int] = field(default_factory=set)
    known: dict[int, tuple[int, int]] = field(default_factory=dict)
    heights: dict[int, int] = field(default_factory=dict)

    def unfold(self, node: object, depth: int) -> tuple[int, int]:
        """Return the steps with all references followed, and how many return to an open schema."""
        if not isinstance(node, dict):
            return 1, 0
        if id(node) in self.known:
            return self.known[id(node)]
        if id(node) in self.open:
            return 1, 1
        if depth > _LONGEST_PATH:
            raise TooCostlyError
        self.open.add(id(node))
        all_of_one, one_each = self._targets(node)
        added = [self.unfold(part, depth + 1) for part in all_of_one]
        either = [self.unfold(part, depth + 1) for part in one_each] or [(0, 0)]
        steps = _step_count(node) + len(one_each) + sum(cost for cost, _ in added)
        steps += max(cost for cost, _ in either)
        returns = sum(back for _, back in added) + max(back for _, back in either)
        self.open.remove(id(node))
        if steps > _MOST_STEPS:
            raise TooCostlyError
        self.known[id(node)] = steps, returns
        return steps, returns

    def height(self, node: object, depth: int) -> int:
        """Return how many schemas in a row check one value; a cycle is too costly."""
        if not isinstance(node, dict):
            return 0
        if depth > _LONGEST_PATH_OF_ONE_VALUE:
            raise TooCostlyError
        if id(node) not in self.heights:
            self.heights[id(node)] = _LONGEST_PATH_OF_ONE_VALUE
            parts = self._follow(node, subschemas(node, SAME_VALUE, SAME_VALUE_BY_NAME))
            below = [self.height(part, depth + 1) for part in parts]
            self.heights[id(node)] = 1 + max(below, default=0)
        if depth + self.heights[id(node)] > _LONGEST_PATH_OF_ONE_VALUE:
            raise TooCostlyError
        return self.heights[id(node)]

    def _targets(self, node: Node) -> tuple[list[object], list[object]]:
        """Return the subschemas that may all check one value, and those that check one each."""
        has_list = isinstance(node.get("items"), list)
        one_each = list(subschemas(node, ("items",) if has_list else (), ("properties",)))
        words = ALL_OF_ONE if has_list else (*ALL_OF_ONE, "items")
        all_of_one = list(self._follow(node, subschemas(node, words, ALL_OF_ONE_BY_NAME)))
        return all_of_one, [] if "$ref" in node else one_each

    def _follow(self, node: Node, own: Iterator[object]) -> Iterator[object]:
        """Yield the schema that a reference leads to, or the schema's own parts."""
        if "$ref" not in node:
            yield from own
            return
        target = self._resolve(node["$ref"])
        self.astray |= target is None
        yield target

    def _resolve(self, reference: object) -> Any | None:  # noqa: ANN401 - any part of a schema
        """Return the part that a pointer into this schema names."""
        if not isinstance(reference, str):
            return None
        document, _, pointer = unquote(reference).partition("/")
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
            raise TooCostlyError
        return part if isinstance(part, dict | bool) else None
