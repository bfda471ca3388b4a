"""The gRPC server through a real socket: answers, errors, health and shutdown."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay.engine.decide.explanation import Explanation
from assay.engine.decide.plan import Decision, Moment, Plan, PlannedAttempt
from assay.engine.errors import UnknownEndpoint, UnknownModel, UnknownVariant
from assay.engine.pool.report import PoolReport
from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.request import Request
from assay.rpc.address import CannotListen, PlaintextRefused
from assay.rpc.catalog import CatalogView, catalog_service
from assay.rpc.routing import MAX_BATCH, routing_service
from assay.rpc.server import MAX_MESSAGE_BYTES, THREADS, GrpcServer
from assay.rpc.status import REASON_KEY
from assay.v1 import catalog_pb2, catalog_pb2_grpc, routing_pb2 as pb, routing_pb2_grpc as pb_grpc

MOMENT = Moment(datetime(2026, 7, 15, tzinfo=UTC), bytes(32))


class ScriptedService(CatalogView):
    """Two models with one endpoint each; `a/broken` raises a bug, `a/slow` waits for `release`."""

    def __init__(self) -> None:
        self.entered = Event()
        self.release = Event()

    def decide(self, request: Request) -> Decision:
        return Decision("id", request, MOMENT, self.plan(request), "digest")

    def explain(self, request: Request) -> Explanation:
        return Explanation(self.plan(request), (), "digest")

    def plan(self, request: Request) -> Plan:
        if request.model == "a/broken":
            raise ZeroDivisionError("inner detail")
        if request.model == "a/slow":
            self.entered.set()
            self.release.wait(10)
        elif request.model != "a/b":
            raise UnknownModel(request.model)
        return Plan(
            (PlannedAttempt(1, request.model, "a/b@p", "p", "p", "default"),), (), "", "snap", 1
        )

    def models(self) -> list[Model]:
        return [Model("a/b"), Model("a/c")]

    def model(self, name: str) -> Model:
        if name != "a/b":
            raise UnknownModel(name)
        return Model(name)

    def refused(self, endpoint: Endpoint) -> tuple[str, ...]:
        return ("parameters.seed",) if endpoint.tag == "refusing" else ()

    def endpoints(self, model: str | None) -> list[Endpoint]:
        return [Endpoint("a/b@p", self.model(model or "a/b").model, "p", "p")]

    def endpoint(self, endpoint_id: str) -> Endpoint:
        if endpoint_id != "a/b@p":
            raise UnknownEndpoint(endpoint_id)
        return Endpoint("a/b@p", "a/b", "p", "p")

    def pools(self, model: str) -> list[PoolReport]:
        self.model(model)
        return []

    def pool(self, model: str, variant: str, tenant: str) -> PoolReport:
        raise UnknownVariant(f"{model}:{variant}", variant, ("exacto", tenant))


@pytest.fixture
def scripted() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def server(scripted: ScriptedService, tmp_path: Path) -> Iterator[GrpcServer]:
    services = (
        routing_service(scripted.decide, scripted.explain),
        catalog_service(lambda: scripted),
    )
    server = GrpcServer(services, ("127.0.0.1:0", f"unix:{tmp_path}/s"))
    yield server
    scripted.release.set()
    server.stop(grace=1)


@pytest.fixture
def channel(server: GrpcServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.addresses[0]) as channel:
        yield channel


@pytest.fixture
def routing(channel: grpc.Channel) -> pb_grpc.RoutingServiceStub:
    return pb_grpc.RoutingServiceStub(channel)


def error_of(call: Any) -> tuple[grpc.StatusCode, str, str]:
    return call.code(), call.details(), dict(call.trailing_metadata()).get(REASON_KEY, "")


def health_stub(channel: grpc.Channel) -> Any:
    """Return a health stub; its published types lack its methods."""
    stub: Any = health_pb2_grpc.HealthStub
    return stub(channel)


def test_both_sockets_answer(server: GrpcServer) -> None:
    for address in server.addresses:
        with grpc.insecure_channel(address) as channel:
            answer = pb_grpc.RoutingServiceStub(channel).Decide(pb.DecideRequest(model="a/b"))
            assert [a.endpoint_id for a in answer.attempts] == ["a/b@p"]


def test_explain_returns_the_attempts_of_decide(routing: pb_grpc.RoutingServiceStub) -> None:
    answer = routing.Explain(pb.ExplainRequest(request=pb.DecideRequest(model="a/b")))

    assert [a.endpoint_id for a in answer.attempts] == ["a/b@p"]


@pytest.mark.parametrize(
    ("model", "code", "reason", "details"),
    [
        pytest.param("", "INVALID_ARGUMENT", "invalid-field", "model: '' is not", id="no model"),
        pytest.param(
            "x" * 1_000_000, "INVALID_ARGUMENT", "invalid-field", "model: 'xxx", id="a megabyte"
        ),
        pytest.param(
            "a/ä\u202e",
            "INVALID_ARGUMENT",
            "invalid-field",
            r"model: 'a/\xe4\u202e'",
            id="unicode tricks",
        ),
        pytest.param(
            "no/such",
            "NOT_FOUND",
            "unknown-model",
            "model: 'no/such' is not in",
            id="unknown model",
        ),
        pytest.param("a/broken", "INTERNAL", "internal", "internal error", id="a bug is masked"),
    ],
)
def test_an_error_becomes_a_status_with_a_reason(
    routing: pb_grpc.RoutingServiceStub, model: str, code: str, reason: str, details: str
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        routing.Decide(pb.DecideRequest(model=model))

    seen_code, seen_details, seen_reason = error_of(failed.value)
    assert (seen_code.name, seen_reason) == (code, reason)
    assert seen_details.startswith(details)
    assert "inner detail" not in seen_details


def test_malformed_bytes_are_an_invalid_argument_and_the_server_stays_up(
    channel: grpc.Channel, routing: pb_grpc.RoutingServiceStub
) -> None:
    raw: Any = channel.unary_unary("/assay.v1.RoutingService/Decide")
    with pytest.raises(grpc.RpcError) as failed:
        raw(b"\x0a\xff\xff")

    assert error_of(failed.value)[::2] == (grpc.StatusCode.INVALID_ARGUMENT, "malformed-message")
    assert routing.Decide(pb.DecideRequest(model="a/b")).attempts


def test_an_oversized_message_is_rejected_and_the_server_stays_up(
    routing: pb_grpc.RoutingServiceStub,
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        routing.Decide(pb.DecideRequest(model="x" * MAX_MESSAGE_BYTES))

    assert error_of(failed.value)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert routing.Decide(pb.DecideRequest(model="a/b")).attempts


def test_a_batch_returns_one_result_per_request(routing: pb_grpc.RoutingServiceStub) -> None:
    models = ["a/b", "no/such", "a/broken", "", "a/b"]
    results = routing.BatchDecide(
        pb.BatchDecideRequest(requests=[pb.DecideRequest(model=m) for m in models])
    ).results

    assert [r.WhichOneof("result") for r in results] == [
        "response",
        "status",
        "status",
        "status",
        "response",
    ]
    assert [(r.status.code, r.status.reason) for r in results[1:4]] == [
        (5, "unknown-model"),
        (13, "internal"),
        (3, "invalid-field"),
    ]
    assert "inner detail" not in results[2].status.message


@pytest.mark.parametrize(
    "size", [pytest.param(0, id="none"), pytest.param(MAX_BATCH, id="the limit")]
)
def test_a_batch_of_up_to_the_limit_is_answered(
    routing: pb_grpc.RoutingServiceStub, size: int
) -> None:
    requests = [pb.DecideRequest(model="a/b")] * size

    assert len(routing.BatchDecide(pb.BatchDecideRequest(requests=requests)).results) == size


def test_a_longer_batch_is_rejected(routing: pb_grpc.RoutingServiceStub) -> None:
    requests = [pb.DecideRequest(model="a/b")] * (MAX_BATCH + 1)
    with pytest.raises(grpc.RpcError) as failed:
        routing.BatchDecide(pb.BatchDecideRequest(requests=requests))

    assert error_of(failed.value)[:2] == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "requests: '257 items' is not a list of at most 256",
    )


def test_the_catalog_is_listed_in_pages(channel: grpc.Channel) -> None:
    stub = catalog_pb2_grpc.CatalogServiceStub(channel)
    first = stub.ListModels(catalog_pb2.ListModelsRequest(page_size=1))
    second = stub.ListModels(
        catalog_pb2.ListModelsRequest(page_size=1, page_token=first.next_page_token)
    )

    assert [m.model for m in (*first.models, *second.models)] == ["a/b", "a/c"]
    assert second.next_page_token == ""
    assert stub.GetModel(catalog_pb2.GetModelRequest(model="a/b")).model.model == "a/b"
    assert [e.tag for e in stub.ListEndpoints(catalog_pb2.ListEndpointsRequest()).endpoints] == [
        "p"
    ]
    assert (
        stub.GetEndpoint(catalog_pb2.GetEndpointRequest(endpoint_id="a/b@p")).endpoint.provider
        == "p"
    )
    assert not stub.ListPools(catalog_pb2.ListPoolsRequest(model="a/b")).pools


def test_unknown_names_of_the_catalog_are_rejected_with_a_reason(channel: grpc.Channel) -> None:
    stub = catalog_pb2_grpc.CatalogServiceStub(channel)
    calls: list[Callable[[], object]] = [
        lambda: stub.GetModel(catalog_pb2.GetModelRequest(model="no/such")),
        lambda: stub.GetEndpoint(catalog_pb2.GetEndpointRequest(endpoint_id="no/such@p")),
        lambda: stub.ListPools(catalog_pb2.ListPoolsRequest()),
        lambda: stub.GetPool(catalog_pb2.GetPoolRequest(model="a/b", variant="x")),
    ]
    seen = []
    for call in calls:
        with pytest.raises(grpc.RpcError) as failed:
            call()
        seen.append(error_of(failed.value)[2])

    assert seen == ["unknown-model", "unknown-endpoint", "invalid-field", "unknown-variant"]


def test_health_is_reported_per_service(server: GrpcServer, channel: grpc.Channel) -> None:
    stub = health_stub(channel)

    def status(name: str) -> str:
        reply = stub.Check(health_pb2.HealthCheckRequest(service=name))
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))

    server.health.set_serving("assay.v1.RoutingService", serving=False)

    assert status("") == "SERVING"
    assert status("assay.v1.RoutingService") == "NOT_SERVING"
    assert status("assay.v1.CatalogService") == "SERVING"


def test_health_watchers_do_not_occupy_worker_threads(
    channel: grpc.Channel, routing: pb_grpc.RoutingServiceStub
) -> None:
    stub = health_stub(channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest(service="")) for _ in range(2 * THREADS)]

    assert [next(iter(w)).status for w in watches] == [
        health_pb2.HealthCheckResponse.SERVING
    ] * len(watches)
    assert routing.Decide(pb.DecideRequest(model="a/b"), timeout=5).attempts
    for watch in watches:
        watch.cancel()


def test_a_stop_lets_a_running_call_end_and_notifies_watchers(
    scripted: ScriptedService,
    server: GrpcServer,
    channel: grpc.Channel,
    routing: pb_grpc.RoutingServiceStub,
) -> None:
    watch = health_stub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
    seen = islice(watch, 2)
    assert next(seen).status == health_pb2.HealthCheckResponse.SERVING
    running = routing.Decide.future(pb.DecideRequest(model="a/slow"))
    scripted.entered.wait(5)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(server.stop, 5)
        assert next(seen).status == health_pb2.HealthCheckResponse.NOT_SERVING
        scripted.release.set()
        stopping.result(3)

    assert running.result(5).attempts


def test_watchers_that_connect_while_states_change_do_not_block_the_server(
    server: GrpcServer, routing: pb_grpc.RoutingServiceStub
) -> None:
    """Watch and cancel in a loop; grpcio's own health servicer deadlocks within a few rounds."""

    def watch_and_cancel() -> None:
        with grpc.insecure_channel(server.addresses[0]) as channel:
            for _ in range(100):
                watch = health_stub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
                next(iter(watch))
                watch.cancel()

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(watch_and_cancel) for _ in range(3)]
        while wait(running, timeout=0.001).not_done:
            server.health.set_serving("", serving=False)
            server.health.set_serving("", serving=True)
        for done in running:
            done.result(30)

    assert routing.Decide(pb.DecideRequest(model="a/b"), timeout=5).attempts


