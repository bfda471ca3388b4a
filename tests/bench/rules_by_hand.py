"""The default request rules in plain Python: one check per rule that applies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from assay.engine.policy.verdict import RuleFinding
from assay.engine.snapshot.parts import ModelView
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.request import MaxPrice, Request

Row = Mapping[str, Any]
Check = Callable[[Row], RuleFinding | None]
PRICES = ("prompt", "completion", "request", "image", "audio")
WORDS = {
    "completion": "the completion price is above the limit or unknown",
    "request": "the price per request is above the limit or unknown",
    "image": "the price per image is above the limit or unknown",
    "audio": "the audio price is above the limit or unknown",
}


@dataclass(frozen=True, slots=True)
class Tenant:
    """The settings of a tenant, by the operator and by the tenant itself."""

    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    zdr: bool = False
    deny_data_collection: bool = False


NO_SETTINGS = Tenant()


def tenant_of(request: Request, snapshot: Snapshot) -> Tenant:
    view = snapshot.tenants.get(request.tenant)
    if view is None:
        return NO_SETTINGS
    model = request.model.partition(":")[0]
    own = [p for p in view.preferences if p.model is None or p.model == model]
    ignored = tuple(p.target for p in own if p.kind == "ignore")
    pins = tuple(p.target for p in own if p.kind == "pin")
    if view.settings is None:
        return Tenant((), ignored, pins)
    own_settings = view.settings
    return Tenant(
        own_settings.only,
        (*own_settings.ignore, *ignored),
        pins,
        own_settings.zdr,
        own_settings.deny_data_collection,
    )


def means_any(row: Row, names: Iterable[str]) -> bool:
    provider, tag = row["provider"], row["tag"]
    return any(name == tag or (name == provider and not row["service_tier"]) for name in names)


def rule(name: str, reason: str, message: str, holds: Callable[[Row], bool | None]) -> Check:
    """Return a check whose finding is false or absent, with one message for both."""
    false = RuleFinding(name, reason, message, "false", "default")
    absent = RuleFinding(name, reason, message, "absent", "default")

    def check(row: Row) -> RuleFinding | None:
        held = holds(row)
        return None if held else absent if held is None else false

    return check


def checks_for(request: Request, view: ModelView, tenant: Tenant) -> list[Check]:
    cohort = next(iter(view.cohort.values()))
    if cohort["service_tiers"]:
        raise NotImplementedError("service tiers")
    return [
        *names_checks(request, tenant),
        *data_checks(request, view, tenant),
        *price_checks(request.provider.max_price),
        *capability_checks(request, cohort),
        *length_checks(request),
        *modality_checks(request, view),
    ]


def names_checks(request: Request, tenant: Tenant) -> Iterable[Check]:
    wants = request.provider
    if tenant.only:
        words = "the tenant is not allowed to use this provider"
        yield rule(
            "tenant_allows", "allowed_providers", words, lambda row: means_any(row, tenant.only)
        )
    if tenant.ignore:
        words = "the tenant ignores this provider"
        yield rule("tenant_ignores", "ignored", words, lambda row: not ignored(row, tenant.ignore))
    if wants.only:
        yield rule(
            "only",
            "only",
            "provider.only does not name the endpoint",
            lambda row: means_any(row, wants.only),
        )
    if wants.ignore:
        words = "provider.ignore names the endpoint"
        yield rule(
            "ignored_by_request", "ignored", words, lambda row: not means_any(row, wants.ignore)
        )
    if wants.order and not wants.allow_fallbacks:
        words = "provider.order does not name the endpoint, and fallbacks are not allowed"
        yield rule(
            "order_without_fallbacks", "only", words, lambda row: means_any(row, wants.order)
        )


def ignored(row: Row, names: tuple[str, ...]) -> bool:
    return row["provider"] in names or means_any(row, names)


def data_checks(request: Request, view: ModelView, tenant: Tenant) -> Iterable[Check]:
    wants = request.provider
    if wants.zdr or tenant.zdr:
        words = "the endpoint is not known to keep no data, which the request requires"
        yield rule("zdr", "data_policy:zdr", words, lambda row: row.get("zdr"))
    if wants.data_collection == "deny" or tenant.deny_data_collection:
        words = "the endpoint is not known to collect no data, which the request requires"
        yield rule("data_collection", "data_policy:training", words, keeps_nothing)
    if wants.enforce_distillable_text:
        words = "the model's author is not known to allow distillation"
        distillable: Any = view.facts.get("distillable")
        yield rule("distillable", "policy", words, lambda _: distillable)


def keeps_nothing(row: Row) -> bool | None:
    collects = row.get("collects_data")
    return None if collects is None else not collects


def price_checks(limits: MaxPrice) -> Iterable[Check]:
    for part in PRICES:
        limit = getattr(limits, part)
        if limit is not None:
            yield prompt_price(limit) if part == "prompt" else price(part, limit)


def prompt_price(limit: float) -> Check:
    def check(row: Row) -> RuleFinding | None:
        charged = row.get("price.prompt")
        if charged is None:
            return RuleFinding(
                "max_price_prompt",
                "max_price",
                "the prompt price is unknown",
                "absent",
                "default",
            )
        if charged <= limit:
            return None
        message = f"prompt price {charged:.4f} is above {limit:.4f}"
        return RuleFinding("max_price_prompt", "max_price", message, "false", "default")

    return check


def price(part: str, limit: float) -> Check:
    path = f"price.{part}"

    def within(row: Row) -> bool | None:
        charged = row.get(path)
        return None if charged is None else charged <= limit

    return rule(f"max_price_{part}", "max_price", WORDS[part], within)


def capability_checks(request: Request, cohort: Row) -> Iterable[Check]:
    wants, offered = request.provider, cohort["supported_parameters"]
    if wants.quantizations:
        yield quantization(wants.quantizations)
    if wants.require_parameters:
        yield required(request.parameters)
    if request.tools > 0 and "tools" in offered:
        words = "the endpoint does not support tools, but others of the model do"
        yield rule("tools", "tools", words, lambda row: "tools" in row["supported_parameters"])
    for name in ("response_format", "verbosity"):
        if name in request.parameters and name in offered:
            words = f"the endpoint does not support {name}, but others of the model do"
            yield rule(name, "require_parameters", words, partial(supports, parameters=(name,)))


def quantization(wanted: tuple[str, ...]) -> Check:
    def check(row: Row) -> RuleFinding | None:
        if row["quantization"] in wanted:
            return None
        message = f"the request does not ask for quantization {row['quantization']}"
        return RuleFinding("quantization", "quantization", message, "false", "default")

    return check


def required(parameters: tuple[str, ...]) -> Check:
    def check(row: Row) -> RuleFinding | None:
        supported = row["supported_parameters"]
        for name in parameters:
            if name not in supported:
                message = f"the endpoint does not support {name}"
                reason = "require_parameters"
                return RuleFinding(reason, reason, message, "false", "default")
        return None

    return check


def supports(row: Row, parameters: Iterable[str]) -> bool:
    supported = row["supported_parameters"]
    return all(parameter in supported for parameter in parameters)


def length_checks(request: Request) -> Iterable[Check]:
    if (tokens := request.max_tokens) is not None:
        words = "max_tokens is above the longest completion of the endpoint"
        yield rule(
            "completion_limit",
            "context_length",
            words,
            lambda row: tokens <= row.get("completion_limit", tokens),
        )
    if (prompt := request.prompt_tokens) is not None:
        words = "the prompt is longer than the endpoint accepts"
        yield rule("context_length", "context_length", words, lambda row: accepts(row, prompt))


def completes(row: Row, tokens: int) -> bool:
    return bool(tokens <= row.get("completion_limit", tokens))


def accepts(row: Row, tokens: int) -> bool:
    return bool(
        tokens <= row.get("context_length", tokens)
        and tokens <= row.get("max_prompt_tokens", tokens)
    )


def modality_checks(request: Request, view: ModelView) -> Iterable[Check]:
    if not request.input_modalities:
        return
    accepted: Any = view.facts.get("input_modalities")
    others = [m for m in request.input_modalities if m != "text"]
    words = "the model is not known to accept every input modality of the request"
    held = not others or (None if accepted is None else all(m in accepted for m in others))
    yield rule("input_modalities", "policy", words, lambda _: held)
