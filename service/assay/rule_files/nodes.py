"""YAML as plain data that keeps the place of each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assay.engine.policy.rule_set import Expression, Parameter, Place

Plain = bool | int | float | str | None
Json = Plain | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value: `text` as the author wrote it, without quotes, and the `value` that it means.

    `written` maps offsets of the text to places. It is `None` for folded text, which has none.
    """

    place: Place
    text: str
    value: Plain
    written: Expression | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A YAML sequence."""

    place: Place
    items: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A YAML mapping, in file order.

    The readers below are lenient: a value that is missing or has another type reads as missing. The
    schema's check has reported it, and reading goes on to find the other faults.
    """

    place: Place
    entries: Mapping[str, MappingEntry] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Return whether a key is there, with any value."""
        return name in self.entries

    def get(self, name: str) -> Node | None:
        """Return the value of a key."""
        entry = self.entries.get(name)
        return entry.value if entry else None

    def place_of_key(self, name: str) -> Place:
        """Return the place of a key; without it, that of the table."""
        return self.entries[name].key.place if name in self.entries else self.place

    def place_of(self, name: str) -> Place:
        """Return the place of a key's value; without it, that of the table."""
        return self.entries[name].value.place if name in self.entries else self.place

    def scalar(self, name: str) -> Scalar | None:
        """Return a key's value, if it is a scalar and not null."""
        value = self.get(name)
        return value if isinstance(value, Scalar) and value.value is not None else None

    def text(self, name: str, default: str = "") -> str:
        """Return a key's text, or the default."""
        return self.maybe_text(name) or default

    def maybe_text(self, name: str) -> str | None:
        """Return a key's text, or `None`."""
        found = self.scalar(name)
        return found.value if found and isinstance(found.value, str) else None

    def flag(self, name: str) -> bool:
        """Return whether a key's value is true."""
        found = self.scalar(name)
        return found is not None and found.value is True

    def number(self, name: str) -> float | None:
        """Return a key's number, an int or a float as it is written."""
        found = self.scalar(name)
        if found is None or isinstance(found.value, bool | str | None):
            return None
        return found.value

    def double(self, name: str) -> float | None:
        """Return a key's number as a float."""
        found = self.number(name)
        return None if found is None else float(found)

    def whole(self, name: str) -> int | None:
        """Return a key's whole number."""
        found = self.number(name)
        return None if found is None else int(found)

    def table(self, name: str) -> Table:
        """Return a key's mapping, or an empty one."""
        value = self.get(name)
        return value if isinstance(value, Table) else Table(self.place)

    def items(self, name: str) -> tuple[Node, ...]:
        """Return a key's list items."""
        value = self.get(name)
        return value.items if isinstance(value, Listing) else ()

    def tables(self, name: str) -> tuple[Table, ...]:
        """Return a key's list items that are mappings."""
        return tuple(item for item in self.items(name) if isinstance(item, Table))

    def scalars(self, name: str) -> tuple[Scalar, ...]:
        """Return a key's list items that are text."""
        scalars = (item for item in self.items(name) if isinstance(item, Scalar))
        return tuple(item for item in scalars if isinstance(item.value, str))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a key's list of text."""
        return tuple(item.text for item in self.scalars(name))

    def wholes(self, name: str) -> tuple[int, ...]:
        """Return a key's list of whole numbers."""
        values = (item.value for item in self.items(name) if isinstance(item, Scalar))
        return tuple(int(value) for value in values if isinstance(value, int | float))

    def maybe_texts(self, name: str) -> tuple[str, ...] | None:
        """Return a key's list of text, or `None` without the key."""
        return self.texts(name) if self.has(name) else None

    def sub_tables(self) -> Mapping[str, Table]:
        """Return the entries that are mappings."""
        values = {name: entry.value for name, entry in self.entries.items()}
        return {name: value for name, value in values.items() if isinstance(value, Table)}


@dataclass(frozen=True, slots=True)
class MappingEntry:
    """One key of a table and its value."""

    key: Scalar
    value: Node


Node = Scalar | Listing | Table


def plain(node: Node) -> Json:
    """Return the same data without places."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Listing):
        return [plain(item) for item in node.items]
    return {name: plain(entry.value) for name, entry in node.entries.items()}


def parameter(node: Node) -> Parameter | None:
    """Return a parameter's value, or `None` for a node that cannot be one."""
    if isinstance(node, Listing):
        return tuple(item.text for item in node.items if isinstance(item, Scalar))
    return node.value if isinstance(node, Scalar) else None


def find(node: Node, path: Sequence[str | int]) -> Node:
    """Return the node at a JSON path, or the last node on the way that exists."""
    for step in path:
        found: Node | None = None
        if isinstance(node, Table) and isinstance(step, str):
            found = node.get(step)
        elif isinstance(node, Listing) and isinstance(step, int) and step < len(node.items):
            found = node.items[step]
        if found is None:
            return node
        node = found
    return node
