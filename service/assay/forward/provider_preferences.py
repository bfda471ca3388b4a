"""The `provider` object of an OpenRouter request, as a message; every fault names its field.

Numbers may come as strings where OpenRouter allows both; `sort` may be a word or an object; a percentile preference
may be one number, which means p50 (reference/openrouter.md §4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from assay.engine.errors import InvalidField
from assay.v1 import routing_pb2 as pb

Json = Mapping[str, Any]


def provider_preferences(value: object) -> pb.ProviderPreferences:
    """Read a whole object; unknown keys and wrong types are refused by name."""
    message = pb.ProviderPreferences()
    for key, item in table("provider", value).items():
        read = FIELDS.get(key)
        if read is None:
            raise InvalidField("provider", key, f"one of {', '.join(sorted(FIELDS))}")
        if item is not None:
            read(message, key, item)
    return message


def table(name: str, value: object) -> Json:
    """An object with text keys."""
    if not isinstance(value, Mapping):
        raise InvalidField(name, value, "an object")
    return value


def words(message: pb.ProviderPreferences, key: str, value: object) -> None:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidField(f"provider.{key}", value, "a list of texts")
    getattr(message, key).extend(value)


def flag(message: pb.ProviderPreferences, key: str, value: object) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidField(f"provider.{key}", value, "true or false")
    setattr(message, key, value)


def word(message: pb.ProviderPreferences, key: str, value: object) -> None:
    """One text."""
    if not isinstance(value, str):
        raise InvalidField(f"provider.{key}", value, "a text")
    setattr(message, key, value)


def sort(message: pb.ProviderPreferences, key: str, value: object) -> None:
    """A word, or an object with `by` and `partition`."""
    parts = {"by": value} if isinstance(value, str) else table(f"provider.{key}", value)
    for name, item in parts.items():
        if name not in ("by", "partition"):
            raise InvalidField(f"provider.{key}", name, "one of by, partition")
        if item is not None:
            if not isinstance(item, str):
                raise InvalidField(f"provider.{key}.{name}", item, "a text")
            setattr(message.sort, name, item)


def numbers(message: pb.ProviderPreferences, key: str, value: object) -> None:
    """An object of numbers; a bare number is the median of a percentile preference."""
    target = getattr(message, key)
    known = [field.name for field in target.DESCRIPTOR.fields]
    scalar = key != "max_price" and isinstance(value, (int, float, str))
    for name, item in ({"p50": value} if scalar else table(f"provider.{key}", value)).items():
        if name not in known:
            raise InvalidField(f"provider.{key}", name, f"one of {', '.join(known)}")
        if item is not None:
            setattr(target, name, number(f"provider.{key}.{name}", item))


def number(name: str, value: object) -> float:
    """A number, or the text of one."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise InvalidField(name, value, "a number")


FIELDS: Mapping[str, Callable[[pb.ProviderPreferences, str, object], None]] = {
    "order": words,
    "only": words,
    "ignore": words,
    "quantizations": words,
    "allow_fallbacks": flag,
    "require_parameters": flag,
    "zdr": flag,
    "enforce_distillable_text": flag,
    "data_collection": word,
    "sort": sort,
    "max_price": numbers,
    "preferred_min_throughput": numbers,
    "preferred_max_latency": numbers,
}
