"""The declaration of a field: how a value is spelled as a fact, an SQL column and a CSV column.

How it works. A class such as `Endpoint` declares each field once, next to its type:

    region: str | None = optional("region that it serves from")

`declared_fields(Endpoint)` returns the fields in order, with the type that the annotation states.
Code that spells fields loops over this list, at import time: facts, SQL rows, CSV import, fixtures
of rule tests, messages and the reference table. A spelling defaults to the field's own name; `None`
means that there is none.

A field that holds another declared class (`latency_s: Percentiles`) represents the fields of that
class. There, `{}` in the outer spelling or description is replaced by the inner one:
`latency.{}_s` and `p50` give `latency.p50_s`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from operator import attrgetter
from typing import Any, Final, TypedDict, TypeVar, Unpack, get_args, get_origin, get_type_hints

OWN_NAME: Final = ""
_KEY: Final = "spellings"

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Spellings:
    """The description, unit and spellings of a field.

    With `is_reading`, the value is a measurement, which changes and does not identify an endpoint.
    """

    description: str
    unit: str = ""
    fact: str | None = OWN_NAME
    column: str | None = OWN_NAME
    csv: str | None = OWN_NAME
    is_reading: bool = False

    def named(self, name: str) -> Spellings:
        """Return the spellings, by default the field's own name; CSV follows the column."""
        column = name if self.column == OWN_NAME else self.column
        return replace(
            self,
            fact=name if self.fact == OWN_NAME else self.fact,
            column=column,
            csv=column if self.csv == OWN_NAME else self.csv,
        )

    def around(self, inner: Spellings) -> Spellings:
        """Return the spellings of a field inside this one."""
        return replace(
            self,
            description=self.description.format(inner.description),
            unit=self.unit or inner.unit,
            fact=_joined(self.fact, inner.fact),
            column=_joined(self.column, inner.column),
            csv=_joined(self.csv, inner.csv),
        )


@dataclass(frozen=True, slots=True)
class Field:
    """One declared field: `path` leads to it from its class (`prices.prompt`), `get` reads it.

    `kind` is `bool`, `int`, `float`, `str` or `tuple`, the last one of texts.
    """

    path: str
    kind: type
    is_optional: bool
    spellings: Spellings
    get: Callable[[Any], Any]


class _Stated(TypedDict, total=False):
    fact: str | None
    column: str | None
    csv: str | None
    is_reading: bool


def spellings(
    description: str, unit: str = "", **stated: Unpack[_Stated]
) -> Mapping[str, Spellings]:
    """Return the metadata that declares a dataclass field."""
    return {_KEY: Spellings(description, unit, **stated)}


def optional(
    description: str, unit: str = "", *, default: object = None, **stated: Unpack[_Stated]
) -> Any:  # noqa: ANN401 - as dataclasses.field
    """Declare a dataclass field that has a default."""
    return field(default=default, metadata=spellings(description, unit, **stated))


@cache
def _hints(owner: Hashable) -> dict[str, Any]:
    return get_type_hints(owner)


@cache
def declared_fields(owner: type) -> tuple[Field, ...]:
    """Return the declared fields of a class in order, with those of declared classes inside it."""
    found: list[Field] = []
    hints = _hints(owner)
    for item in fields(owner):
        stated: Spellings | None = item.metadata.get(_KEY)
        if stated is None:
            continue
        hint, own = hints[item.name], stated.named(item.name)
        if not is_dataclass(hint):
            found.append(Field(item.name, *_type_of(hint), own, attrgetter(item.name)))
            continue
        for inner in declared_fields(hint if isinstance(hint, type) else type(hint)):
            path, spelled = f"{item.name}.{inner.path}", own.around(inner.spellings)
            found.append(Field(path, inner.kind, inner.is_optional, spelled, attrgetter(path)))
    return tuple(found)


def build(owner: type[Value], values: Mapping[str, object], **others: object) -> Value:
    """Build a value from its declared fields by path; `others` are not declared."""
    own: dict[str, Any] = dict(others)
    inside: dict[str, dict[str, object]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        if rest:
            inside.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    kinds = _hints(owner) if inside else {}  # type: ignore[arg-type]  # a class is hashable
    return owner(**own, **{name: build(kinds[name], found) for name, found in inside.items()})


def _joined(outer: str | None, inner: str | None) -> str | None:
    return outer.format(inner) if outer and inner else None


def _type_of(hint: object) -> tuple[type, bool]:
    """Return the plain type of an annotation, and whether it allows `None`."""
    options = [arg for arg in get_args(hint) if arg is not type(None)]
    is_optional = len(options) < len(get_args(hint))
    plain: Any = options[0] if is_optional else hint
    return get_origin(plain) or plain, is_optional
