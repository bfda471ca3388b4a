"""The requests of a test file: every field by its name, checked as a caller's would be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from assay.engine.errors import InvalidField
from assay.engine.policy.faults import Fault
from assay.engine.world.catalog import Model
from assay.engine.world.request import MaxPrice, ProviderPreferences, Request
from assay.rule_files.fixtures import doubles, named_model, percentiles
from assay.rule_files.nodes import Table, find

SPELT: Final = {
    "provider.sort": "provider.sort.by"
}  # or a text in place of the mapping, which is then found


def request(table: Table, models: Mapping[str, Model], faults: list[Fault]) -> Request | None:
    """The request that a table states, for the file's only model where it names none; `None` where it is faulty."""
    only = next(iter(models)) if len(models) == 1 else ""
    name = table.text("model", only)
    if not name:
        if models:
            faults.append(
                Fault(table.place, f"key `model` is missing: the file has {len(models)} models")
            )
        return None
    try:
        return Request(
            model=named_model(name, models),
            models=tuple(named_model(text, models) for text in table.texts("models")),
            tenant=table.text("tenant"),
            request_id=table.text("request_id"),
            tools=table.whole("tools") or 0,
            tool_choice=table.maybe_text("tool_choice"),
            parameters=table.texts("parameters"),
            max_tokens=table.whole("max_tokens"),
            prompt_tokens=table.whole("prompt_tokens"),
            input_modalities=table.texts("input_modalities"),
            provider=preferences(table.table("provider")),
            service_tier=table.maybe_text("service_tier"),
            session_id=table.text("session_id"),
            seed=seed(table.text("seed")),
            min_policy_revision=table.whole("min_policy_revision") or 0,
        )
    except InvalidField as error:
        field = re.sub(r"\[\d+\]", "", error.field)
        place = find(table, SPELT.get(field, field).split(".")).place
        if all(fault.place != place for fault in faults):
            faults.append(Fault(place, str(error)))
        return None


def preferences(table: Table) -> ProviderPreferences:
    """The provider preferences; raises InvalidField for what a caller could not send."""
    sort = table.table("sort")
    return ProviderPreferences(
        order=table.texts("order"),
        only=table.texts("only"),
        ignore=table.texts("ignore"),
        allow_fallbacks=table.flag("allow_fallbacks", default=True),
        require_parameters=table.flag("require_parameters"),
        data_collection=table.text("data_collection", "allow"),
        zdr=table.flag("zdr"),
        enforce_distillable_text=table.flag("enforce_distillable_text"),
        quantizations=table.texts("quantizations"),
        sort=table.maybe_text("sort") or sort.maybe_text("by"),
        partition=sort.maybe_text("partition") or table.text("partition", "model"),
        max_price=MaxPrice(**doubles(table.table("max_price"), MaxPrice)),
        preferred_min_throughput=percentiles(table, "preferred_min_throughput"),
        preferred_max_latency=percentiles(table, "preferred_max_latency"),
    )


def seed(text: str) -> bytes:
    """The bytes of a seed in hex; what is none has been reported and reads as absent."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
