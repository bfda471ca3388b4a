"""The requests of a test file: every field by its name, checked as a caller's would be."""

from __future__ import annotations

import re
from collections.abc import Mapping

from assay.engine.errors import InvalidField
from assay.engine.policy.faults import Fault
from assay.engine.world.catalog import Model
from assay.engine.world.declarations import build
from assay.engine.world.request import Request
from assay.rule_files.fixtures import named_model, stated_values
from assay.rule_files.nodes import Table, find


def read_request(table: Table, models: Mapping[str, Model], faults: list[Fault]) -> Request | None:
    """Return the request that a table states, or `None` if it has a fault.

    It need not name its model if the file has only one.
    """
    name = table.text("model", next(iter(models)) if len(models) == 1 else "")
    if not name:
        if models:
            message = f"key `model` is missing: the file has {len(models)} models"
            faults.append(Fault(table.place, message))
        return None
    values = stated_values(Request, table)
    values["model"] = named_model(name, models)
    values["models"] = tuple(named_model(text, models) for text in table.texts("models"))
    values |= _sort(table.table("provider").table("sort"))
    try:
        return build(Request, values)
    except InvalidField as error:
        path = re.sub(r"\[\d+\]", "", error.field).split(".")
        if path == ["provider", "sort"]:
            path.append("by")  # without such a key, `find` returns the place of `sort`
        place = find(table, path).place
        if all(fault.place != place for fault in faults):
            faults.append(Fault(place, str(error)))
        return None


def _sort(table: Table) -> dict[str, object]:
    """Return the fields of a `provider.sort` that is a mapping instead of a word."""
    stated = {"sort": table.maybe_text("by"), "partition": table.maybe_text("partition")}
    return {f"provider.{name}": value for name, value in stated.items() if value is not None}
