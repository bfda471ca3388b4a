"""Decide over a socket against a bare Echo, client and server in one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tests.bench.ledger import Ledger
from tests.bench.measure import Clock, Work, compared
from tests.support.messages import message_from
from tests.support.population import AS_OF, MODEL, snapshot

from assay.engine.world.request import Request
from assay.rpc.routing import routing_service
from assay.rpc.server import THREADS, GrpcServer
from assay.server.decider import Decider
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

BATCH = 50
QUESTION = message_from(
    Request(f"{MODEL}:exacto", tools=2, parameters=("tools", "tool_choice"), session_id="s")
)


@pytest.fixture(scope="module")
def routing() -> Iterator[pb_grpc.RoutingServiceStub]:
    decider = Decider(lambda: AS_OF, snapshot())
    server = GrpcServer([routing_service(decider.decide, decider.explain)], ["127.0.0.1:0"])
    with grpc.insecure_channel(server.addresses[0]) as channel:
        yield pb_grpc.RoutingServiceStub(channel)
    server.stop(0)


@pytest.fixture(scope="module")
def echo(routing: pb_grpc.RoutingServiceStub) -> Iterator[Work]:
    """Run a server that returns a prepared answer of Decide; yield a call of it."""
    answer = routing.Decide(QUESTION)
    handler = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: answer,
        request_deserializer=pb.DecideRequest.FromString,
        response_serializer=pb.DecideResponse.SerializeToString,
    )
    with ThreadPoolExecutor(THREADS) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(
                "/bench.Echo/Echo",
                request_serializer=pb.DecideRequest.SerializeToString,
                response_deserializer=pb.DecideResponse.FromString,
            )
            yield lambda: call(QUESTION)
        server.stop(0).wait()


@pytest.mark.parametrize(
    ("name", "clock"),
    [
        pytest.param("wall", time.perf_counter, id="wall"),
        pytest.param("CPU", time.process_time, id="CPU"),
    ],
)
def test_decide_against_an_echo_of_the_same_size(
    name: str, clock: Clock, routing: pb_grpc.RoutingServiceStub, echo: Work, ledger: Ledger
) -> None:
    answer = routing.Decide(QUESTION)
    assert len(answer.attempts) + len(answer.excluded) == 20
    ledger.slower(
        f"Decide, Echo of the same sizes ({name})",
        compared(lambda: routing.Decide(QUESTION), echo, calls=100, rounds=15, clock=clock),
    )


def test_a_batch_against_single_calls(routing: pb_grpc.RoutingServiceStub, ledger: Ledger) -> None:
    batch = pb.BatchDecideRequest(requests=[QUESTION] * BATCH)
    assert len(routing.BatchDecide(batch).results) == BATCH
    ledger.slower(
        f"BatchDecide({BATCH}), as many calls of Decide (CPU)",
        compared(
            lambda: routing.BatchDecide(batch),
            lambda: [routing.Decide(QUESTION) for _ in range(BATCH)],
            calls=2,
            rounds=15,
        ),
    )
