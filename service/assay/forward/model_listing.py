"""Models and endpoints in OpenRouter's form, read from CatalogService and cached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc

from assay.forward.errors import RETRY_AFTER_SECONDS, ErrorReply
from assay.forward.request import EndpointCapabilities
from assay.forward.supervision import Troubles
from assay.journal.backoff import Backoff
from assay.v1 import catalog_pb2 as pb, catalog_pb2_grpc, routing_pb2

_PAGE_SIZE: Final = 1000
_REFRESH_SECONDS: Final = 30.0
_BACKOFF: Final = Backoff(first=1.0, longest=_REFRESH_SECONDS)
_TIMEOUT_SECONDS: Final = 10.0
_PER_MILLION: Final = 1e-6
_UNKNOWN_CAPABILITIES: Final = EndpointCapabilities()
# OpenRouter's price name: our field, and what turns our unit into USD per token, request or image.
_PRICES: Final = {
    "prompt": ("prompt", _PER_MILLION),
    "completion": ("completion", _PER_MILLION),
    "input_cache_read": ("cache_read", _PER_MILLION),
    "input_cache_write": ("cache_write", _PER_MILLION),
    "audio": ("audio", _PER_MILLION),
    "request": ("request_usd", 1),
    "image": ("image_usd", 1),
}
_TOOL_CHOICES: Final = ("none", "auto", "required", "function")


class ModelListing:
    """The catalog as of some seconds ago; if it cannot be refreshed, the last one stays in use."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.troubles = Troubles("catalog")
        self._stub = catalog_pb2_grpc.CatalogServiceStub(channel)
        self._models: list[pb.Model] = []
        self._endpoints: list[pb.Endpoint] = []
        self._capabilities: dict[str, EndpointCapabilities] = {}

    def capabilities(self, endpoint_id: str) -> EndpointCapabilities:
        """Return what the catalog knows about an endpoint."""
        return self._capabilities.get(endpoint_id, _UNKNOWN_CAPABILITIES)

    async def run(self) -> None:
        """Refresh the catalog periodically until cancelled."""
        failures = 0
        while True:
            try:
                await self._refresh()
            except grpc.aio.AioRpcError as error:
                failures += 1
                code = error.code().name
                self.troubles.fail("refresh", f"the catalog cannot be refreshed: {code}")
                await asyncio.sleep(_BACKOFF.wait(failures))
            else:
                failures = 0
                self.troubles.recover_all()
                await asyncio.sleep(_REFRESH_SECONDS)

    async def _refresh(self) -> None:
        models: list[pb.Model] = []
        endpoints: list[pb.Endpoint] = []
        async for page in _pages(self._stub.ListModels, pb.ListModelsRequest(page_size=_PAGE_SIZE)):
            models += page.models
        request = pb.ListEndpointsRequest(page_size=_PAGE_SIZE)
        async for page in _pages(self._stub.ListEndpoints, request):
            endpoints += page.endpoints
        self._models, self._endpoints = models, endpoints
        self._capabilities = {
            e.endpoint_id: EndpointCapabilities(frozenset(e.supported_parameters), e.service_tier)
            for e in endpoints
        }

    def models(self) -> dict[str, Any]:
        """Return `GET /v1/models`, as clients of OpenRouter and of OpenAI read it."""
        by_model: dict[str, list[pb.Endpoint]] = {}
        for endpoint in self._endpoints:
            by_model.setdefault(endpoint.model, []).append(endpoint)
        data = [_model(each, by_model.get(each.model, [])) for each in self._models]
        return {"object": "list", "data": data}

    async def model(self, name: str) -> dict[str, Any]:
        """Return `GET /v1/models/{author}/{slug}`; raise ErrorReply."""
        return _model(*await self._read(name))

    async def endpoints(self, name: str) -> dict[str, Any]:
        """Return `GET /v1/models/{author}/{slug}/endpoints`; raise ErrorReply."""
        read, listed = await self._read(name)
        model = _model(read, listed)
        shared = ("id", "name", "created", "description", "architecture")
        endpoints = [_endpoint(each, model["name"]) for each in listed]
        return {"data": {**{key: model[key] for key in shared}, "endpoints": endpoints}}

    async def _read(self, name: str) -> tuple[pb.Model, Sequence[pb.Endpoint]]:
        """Return a model and its endpoints as of now; raise ErrorReply."""
        request = pb.ListEndpointsRequest(model=name, page_size=_PAGE_SIZE)
        try:
            read = await self._stub.GetModel(
                pb.GetModelRequest(model=name), timeout=_TIMEOUT_SECONDS
            )
            listed = await self._stub.ListEndpoints(request, timeout=_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                code, message = "model_not_found", error.details() or ""
                raise ErrorReply(404, message, code, code=code) from None
            raise ErrorReply(
                503, "the catalog is not available", "decider_unavailable",
                retry_after=RETRY_AFTER_SECONDS,
            ) from None  # fmt: skip
        return read.model, listed.endpoints


async def _pages(call: Any, request: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - any List method
    while True:
        page = await call(request, timeout=_TIMEOUT_SECONDS, wait_for_ready=True)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _model(value: pb.Model, endpoints: Sequence[pb.Endpoint]) -> dict[str, Any]:
    """Return a model with the prices of its cheapest endpoint and the largest of the limits."""
    cheapest = min(
        endpoints,
        key=lambda e: (not e.prices.HasField("prompt"), e.prices.prompt),
        default=pb.Endpoint(),
    )
    has_context = value.HasField("context_length")
    context = value.context_length if has_context else _largest(endpoints, "context_length")
    inputs = list(value.input_modalities) or ["text"]
    outputs = list(value.output_modalities) or ["text"]
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
        "pricing": _pricing(cheapest.prices),
        "top_provider": {
            "context_length": context,
            "max_completion_tokens": _largest(endpoints, "max_completion_tokens"),
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": sorted(
            {p for each in endpoints for p in each.supported_parameters}
        ),
        "default_parameters": None,
        "supported_voices": None,
        "links": {"details": f"/v1/models/{value.model}/endpoints"},
    }


def _endpoint(value: pb.Endpoint, model_name: str) -> dict[str, Any]:
    has_tool_choice = "tool_choice" in value.supported_parameters
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
        "max_completion_tokens": _optional(value, "max_completion_tokens"),
        "max_prompt_tokens": _optional(value, "max_prompt_tokens"),
        "pricing": _pricing(value.prices),
        "supported_parameters": list(value.supported_parameters),
        "supports_tool_choice": dict.fromkeys(_TOOL_CHOICES, has_tool_choice),
        "supports_implicit_caching": value.implicit_caching,
        "supports_diarization": False,
        "native_tools": {},
        "status": value.status,
        "uptime_last_5m": None,
        "uptime_last_30m": _optional(value, "uptime_30m_percent"),
        "uptime_last_1d": _optional(value, "uptime_1d_percent"),
        "latency_last_30m": _percentiles(value.latency_s, 1000.0),
        "throughput_last_30m": _percentiles(value.throughput_tps, 1.0),
    }


def _optional(value: pb.Endpoint | pb.Prices, name: str) -> Any:  # noqa: ANN401 - any field
    known = value.HasField(name)  # type: ignore[arg-type] # the stubs want literals
    return getattr(value, name) if known else None


def _largest(endpoints: Sequence[pb.Endpoint], name: str) -> int | None:
    stated = [_optional(each, name) for each in endpoints]
    return max((value for value in stated if value is not None), default=None)


def _pricing(prices: pb.Prices) -> dict[str, str]:
    """Return USD per token, request or image as decimal text.

    A missing token price is -1, since a missing price does not mean free of charge.
    """
    pricing = {"prompt": "-1", "completion": "-1"}
    for name, (field, factor) in _PRICES.items():
        price = _optional(prices, field)
        if price is not None:
            pricing[name] = f"{price * factor:.12f}".rstrip("0").rstrip(".")
    return pricing


def _percentiles(value: routing_pb2.Percentiles, factor: float) -> dict[str, float] | None:
    """Return four percentiles in OpenRouter's unit, or `None` without a median."""
    if not value.HasField("p50"):
        return None
    return {name: getattr(value, name) * factor for name in ("p50", "p75", "p90", "p99")}
