"""Requests: a message, each field read once, becomes a `Request`; and back, for clients of our own."""

from __future__ import annotations

from assay.engine.errors import InvalidField
from assay.engine.world.catalog import Percentiles
from assay.engine.world.request import SORTS, MaxPrice, ProviderPreferences, Request, check_one_of
from assay.v1 import routing_pb2 as pb


def request_from(message: pb.DecideRequest) -> Request:
    """Read every field once; what is out of range is refused by its path in the message."""
    seed = message.seed
    if not seed and message.HasField("seed"):
        raise InvalidField("seed", "", "16 or 32 bytes")
    return Request(
        model=message.model,
        models=tuple(message.models),
        tenant=message.tenant,
        request_id=message.request_id,
        tools=message.tools,
        tool_choice=message.tool_choice if message.HasField("tool_choice") else None,
        parameters=tuple(message.parameters),
        max_tokens=message.max_tokens if message.HasField("max_tokens") else None,
        prompt_tokens=message.prompt_tokens if message.HasField("prompt_tokens") else None,
        input_modalities=tuple(message.input_modalities),
        provider=preferences_from(message.provider)
        if message.HasField("provider")
        else ProviderPreferences(),
        service_tier=message.service_tier if message.HasField("service_tier") else None,
        session_id=message.session_id,
        seed=seed,
        min_policy_revision=message.min_policy_revision,
    )


def preferences_from(message: pb.ProviderPreferences) -> ProviderPreferences:
    """Read OpenRouter's `provider` object; what is absent takes the documented default."""
    sort = message.sort
    by = sort.by if sort.HasField("by") else None
    if by is not None:
        check_one_of("provider.sort.by", by, SORTS)
    return ProviderPreferences(
        order=tuple(message.order),
        only=tuple(message.only),
        ignore=tuple(message.ignore),
        allow_fallbacks=message.allow_fallbacks if message.HasField("allow_fallbacks") else True,
        require_parameters=message.require_parameters,
        data_collection=message.data_collection if message.HasField("data_collection") else "allow",
        zdr=message.zdr,
        enforce_distillable_text=message.enforce_distillable_text,
        quantizations=tuple(message.quantizations),
        sort=by,
        partition=sort.partition if sort.HasField("partition") else "model",
        max_price=max_price_from(message.max_price),
        preferred_min_throughput=percentiles_from(message.preferred_min_throughput),
        preferred_max_latency=percentiles_from(message.preferred_max_latency),
    )


def max_price_from(message: pb.MaxPrice) -> MaxPrice:
    """Read limits; a limit of 0 is a limit, an absent one is none."""
    return MaxPrice(
        prompt=message.prompt if message.HasField("prompt") else None,
        completion=message.completion if message.HasField("completion") else None,
        request=message.request if message.HasField("request") else None,
        image=message.image if message.HasField("image") else None,
        audio=message.audio if message.HasField("audio") else None,
    )


def percentiles_from(message: pb.Percentiles) -> Percentiles:
    """Read the points that are given."""
    return Percentiles(
        p50=message.p50 if message.HasField("p50") else None,
        p75=message.p75 if message.HasField("p75") else None,
        p90=message.p90 if message.HasField("p90") else None,
        p99=message.p99 if message.HasField("p99") else None,
    )


def message_from(request: Request) -> pb.DecideRequest:
    """The message that `request_from` reads as this request."""
    return pb.DecideRequest(
        model=request.model,
        models=request.models,
        tenant=request.tenant,
        request_id=request.request_id,
        tools=request.tools,
        tool_choice=request.tool_choice,
        parameters=request.parameters,
        max_tokens=request.max_tokens,
        prompt_tokens=request.prompt_tokens,
        input_modalities=request.input_modalities,
        provider=preferences_message(request.provider),
        service_tier=request.service_tier,
        session_id=request.session_id,
        seed=request.seed or None,
        min_policy_revision=request.min_policy_revision,
    )


def preferences_message(preferences: ProviderPreferences) -> pb.ProviderPreferences:
    """The message that `preferences_from` reads as these preferences."""
    return pb.ProviderPreferences(
        order=preferences.order,
        only=preferences.only,
        ignore=preferences.ignore,
        allow_fallbacks=preferences.allow_fallbacks,
        require_parameters=preferences.require_parameters,
        data_collection=preferences.data_collection,
        zdr=preferences.zdr,
        enforce_distillable_text=preferences.enforce_distillable_text,
        quantizations=preferences.quantizations,
        sort=pb.Sort(by=preferences.sort, partition=preferences.partition),
        max_price=max_price_message(preferences.max_price),
        preferred_min_throughput=percentiles_message(preferences.preferred_min_throughput),
        preferred_max_latency=percentiles_message(preferences.preferred_max_latency),
    )


def max_price_message(limits: MaxPrice) -> pb.MaxPrice:
    """The message that `max_price_from` reads as these limits."""
    return pb.MaxPrice(
        prompt=limits.prompt,
        completion=limits.completion,
        request=limits.request,
        image=limits.image,
        audio=limits.audio,
    )


def percentiles_message(value: Percentiles) -> pb.Percentiles:
    """Four points; what is not known stays unset."""
    return pb.Percentiles(p50=value.p50, p75=value.p75, p90=value.p90, p99=value.p99)
