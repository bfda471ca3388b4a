"""What tests of the forwarding layer share: a scripted decider, a provider that misbehaves, a forwarder between them.

The model's name is the plan: `lab/refused.good` has the providers `refused` and `good`, in this order. Each provider
behaves as its name says; `pool` in place of an author leaves no attempts and says why.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from assay.forward.app import front, server_of
from assay.forward.clients import Clients
from assay.forward.settings import Providers, read_providers
from assay.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    evidence_pb2,
    evidence_pb2_grpc,
    routing_pb2 as pb,
    routing_pb2_grpc as pb_grpc,
)

DEADLINE_SECONDS = 20.0
KEY = "canary-key-of-the-provider"
PROMPT = "canary-prompt-of-the-caller"
T = TypeVar("T")
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "required": ["a"]}}}


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "theirs",
        "choices": [choice],
        **more,
    }
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def answer(message: dict[str, Any], finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    value = {"id": "c-1", "object": "chat.completion", "created": 7, "model": "theirs", "choices": [choice]}
    return json.dumps({**value, "usage": usage}).encode()


def call(arguments: str, name: str = "add") -> dict[str, Any]:
    return {
        "content": None,
        "tool_calls": [{"id": "t", "type": "function", "function": {"name": name, "arguments": arguments}}],
    }


ROLE = chunk({"role": "assistant", "content": ""})
TEXT = (chunk({"content": "Hel"}), chunk({"content": 'lo "you"'}), chunk({"content": " there"}))
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
LAST = (
    chunk({}, "stop"),
    chunk({}, None, usage=USAGE).replace(b'[{"index":0,"delta":{},"finish_reason":null}]', b"[]"),
)
DONE = b"data: [DONE]\n\n"
GOOD = (ROLE, *TEXT, *LAST, DONE)
PIECES = ('{"a"', ": 1", "}")
CALLS = (
    chunk({"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "add", "arguments": ""}}]}),
    *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in PIECES),
    chunk({}, "tool_calls"),
)


@dataclass
class Exchange:
    """One request at the provider."""

    provider: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    gone: threading.Event

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    async def head(self, status: int, *headers: str) -> None:
        self.writer.write("\r\n".join([f"HTTP/1.1 {status} Said", *headers, "", ""]).encode())
        await self.writer.drain()

    async def whole(self, status: int, body: bytes, *headers: str, kind: str = "application/json") -> None:
        await self.head(status, f"content-type: {kind}", f"content-length: {len(body)}", *headers)
        self.writer.write(body)

    async def begin(self) -> None:
        await self.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")

    async def events(self, *events: bytes) -> None:
        for event in events:
            self.writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    async def streamed(self, *events: bytes) -> None:
        await self.begin()
        await self.events(*events)
        await self.end()


async def good(x: Exchange) -> None:
    await (x.streamed(*GOOD) if x.stream else x.whole(200, answer({"content": "Hello"})))


async def hang(x: Exchange) -> None:
    await asyncio.to_thread(x.gone.wait, DEADLINE_SECONDS)


async def stall(x: Exchange) -> None:
    await x.begin()
    await x.events(ROLE)
    await hang(x)


async def cut(x: Exchange) -> None:
    if x.stream:
        await x.begin()
        await x.events(ROLE, *TEXT, b'data: {"id": "half')
    else:
        await x.head(200, "content-length: 1000")
        x.writer.write(b'{"choices": [')
    x.writer.close()


async def silent(x: Exchange) -> None:
    await x.begin()
    await x.events(ROLE, *TEXT)
    await hang(x)


async def drop(x: Exchange) -> None:
    x.writer.close()


async def nothttp(x: Exchange) -> None:
    x.writer.write(b"garbage\r\n\r\n")


async def slow(x: Exchange) -> None:
    await asyncio.sleep(0.5)
    await good(x)


async def endless(x: Exchange) -> None:
    await x.begin()
    with suppress(ConnectionError):
        while not x.gone.is_set():
            await x.events(*TEXT * 50)


Behaviour = Callable[[Exchange], Awaitable[None]]


def status(code: int, *headers: str, message: str = f"no: {KEY}") -> Behaviour:
    return lambda x: x.whole(code, json.dumps({"error": {"message": message}}).encode(), *headers)


def both(events: tuple[bytes, ...], body: bytes) -> Behaviour:
    async def behave(x: Exchange) -> None:
        await (x.streamed(*events) if x.stream else x.whole(200, body))

    return behave


ERROR = {"error": {"message": "overloaded", "code": "overloaded_error"}}
ERROR_429 = {"error": {"message": "slow down", "code": 429}}
BEHAVIOURS: dict[str, Behaviour] = {
    "good": good,
    "other": good,
    "hang": hang,
    "stall": stall,
    "cut": cut,
    "silent": silent,
    "slow": slow,
    "endless": endless,
    "forever": hang,
    "mute": stall,
    "drop": drop,
    "s400": status(400, message="the context is too long"),
    "s401": status(401),
    "s402": status(402),
    "s403": status(403, message="moderated"),
    "s404": status(404),
    "s413": status(413, message="too long"),
    "s422": status(422, message="odd"),
    "s429": status(429, "retry-after: 7"),
    "s429b": status(429, "retry-after: 3"),
    "s500": status(500),
    "s529": status(529),
    "redirect": lambda x: x.whole(307, b"", "location: http://127.0.0.1:1/"),
    "garbage": both((b"data: {nonsense\n\n", DONE), b'{"choices": ['),
    "nothttp": nothttp,
    "gzip": lambda x: x.whole(200, b"\x1f\x8b", "content-encoding: gzip"),
    "empty": both((), answer({"content": "x"}).replace(b'"choices": [{', b'"choices": [], "x": [{')),
    "onlydone": both((DONE,), b"{}"),
    "error": both((b"data: " + json.dumps(ERROR).encode() + b"\n\n",), json.dumps(ERROR).encode()),
    "error429": both((b"data: " + json.dumps(ERROR_429).encode() + b"\n\n",), json.dumps(ERROR_429).encode()),
    "jsonerror": lambda x: x.whole(200, json.dumps(ERROR_429, indent=1).encode()),
    "unstreamed": lambda x: x.whole(200, answer({"content": "Hello"})),
    "late_error": both((ROLE, *TEXT, b"data: " + json.dumps(ERROR).encode() + b"\n\n"), b"{}"),
    "late_garbage": both((ROLE, *TEXT, b"data: {nonsense\n\n", *LAST), b"{}"),
    "unended": both((ROLE, *TEXT, *LAST), answer({"content": "Hello"})),
    "crlf": both(tuple(event.replace(b"\n", b"\r\n") for event in GOOD), answer({"content": "Hello"})),
    "calls": both((ROLE, *CALLS, DONE), answer(call('{"a": 1}'), "tool_calls")),
    "badcalls": both((ROLE, *(c.replace(b": 1", b"= 1") for c in CALLS), DONE), answer(call("{"), "tool_calls")),
    "huge": both(
        (
            ROLE,
            b"data: " + b"x" * 1_200_000,
        ),
        b'"' + b"x" * 34_000_000 + b'"',
    ),
}


class Provider:
    """Every provider at once; behaves as the path says, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Exchange] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.port = 0
        ready = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(ready,))
        self.thread.start()
        assert ready.wait(DEADLINE_SECONDS)

    def run(self, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:
            runner.run(self.listen(ready))

    async def listen(self, ready: threading.Event) -> None:
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.connected, "127.0.0.1", 0, limit=1 << 26)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self.stopped.wait()
        server.close()
        for writer in self.writers:
            writer.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in self.writers:
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.tasks.append(asyncio.current_task())  # type: ignore[arg-type]
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                x = Exchange(first.split("/")[1], headers, body, writer, threading.Event())
                self.seen.append(x)
                watch = asyncio.ensure_future(self.watch(reader, x))
                self.tasks.append(watch)
                await BEHAVIOURS[x.provider](x)
                if writer.is_closing():
                    return
                watch.cancel()
                with suppress(asyncio.CancelledError):
                    await watch

    async def watch(self, reader: asyncio.StreamReader, x: Exchange) -> None:
        while not reader.at_eof() and not reader.exception():  # noqa: ASYNC110 - its end is told to who reads alone
            await asyncio.sleep(0.01)
        x.gone.set()

    def stop(self) -> None:
        for x in self.seen:
            x.gone.set()
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join(DEADLINE_SECONDS)


