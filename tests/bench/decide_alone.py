"""The cost of Decide for its caller: `decide_alone.py ADDRESS MODEL CALLS` prints seconds."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from statistics import median

import grpc.aio
import uvloop

from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

IN_FLIGHT = 16


async def main(address: str, model: str, calls: int) -> tuple[float, float]:
    """Return CPU seconds per call with many in flight, and the median seconds of a single one."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.RoutingServiceStub(channel)
        question = pb.DecideRequest(model=model, tools=1, parameters=["tools"])

        async def ask(times: int) -> list[float]:
            took: list[float] = []
            for _ in range(times):
                began = time.perf_counter()
                assert (await stub.Decide(question)).attempts
                took.append(time.perf_counter() - began)
            return took

        await ask(10)
        alone = median(await ask(100))
        began = time.process_time()
        await asyncio.gather(*(ask(calls // IN_FLIGHT) for _ in range(IN_FLIGHT)))
        return (time.process_time() - began) / (calls // IN_FLIGHT * IN_FLIGHT), alone


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
