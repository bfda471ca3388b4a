"""Read the `provider` object of an OpenRouter request into the contract's message.

As at OpenRouter, numbers may be strings, `sort` may be a word or an object, and a percentile
preference may be one number, which means p50. Every error names its field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from assay.engine.errors import InvalidField
from assay.v1 import routing_pb2 as pb

_Reader = Callable[[pb.ProviderPreferences, str, object], None]
_is_decimal: Final = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?").fullmatch


def provider_preferences(value: object) -> pb.ProviderPreferences:
    """Read the whole object; raise InvalidField for unknown keys and wrong types."""
    message = pb.ProviderPreferences()
    for key, item in _object("provider", value).items():
        read = _READERS.get(key)
        if read is None:
            raise InvalidField("provider", key, f"one of {', '.join(sorted(_READERS))}")
        if item is not None:
            read(message, key, item)
    return message


def _object(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidField(name, value, "an object")
    return value


def _read_texts(message: pb.ProviderPreferences, key: str, value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidField(f"provider.{key}", value, "a list of texts")
    getattr(message, key).extend(value)


def _read_scalar(message: pb.ProviderPreferences, key: str, value: object) -> None:
    kind, expected = (str, "a text") if key == "data_collection" else (bool, "true or false")
    if not isinstance(value, kind):
        raise InvalidField(f"provider.{key}", value, expected)
    setattr(message, key, value)


def _read_sort(message: pb.ProviderPreferences, key: str, value: object) -> None:
    fields = {"by": value} if isinstance(value, str) else _object(f"provider.{key}", value)
    for name, item in fields.items():
        if name not in ("by", "partition"):
            raise InvalidField(f"provider.{key}", name, "one of by, partition")
        if item is not None:
            if not isinstance(item, str):
                raise InvalidField(f"provider.{key}.{name}", item, "a text")
            setattr(message.sort, name, item)


def _read_numbers(message: pb.ProviderPreferences, key: str, value: object) -> None:
    target = getattr(message, key)
    known = [field.name for field in target.DESCRIPTOR.fields]
    is_median = key != "max_price" and isinstance(value, (int, float, str))
    fields = {"p50": value} if is_median else _object(f"provider.{key}", value)
    for name, item in fields.items():
        if name not in known:
            raise InvalidField(f"provider.{key}", name, f"one of {', '.join(known)}")
        if item is not None:
            setattr(target, name, _number(f"provider.{key}.{name}", item))


def _number(name: str, value: object) -> float:
    number: float | None = None
    if isinstance(value, str):
        number = parse_decimal(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(OverflowError):
            number = float(value)
    if number is None or not math.isfinite(number):
        raise InvalidField(name, value, "a decimal number such as 0.5")
    return number


def parse_decimal(text: str) -> float | None:
    """Return a number in ASCII digits; `float` takes more: `1_0`, `nan`, other scripts, spaces."""
    return float(text) if _is_decimal(text) else None


_READERS: Final[Mapping[str, _Reader]] = {
    **dict.fromkeys(("order", "only", "ignore", "quantizations"), _read_texts),
    **dict.fromkeys(("allow_fallbacks", "require_parameters", "zdr"), _read_scalar),
    **dict.fromkeys(("enforce_distillable_text", "data_collection"), _read_scalar),
    "sort": _read_sort,
    **dict.fromkeys(("preferred_min_throughput", "preferred_max_latency"), _read_numbers),
    "max_price": _read_numbers,
}