class Decider(
    pb_grpc.RoutingServiceServicer, evidence_pb2_grpc.EvidenceServiceServicer, catalog_pb2_grpc.CatalogServiceServicer
):
    """Plans what the model's name lists; keeps what it was asked and told."""

    def __init__(self) -> None:
        self.asked: list[pb.DecideRequest] = []
        self.batches: list[evidence_pb2.ReportOutcomesRequest] = []
        self.refusing: grpc.StatusCode | None = None
        self.refused = 0
        self.decided: dict[str, str] = {}

    def Decide(self, request: pb.DecideRequest, context: grpc.ServicerContext) -> pb.DecideResponse:  # noqa: N802
        self.asked.append(request)
        author = request.model.partition("/")[0]
        if author == "unknown":
            context.set_trailing_metadata((("assay-reason", "unknown-model"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "model: 'unknown/x' is not in the catalog")
        answered = pb.DecideResponse(decision_id=str(uuid.uuid4()), snapshot_id="s")
        self.decided[request.model] = answered.decision_id
        if author == "pool":
            answered.availability = "constraint_filtered"
            answered.availability_reasons.add(reason="ACCURACY", endpoints=2)
            answered.availability_reasons.add(reason="ignored", endpoints=1)
            return answered
        for model in (request.model, *request.models):
            for provider in model.partition("/")[2].split("."):
                rank = len(answered.attempts) + 1
                answered.attempts.add(
                    rank=rank, model=model, provider=provider, tag=provider, endpoint_id=f"{model}@{provider}"
                )
        finding = answered.excluded.add(model=request.model, endpoint_id=f"{request.model}@out", provider="out")
        finding.reasons.add(reason="ACCURACY", rule="tool_accuracy")
        return answered

    def ReportOutcomes(  # noqa: N802
        self, request: evidence_pb2.ReportOutcomesRequest, context: grpc.ServicerContext
    ) -> evidence_pb2.ReportOutcomesResponse:
        if self.refusing is not None:
            self.refused += 1
            context.abort(self.refusing, "not now")
        self.batches.append(request)
        return evidence_pb2.ReportOutcomesResponse(accepted=len(request.outcomes))

    def ListModels(  # noqa: N802
        self, _request: catalog_pb2.ListModelsRequest, _context: grpc.ServicerContext
    ) -> catalog_pb2.ListModelsResponse:
        return catalog_pb2.ListModelsResponse(models=[MODEL])

    def GetModel(  # noqa: N802
        self, request: catalog_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.GetModelResponse:
        if request.model != MODEL.model:
            context.abort(grpc.StatusCode.NOT_FOUND, f"model: '{request.model}' is not in the catalog")
        return catalog_pb2.GetModelResponse(model=MODEL)

    def ListEndpoints(  # noqa: N802
        self, _request: catalog_pb2.ListEndpointsRequest, _context: grpc.ServicerContext
    ) -> catalog_pb2.ListEndpointsResponse:
        return catalog_pb2.ListEndpointsResponse(endpoints=[ENDPOINT])


MODEL = catalog_pb2.Model(model="lab/good", name="Good", context_length=1000, input_modalities=["text"])
ENDPOINT = catalog_pb2.Endpoint(
    endpoint_id="lab/good@good", model="lab/good", provider="good", tag="good", quantization="fp8", context_length=1000,
    supported_parameters=["max_tokens", "tools", "tool_choice"], prices=catalog_pb2.Prices(prompt=0.6, completion=2.5),
)  # fmt: skip


@dataclass
class Got:
    """An answer as the caller sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The chunks of a stream; `[DONE]` as it is, comments left out."""
        data = [e.removeprefix(b"data: ") for e in self.body.split(b"\n\n") if e.startswith(b"data: ")]
        return [each.decode() if each == b"[DONE]" else json.loads(each) for each in data]

    @property
    def text(self) -> str:
        chunks = [each for each in self.events if each != "[DONE]"]
        return "".join(c["delta"].get("content") or "" for each in chunks for c in each["choices"])

    @property
    def decision_id(self) -> str:
        return self.headers["x-assay-decision-id"]


@dataclass
class World:
    """A forwarder and both its neighbours."""

    provider: Provider
    decider: Decider
    address: tuple[str, int]
    spool: Path
    decider_address: str
    log: list[str] = field(default_factory=list)

    def ask(self, model: str, *, stream: bool = False, headers: dict[str, str] | None = None, **fields: Any) -> Got:
        body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], **fields}
        return self.post(json.dumps({**body, "stream": True} if stream else body).encode(), headers)

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> Got:
        return self.request("POST", "/v1/chat/completions", body, headers)

    def request(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Got:
        connection = HTTPConnection(*self.address, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Got(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def seen(self, decision_id: str, count: int = 1) -> list[evidence_pb2.Outcome]:
        """What was reported of a decision, once so many outcomes have come."""
        return eventually(
            lambda: [o for batch in self.decider.batches for o in batch.outcomes if o.decision_id == decision_id],
            lambda found: len(found) >= count,
        )

    def decision_of(self, model: str) -> str:
        """The newest decision about a model."""
        return self.decider.decided[model]

    def called(self, since: int) -> list[str]:
        return [x.provider for x in self.provider.seen[since:]]


def eventually(look: Callable[[], T], holds: Callable[[T], object] = bool) -> T:
    """Look until what is seen holds; fails showing what was seen last."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds(seen := look()):
        assert time.monotonic() < deadline, f"still {seen!r} after {DEADLINE_SECONDS} s"
        time.sleep(0.01)
    return seen


HASTY = "{headers: 500ms, firstToken: 500ms, idle: 500ms, answer: 500ms}"


def providers_file(folder: Path, port: int, dead: int) -> Path:
    """Every behaviour is a provider; those that say nothing are waited for half a second, the others for long."""
    lines = ["apiVersion: assay/v1", "kind: Providers", "spec:", "  keepAlive: 100ms", "  providers:"]
    for name in (*BEHAVIOURS, "refused"):
        where = dead if name == "refused" else port
        hasty = f", timeouts: {HASTY}" if name in {"hang", "stall", "silent"} else ""
        lines.append(f'    {name}: {{baseUrl: "http://127.0.0.1:{where}/{name}", private: true, keyEnv: KEY{hasty}}}')
    file = folder / "providers.yaml"
    file.write_text("\n".join(lines))
    return file


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def deciding(decider: Decider, address: str) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    pb_grpc.add_RoutingServiceServicer_to_server(decider, server)
    evidence_pb2_grpc.add_EvidenceServiceServicer_to_server(decider, server)
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(decider, server)
    well = health.HealthServicer()
    well.set("assay.v1.RoutingService", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(well, server)
    server.add_insecure_port(address)
    server.start()
    yield address
    server.stop(0).wait()


@contextmanager
def forwarding(
    server: str,
    providers: Providers,
    spool: Path,
    clients: Clients = Clients(),  # noqa: B008 - a constant
) -> Iterator[tuple[str, int]]:
    """A forwarder in a thread of its own; yields where it answers."""
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()
    failures: list[BaseException] = []

    async def main() -> None:
        async with front(server, providers, clients, spool) as application:
            http = server_of(application)
            serving = asyncio.ensure_future(http.serve(sockets=[listening]))
            await asyncio.to_thread(stop.wait)
            http.should_exit = True
            await serving

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:  # noqa: BLE001 - shown in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    host, port = listening.getsockname()
    try:
        yield host, port
    finally:
        stop.set()
        thread.join(DEADLINE_SECONDS)
        listening.close()
    assert not failures, failures


@contextmanager
def running(folder: Path) -> Iterator[World]:
    provider, decider = Provider(), Decider()  # type: ignore[abstract] # what else there is, nobody asks for
    try:
        file = providers_file(folder, provider.port, unused_port())
        providers = read_providers(file, {"KEY": KEY})
        address = f"unix:{folder}/decider"
        with deciding(decider, address), forwarding(address, providers, folder / "spool") as where:
            yield World(provider, decider, where, folder / "spool", address)
    finally:
        provider.stop()
