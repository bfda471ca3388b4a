"""The catalog as OpenRouter shows it, read from CatalogService and kept for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import grpc
import structlog

from assay.forward.errors import ErrorReply
from assay.forward.request import EndpointCapabilities
from assay.v1 import catalog_pb2 as pb, catalog_pb2_grpc, routing_pb2

PAGE: Final = 1000
FRESH_SECONDS: Final = 30.0
TIMEOUT_SECONDS: Final = 10.0
PER_MILLION: Final = 1e-6
ANYTHING: Final = EndpointCapabilities()
TOKEN_PRICES: Final = {
    "prompt": "prompt", "completion": "completion", "input_cache_read": "cache_read",
    "input_cache_write": "cache_write", "audio": "audio",
}  # fmt: skip
UNIT_PRICES: Final = {"request": "request_usd", "image": "image_usd"}
CHOICES: Final = ("none", "auto", "required", "function")
log = structlog.get_logger("assay.forward")


class ModelListing:
    """Models and endpoints as of some seconds ago; what cannot be renewed goes on being used."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = catalog_pb2_grpc.CatalogServiceStub(channel)
        self._models: list[pb.Model] = []
        self._endpoints: list[pb.Endpoint] = []
        self._offers: dict[str, EndpointCapabilities] = {}

    def offer(self, endpoint_id: str) -> EndpointCapabilities:
        """What is known of an endpoint."""
        return self._offers.get(endpoint_id, ANYTHING)

    async def run(self) -> None:
        """Renew the catalog every so often until cancelled."""
        while True:
            try:
                await self.renew()
            except grpc.aio.AioRpcError as error:
                log.warning("catalog not renewed", code=error.code().name)
            await asyncio.sleep(FRESH_SECONDS)

    async def renew(self) -> None:
        """Read every model and endpoint anew."""
        models = [
            each
            async for page in pages(self._stub.ListModels, pb.ListModelsRequest(page_size=PAGE))
            for each in page.models
        ]
        endpoints = [
            each
            async for page in pages(
                self._stub.ListEndpoints, pb.ListEndpointsRequest(page_size=PAGE)
            )
            for each in page.endpoints
        ]
        self._models, self._endpoints = models, endpoints
        self._offers = {
            e.endpoint_id: EndpointCapabilities(frozenset(e.supported_parameters), e.service_tier)
            for e in endpoints
        }

    def models(self) -> dict[str, Any]:
        """`GET /v1/models`, as clients of OpenRouter and of OpenAI read it."""
        by_model: dict[str, list[pb.Endpoint]] = {}
        for endpoint in self._endpoints:
            by_model.setdefault(endpoint.model, []).append(endpoint)
        return {
            "object": "list",
            "data": [model(each, by_model.get(each.model, [])) for each in self._models],
        }

    async def endpoints(self, name: str) -> dict[str, Any]:
        """`GET /v1/models/{author}/{slug}/endpoints`; raises Refused."""
        try:
            read = await self._stub.GetModel(
                pb.GetModelRequest(model=name), timeout=TIMEOUT_SECONDS
            )
            listed = await self._stub.ListEndpoints(
                pb.ListEndpointsRequest(model=name, page_size=PAGE), timeout=TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                raise ErrorReply(
                    404, error.details() or "", "model_not_found", code="model_not_found"
                ) from None
            raise ErrorReply(
                503, "the catalog cannot be read", "decider_unavailable", retry_after=1.0
            ) from None
        shown = model(read.model, listed.endpoints)
        about = {
            key: shown[key] for key in ("id", "name", "created", "description", "architecture")
        }
        return {
            "data": {
                **about,
                "endpoints": [endpoint(each, shown["name"]) for each in listed.endpoints],
            }
        }


async def pages(call: Any, request: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - any method that lists
    """Every page of a list."""
    while True:
        page = await call(request, timeout=TIMEOUT_SECONDS, wait_for_ready=True)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def model(value: pb.Model, offered: Iterable[pb.Endpoint]) -> dict[str, Any]:
    """A model; its price is that of the cheapest endpoint, its limits are those of the longest."""
    offered = list(offered)
    cheapest = min(
        offered,
        key=lambda e: (not e.prices.HasField("prompt"), e.prices.prompt),
        default=pb.Endpoint(),
    )
    context = (
        value.context_length
        if value.HasField("context_length")
        else most(offered, "context_length")
    )
    inputs, outputs = (
        list(value.input_modalities) or ["text"],
        list(value.output_modalities) or ["text"],
    )
    return {
        "id": value.model,
        "canonical_slug": value.model,
        "object": "model",
        "owned_by": value.model.partition("/")[0],
        "name": value.name or value.model,
        "created": 0,
        "description": "",
        "context_length": context,
        "architecture": {
            "modality": f"{'+'.join(inputs)}->{'+'.join(outputs)}",
            "input_modalities": inputs,
            "output_modalities": outputs,
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": pricing(cheapest.prices),
        "top_provider": {
            "context_length": context,
            "max_completion_tokens": most(offered, "max_completion_tokens"),
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": sorted(
            {name for each in offered for name in each.supported_parameters}
        ),
        "default_parameters": None,
        "supported_voices": None,
        "links": {"details": f"/v1/models/{value.model}/endpoints"},
    }


def endpoint(value: pb.Endpoint, model_name: str) -> dict[str, Any]:
    """An endpoint."""
    choice = "tool_choice" in value.supported_parameters
    return {
        "name": f"{value.provider} | {value.model}",
        "endpoint_id": value.endpoint_id,
        "model_id": value.model,
        "model_name": model_name,
        "provider_name": value.provider,
        "tag": value.tag,
        "quantization": value.quantization or None,
        "service_tier": value.service_tier or None,
        "context_length": value.context_length,
        "max_completion_tokens": known(value, "max_completion_tokens"),
        "max_prompt_tokens": known(value, "max_prompt_tokens"),
        "pricing": pricing(value.prices),
        "supported_parameters": list(value.supported_parameters),
        "supports_tool_choice": dict.fromkeys(CHOICES, choice),
        "supports_implicit_caching": value.implicit_caching,
        "supports_diarization": False,
        "native_tools": {},
        "status": value.status,
        "uptime_last_5m": None,
        "uptime_last_30m": known(value, "uptime_30m_percent"),
        "uptime_last_1d": known(value, "uptime_1d_percent"),
        "latency_last_30m": percentiles(value.latency_s, 1000.0),
        "throughput_last_30m": percentiles(value.throughput_tps, 1.0),
    }


def known(value: pb.Endpoint | pb.Prices, name: str) -> Any:  # noqa: ANN401 - any field of the message
    """A field, or `None` where it is not known."""
    return getattr(value, name) if value.HasField(name) else None  # type: ignore[arg-type] # stubs want literals


def most(offered: Iterable[pb.Endpoint], name: str) -> int | None:
    """The largest of what endpoints state."""
    return max(
        (stated for each in offered if (stated := known(each, name)) is not None), default=None
    )


def pricing(prices: pb.Prices) -> dict[str, str]:
    """Decimal texts: USD per token, per request, per image; -1 where a price is not stated, which is not free."""
    factors = {**dict.fromkeys(TOKEN_PRICES, PER_MILLION), **dict.fromkeys(UNIT_PRICES, 1)}
    told = {key: known(prices, field) for key, field in {**TOKEN_PRICES, **UNIT_PRICES}.items()}
    stated = {
        key: decimal(price * factors[key]) for key, price in told.items() if price is not None
    }
    return {"prompt": "-1", "completion": "-1", **stated}


def decimal(price: float) -> str:
    """A price without an exponent."""
    return f"{price:.12f}".rstrip("0").rstrip(".")


def percentiles(value: routing_pb2.Percentiles, factor: float) -> dict[str, float] | None:
    """Four points in OpenRouter's unit, where the median is known."""
    if not value.HasField("p50"):
        return None
    return {name: getattr(value, name) * factor for name in ("p50", "p75", "p90", "p99")}
