"""Requests: a message becomes a `Request`, whose fields have the same names."""

from __future__ import annotations

from typing import Any, Final

from assay.engine.errors import InvalidField
from assay.engine.world.catalog import Percentiles
from assay.engine.world.declarations import declared_fields
from assay.engine.world.request import SORTS, MaxPrice, ProviderPreferences, Request, check_one_of
from assay.v1 import routing_pb2 as pb

_LISTS: Final = frozenset(
    item.path.rpartition(".")[2] for item in declared_fields(Request) if item.kind is tuple
)


def request_from(message: pb.DecideRequest) -> Request:
    """Return the request that a message states; a missing field has its documented default.

    Raises `InvalidField` with the field's path in the message.
    """
    values = _set_fields(message)
    if values.get("seed") == b"":
        raise InvalidField("seed", "", "16 or 32 bytes")
    if "provider" in values:
        values["provider"] = _preferences_from(values["provider"])
    return Request(**{"model": "", **values})


def _preferences_from(message: pb.ProviderPreferences) -> ProviderPreferences:
    values = _set_fields(message)
    if "sort" in values:
        sort = _set_fields(values.pop("sort"))
        if "by" in sort:
            check_one_of("provider.sort.by", sort["by"], SORTS)
            values["sort"] = sort["by"]
        if "partition" in sort:
            values["partition"] = sort["partition"]
    if "max_price" in values:
        values["max_price"] = MaxPrice(**_set_fields(values["max_price"]))
    for name in ("preferred_min_throughput", "preferred_max_latency"):
        if name in values:
            values[name] = Percentiles(**_set_fields(values[name]))
    return ProviderPreferences(**values)


def _set_fields(message: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the messages above
    """Return the fields that are set: each is read once, with lists as tuples."""
    return {
        field.name: tuple(value) if field.name in _LISTS else value
        for field, value in message.ListFields()
    }
