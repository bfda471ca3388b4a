"""What a Decide costs its caller: `python decide_alone.py ADDRESS MODEL CALLS` prints CPU seconds a call."""

from __future__ import annotations

import asyncio
import sys
import time

import grpc.aio
import uvloop

from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

IN_FLIGHT = 16


async def main(address: str, model: str, calls: int) -> float:
    """Ask so often; the CPU seconds that one call took."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.RoutingServiceStub(channel)
        question = pb.DecideRequest(model=model, tools=1, parameters=["tools"])

        async def ask(times: int) -> None:
            for _ in range(times):
                assert (await stub.Decide(question)).attempts

        await ask(10)
        began = time.process_time()
        await asyncio.gather(*(ask(calls // IN_FLIGHT) for _ in range(IN_FLIGHT)))
        return (time.process_time() - began) / (calls // IN_FLIGHT * IN_FLIGHT)


if __name__ == "__main__":
    sys.stdout.write(repr(uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