def test_an_unknown_service_is_reported_as_unknown(channel: grpc.Channel) -> None:
    stub = health_stub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="no.such.Service"))
    with pytest.raises(grpc.RpcError) as failed:
        stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))

    assert error_of(failed.value)[0] is grpc.StatusCode.NOT_FOUND
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_an_idle_watcher_does_not_delay_a_stop(server: GrpcServer, channel: grpc.Channel) -> None:
    watch = health_stub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server.stop, 60).result(5)

    assert [reply.status for reply in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]


def test_a_port_in_use_is_rejected_with_its_address(
    scripted: ScriptedService, server: GrpcServer
) -> None:
    with pytest.raises(CannotListen) as rejected:
        GrpcServer((routing_service(scripted.decide, scripted.explain),), (server.addresses[0],))

    assert server.addresses[0] in str(rejected.value)


def test_a_plaintext_address_off_loopback_is_rejected(scripted: ScriptedService) -> None:
    with pytest.raises(PlaintextRefused):
        GrpcServer((routing_service(scripted.decide, scripted.explain),), ("0.0.0.0:0",))


def test_a_generic_client_needs_only_reflection(server: GrpcServer) -> None:
    buf = Path(sys.executable).with_name("buf")
    command = [
        str(buf if buf.exists() else shutil.which("buf")),
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        "--data",
        '{"model": "a/b", "provider": {"sort": {"by": "price"}}}',
        f"http://{server.addresses[0]}/assay.v1.RoutingService/Decide",
    ]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)

    assert json.loads(answer.stdout)["attempts"][0]["endpointId"] == "a/b@p"
