"""From catalog values and pools to messages."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from assay.engine.pool.report import PoolEndpoint, PoolReport
from assay.engine.world.catalog import Endpoint, Model, PriceOverride, Prices
from assay.rpc.convert.plan import facts, finding
from assay.rpc.convert.request import percentiles_message
from assay.v1 import catalog_pb2 as pb


def stamp(at: datetime | None) -> Timestamp | None:
    """An instant, `None` where there is none."""
    if at is None:
        return None
    made = Timestamp()
    made.FromDatetime(at)
    return made


def model(value: Model) -> pb.Model:
    """A model; what is not known stays unset."""
    return pb.Model(
        model=value.model,
        name=value.name,
        context_length=value.context_length,
        input_modalities=value.input_modalities or (),
        output_modalities=value.output_modalities or (),
        distillable=value.distillable,
    )


def endpoint(value: Endpoint) -> pb.Endpoint:
    """An endpoint; what is not known stays unset."""
    return pb.Endpoint(
        endpoint_id=value.endpoint_id,
        model=value.model,
        provider=value.provider,
        tag=value.tag,
        quantization=value.quantization,
        service_tier=value.service_tier,
        context_length=value.context_length,
        max_completion_tokens=value.max_completion_tokens,
        max_prompt_tokens=value.max_prompt_tokens,
        supported_parameters=value.supported_parameters,
        prices=prices(value.prices),
        overrides=map(override, value.overrides),
        status=value.status,
        uptime_30m_percent=value.uptime_30m_percent,
        uptime_1d_percent=value.uptime_1d_percent,
        latency_s=percentiles_message(value.latency_s),
        throughput_tps=percentiles_message(value.throughput_tps),
        zdr=value.zdr,
        collects_data=value.collects_data,
        implicit_caching=value.implicit_caching,
    )


def prices(value: Prices) -> pb.Prices:
    """What an endpoint charges; a price that is not stated stays unset."""
    return pb.Prices(
        prompt=value.prompt,
        completion=value.completion,
        cache_read=value.cache_read,
        cache_write=value.cache_write,
        audio=value.audio,
        request_usd=value.request_usd,
        image_usd=value.image_usd,
    )


def override(value: PriceOverride) -> pb.PriceOverride:
    """Prices on conditions."""
    return pb.PriceOverride(
        prices=prices(value.prices),
        min_prompt_tokens=value.min_prompt_tokens,
        utc_start_minute=value.utc_start,
        utc_end_minute=value.utc_end,
        utc_days=value.utc_days,
    )


def pool(value: PoolReport) -> pb.Pool:
    """A pool with the verdict and the facts of every endpoint of its model."""
    return pb.Pool(
        model=value.model,
        variant=value.variant,
        binding=value.binding,
        rule_set=value.rule_set,
        as_of=stamp(value.as_of),
        snapshot_id=value.snapshot_id,
        members=map(pool_endpoint, value.members),
        others=map(pool_endpoint, value.others),
    )


def pool_endpoint(value: PoolEndpoint) -> pb.PoolEndpoint:
    """One endpoint as its pool sees it."""
    verdict = value.verdict
    return pb.PoolEndpoint(
        endpoint_id=verdict.endpoint_id,
        provider=verdict.provider,
        tag=verdict.tag,
        facts=facts(value.facts),
        broken=map(finding, verdict.broken),
        abstained=map(finding, verdict.abstained),
        shadow=map(finding, verdict.shadow),
        state=value.state or "",
        since=stamp(value.since),
    )
