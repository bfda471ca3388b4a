"""Bad input over gRPC: a status with one clear line, and the next request is answered."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tests.support.commands import HOMOGLYPH, MEGABYTE
from tests.support.server_calls import decide

from assay.rpc.server import MAX_MESSAGE_BYTES
from assay.rpc.status import REASON_KEY
from assay.v1 import catalog_pb2, catalog_pb2_grpc, routing_pb2 as pb, routing_pb2_grpc as pb_grpc

MODEL = "lab/mixed"
BAD = "INVALID_ARGUMENT"


def untyped(value: Any) -> Any:
    """The published types of grpcio differ in what they say of raw calls and metadata."""
    return value


def wishes(**fields: Any) -> pb.DecideRequest:
    return pb.DecideRequest(model=MODEL, provider=pb.ProviderPreferences(**fields))


@pytest.mark.parametrize(
    ("request_", "code", "line"),
    [
        pytest.param(pb.DecideRequest(), BAD, "model: '' is not", id="no model"),
        pytest.param(
            pb.DecideRequest(model="no/such"),
            "NOT_FOUND",
            "model: 'no/such' is not in",
            id="unknown model",
        ),
        pytest.param(
            pb.DecideRequest(model="lab/mixed:turbo"),
            BAD,
            "model: 'lab/mixed:turbo' has the unknown "
            "variant 'turbo', known are exacto, floor, nitro",
            id="unknown variant",
        ),
        pytest.param(
            pb.DecideRequest(model="lab/mixed:"), BAD, "model: 'lab/mixed:' is", id="no suffix"
        ),
        pytest.param(
            pb.DecideRequest(model="lab"), BAD, "model: 'lab' is not a name", id="no author"
        ),
        pytest.param(
            pb.DecideRequest(model=MEGABYTE), BAD, "characters) is not at most 256", id="1 MB model"
        ),
        pytest.param(
            pb.DecideRequest(model="lab/mixed" + ":exacto" * 40),
            BAD,
            "256 characters",
            id="40 suffixes",
        ),
        pytest.param(
            pb.DecideRequest(model=HOMOGLYPH), BAD, r"'l\u0430b/mixed' is not", id="homoglyph"
        ),
        pytest.param(
            pb.DecideRequest(model="lab/mixed\u202e"), BAD, r"\u202e' is not", id="right to left"
        ),
        pytest.param(pb.DecideRequest(model="lab/mixed\0"), BAD, r"\x00' is not", id="NUL"),
        pytest.param(pb.DecideRequest(model="lab/mixed\n"), BAD, r"\n' is not", id="end of line"),
        pytest.param(
            pb.DecideRequest(model=MODEL, tenant="a\u2066b"), BAD, "tenant: ", id="isolate"
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, session_id=MEGABYTE), BAD, "session_id: ", id="session"
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, request_id="\x1b[31m"), BAD, "request_id: ", id="escape"
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, models=["a/b"] * 33), BAD, "models: '33 it", id="models"
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, models=[MODEL, ""]), BAD, "models[1]: ''", id="empty one"
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, models=["no/such"]),
            "NOT_FOUND",
            "'no/such'",
            id="unknown further",
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, parameters=["p"] * 257),
            BAD,
            "parameters: '257",
            id="parameters",
        ),
        pytest.param(pb.DecideRequest(model=MODEL, tools=-1), BAD, "tools: -1 is not", id="tools"),
        pytest.param(
            pb.DecideRequest(model=MODEL, max_tokens=-5), BAD, "max_tokens: -5", id="max_tokens"
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, tool_choice="x"), BAD, "tool_choice: 'x'", id="choice"
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, service_tier="x"), BAD, "service_tier: 'x'", id="tier"
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, seed=b"x"), BAD, "seed: '78' is not", id="short seed"
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, seed=b""), BAD, "seed: '' is not", id="empty seed"
        ),
        pytest.param(
            pb.DecideRequest(model=MODEL, min_policy_revision=-1), BAD, "min_policy_", id="revision"
        ),
        pytest.param(wishes(only=["x"] * 257), BAD, "provider.only: '257 items'", id="only"),
        pytest.param(wishes(order=["x", MEGABYTE]), BAD, "provider.order[1]: ", id="order"),
        pytest.param(wishes(ignore=["\u200b"]), BAD, r"provider.ignore[0]: '\u200b'", id="ignore"),
        pytest.param(
            wishes(quantizations=["fp7"]), BAD, "quantizations: 'fp7'", id="quantizations"
        ),
        pytest.param(
            wishes(data_collection="no"), BAD, "data_collection: 'no'", id="data_collection"
        ),
        pytest.param(wishes(sort=pb.Sort(by="luck")), BAD, "provider.sort.by: 'luck'", id="sort"),
        pytest.param(
            wishes(sort=pb.Sort(partition="x")), BAD, "sort.partition: 'x'", id="partition"
        ),
        pytest.param(
            wishes(max_price=pb.MaxPrice(prompt=float("nan"))),
            BAD,
            "max_price.prompt: nan",
            id="NaN",
        ),
        pytest.param(
            wishes(max_price=pb.MaxPrice(image=float("inf"))),
            BAD,
            "max_price.image: inf",
            id="infinity",
        ),
        pytest.param(
            wishes(max_price=pb.MaxPrice(audio=-0.5)),
            BAD,
            "max_price.audio: -0.5",
            id="negative price",
        ),
        pytest.param(
            wishes(preferred_max_latency=pb.Percentiles(p90=float("-inf"))),
            BAD,
            "latency.p90: -inf",
            id="negative infinity",
        ),
    ],
)
def test_a_bad_request_is_a_status_that_names_field_and_value(
    small_server: grpc.Channel, request_: pb.DecideRequest, code: str, line: str
) -> None:
    stub = pb_grpc.RoutingServiceStub(small_server)
    calls: list[Callable[[], object]] = [
        lambda: stub.Decide(request_, timeout=30),
        lambda: stub.Explain(pb.ExplainRequest(request=request_), timeout=30),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as refused:
            call()
        details = str(refused.value.details())
        assert (refused.value.code().name, line in details) == (code, True), details
        assert details.isprintable()
        assert len(details) < 400
        assert REASON_KEY in {key for key, _ in untyped(refused.value).trailing_metadata()}
    (result,) = stub.BatchDecide(pb.BatchDecideRequest(requests=[request_])).results
    assert line in result.status.message
    assert decide(small_server, MODEL).attempts


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\x0a\x02\xff\xfe", BAD, id="a name that is not UTF-8"),
        pytest.param(b"\x0a\x03\xed\xa0\x80", BAD, id="a lone surrogate"),
        pytest.param(b"\x0a\xff\xff\xff\xff\x7f", BAD, id="a length beyond the end"),
        pytest.param(b"\xff" * 1000, BAD, id="garbage"),
        pytest.param(b"\x0b" * 5000, BAD, id="groups in groups"),
        pytest.param(b"", BAD, id="nothing"),
        pytest.param(b"\x0a" + b"\x80" * 9 + b"\x01", BAD, id="a length of 2^63"),
        pytest.param(
            bytes(MAX_MESSAGE_BYTES + 1), "RESOURCE_EXHAUSTED", id="more than a message may hold"
        ),
    ],
)
def test_bytes_that_are_not_a_request_are_rejected(
    small_server: grpc.Channel, data: bytes, code: str
) -> None:
    raw = untyped(small_server).unary_unary("/assay.v1.RoutingService/Decide")
    with pytest.raises(grpc.RpcError) as refused:
        raw(data, timeout=30)

    assert refused.value.code().name == code
    assert decide(small_server, MODEL).attempts


def test_unknown_fields_are_ignored(small_server: grpc.Channel) -> None:
    raw = untyped(small_server).unary_unary("/assay.v1.RoutingService/Decide")
    later = (
        pb.DecideRequest(model=MODEL).SerializeToString() + b"\xba\x3e\x05hello" + b"\xc0\x3e\x01"
    )

    assert len(pb.DecideResponse.FromString(raw(later, timeout=30)).attempts) == 3


def test_an_unknown_method_is_unimplemented(small_server: grpc.Channel) -> None:
    raw = untyped(small_server).unary_unary("/assay.v1.RoutingService/Guess")
    with pytest.raises(grpc.RpcError) as refused:
        raw(b"", timeout=30)

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_catalog_requests_are_checked(small_server: grpc.Channel) -> None:
    stub = catalog_pb2_grpc.CatalogServiceStub(small_server)
    calls: dict[str, Callable[[], object]] = {
        "model: 'no/such'": lambda: stub.GetModel(catalog_pb2.GetModelRequest(model="no/such")),
        "model: ''": lambda: stub.ListPools(catalog_pb2.ListPoolsRequest()),
        "page_size: -1": lambda: stub.ListModels(catalog_pb2.ListModelsRequest(page_size=-1)),
        "page_token: 'x'": lambda: stub.ListModels(
            catalog_pb2.ListModelsRequest(page_token="x")  # noqa: S106 - not a password
        ),
        "'turbo'": lambda: stub.GetPool(catalog_pb2.GetPoolRequest(model=MODEL, variant="turbo")),
        "endpoint_id: ": lambda: stub.GetEndpoint(
            catalog_pb2.GetEndpointRequest(endpoint_id=MEGABYTE)
        ),
    }
    for line, call in calls.items():
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert line in str(refused.value.details())
        assert len(str(refused.value.details())) < 400


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"\x00" * 4096, id="zeros"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP/1.1"),
        pytest.param(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), id="a TLS hello"
        ),
        pytest.param(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 2000, id="HTTP/2 and then garbage"
        ),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\n", id="half a greeting"),
    ],
)
def test_noise_on_a_socket_does_not_disturb_other_clients(
    small_address: str, small_server: grpc.Channel, noise: bytes
) -> None:
    host, _, port = small_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(noise)
        assert decide(small_server, MODEL).attempts
