"""Forwarders as processes (Assay's, a bare one, LiteLLM's proxy), and load on them."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from urllib.request import urlopen

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from tests.bench.measure import Compared, spread
from tests.support.forwarding_chain import cpu_seconds
from tests.support.processes import environment
from tests.support.simulated_providers import HELLO, WEATHER
from tests.support.waiting import eventually

HERE = Path(__file__).resolve().parent
LITELLM = HERE.parents[1] / ".venv-litellm" / "bin" / "litellm"
MODEL = "lab/good"
IN_FLIGHT = 16


@dataclass(frozen=True)
class Forwarder:
    """A forwarder process and its address."""

    name: str
    process: subprocess.Popen[str]
    http: str

    @property
    def url(self) -> str:
        return f"http://{self.http}/v1/chat/completions"


@contextmanager
def bare(base_url: str) -> Iterator[Forwarder]:
    """Run the bare forwarder."""
    command = [sys.executable, str(HERE / "bare.py"), base_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            yield Forwarder("bare", process, f"127.0.0.1:{process.stdout.readline().strip()}")
        finally:
            process.kill()


@contextmanager
def litellm(base_url: str, folder: Path) -> Iterator[Forwarder]:
    """Run LiteLLM's proxy: one worker, no database, and no key, which saves it a check."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    parameters = {"model": "openai/some", "api_base": base_url, "api_key": "any"}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "litellm_settings": {"telemetry": False},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))
    settings = {
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [
        str(LITELLM),
        "--config",
        str(folder / "litellm.yaml"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with (folder / "litellm.log").open("w") as log, subprocess.Popen(
        command, stdout=log, stderr=log, text=True, env=environment(PYTHONPATH="", **settings)
    ) as process:  # fmt: skip
        try:
            forwarder = Forwarder("LiteLLM", process, f"127.0.0.1:{port}")
            eventually(lambda: is_alive(forwarder))
            yield forwarder
        finally:
            process.kill()


def is_alive(forwarder: Forwarder) -> bool:
    try:
        with urlopen(f"http://{forwarder.http}/health/liveliness", timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def body(*, stream: bool, tools: int = 0) -> bytes:
    """Return a request as clients send it."""
    fields = {"model": MODEL, "messages": [HELLO], "temperature": 0.5}
    if tools:
        fields["tools"] = [
            {"type": "function", "function": {**WEATHER["function"], "name": f"f{i}"}}
            for i in range(tools)
        ]
    return json.dumps({**fields, "stream": stream}).encode()


async def put_load(url: str, sent: bytes, count: int, in_flight: int) -> None:
    """Send `count` requests and read every answer to its end."""
    async with client(in_flight) as session:

        async def keep_asking(times: int) -> None:
            for _ in range(times):
                async with session.post(url, data=sent) as answer:
                    taken = await answer.read()
                    assert answer.status == 200, taken

        await asyncio.gather(*(keep_asking(count // in_flight) for _ in range(in_flight)))


def client(in_flight: int) -> ClientSession:
    """Return a client without limits besides `in_flight`."""
    return ClientSession(
        connector=TCPConnector(limit=in_flight),
        timeout=ClientTimeout(total=600),
        headers={"Content-Type": "application/json", "Authorization": "Bearer any"},
    )


def cpu_each(forwarder: Forwarder, sent: bytes, count: int, in_flight: int = IN_FLIGHT) -> float:
    """Return the CPU seconds, user and system, that the process spends on one such request."""
    count -= count % in_flight
    before = cpu_seconds(forwarder.process)
    asyncio.run(put_load(forwarder.url, sent, count, in_flight))
    return (cpu_seconds(forwarder.process) - before) / count


@dataclass(frozen=True)
class Side:
    """A forwarder, and the number of requests in one of its rounds."""

    forwarder: Forwarder
    count: int


def cpu_compared(ours: Side, theirs: Side, sent: bytes, rounds: int) -> Compared:
    """Measure both in turn and in changing order, after one warm-up round each."""
    pairs: list[tuple[float, float]] = []
    for number, order in zip(
        range(rounds + 1), cycle([(ours, theirs), (theirs, ours)]), strict=False
    ):
        took = {side.forwarder.name: cpu_each(side.forwarder, sent, side.count) for side in order}
        if number:
            pairs.append((took[ours.forwarder.name], took[theirs.forwarder.name]))
    return compared_pairs(pairs)


def compared_pairs(pairs: Sequence[tuple[float, float]]) -> Compared:
    """Compare pairs of figures, ours and theirs."""
    return Compared(
        spread([one for one, _ in pairs]),
        spread([other for _, other in pairs]),
        spread([one / other for one, other in pairs]),
    )


async def first_bytes(urls: Sequence[str], sent: bytes, rounds: int) -> list[list[float]]:
    """Return the seconds to the first byte of the body for each address, one list per round."""
    async with client(1) as session:
        for url in urls:
            await first_byte(session, url, sent)
        return [[await first_byte(session, url, sent) for url in urls] for _ in range(rounds)]


async def first_byte(session: ClientSession, url: str, sent: bytes) -> float:
    began = time.perf_counter()
    async with session.post(url, data=sent) as answer:
        await answer.content.readany()
        took = time.perf_counter() - began
        await answer.read()
    return took


async def streams_at_once(
    url: str, sent: bytes, count: int, look: Callable[[], Awaitable[None]]
) -> int:
    """Open `count` streams, call `look` once all have begun, and return how many ended."""
    begun, all_begun = 0, asyncio.Event()
    async with client(count) as session:

        async def one() -> bool:
            nonlocal begun
            async with session.post(url, data=sent) as answer:
                await answer.content.readany()
                begun += 1
                if begun == count:
                    all_begun.set()
                return (await answer.read()).endswith(b"data: [DONE]\n\n")

        streams = [asyncio.ensure_future(one()) for _ in range(count)]
        await asyncio.wait_for(all_begun.wait(), 120)
        await look()
        return sum(await asyncio.gather(*streams))
