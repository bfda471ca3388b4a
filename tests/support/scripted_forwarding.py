"""A forwarder between a scripted decider and misbehaving providers."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import uvloop
from tests.support.misbehaving_provider import BEHAVIORS, KEY, Provider
from tests.support.scripted_decider import ScriptedDecider, deciding
from tests.support.waiting import DEADLINE_SECONDS, eventually

from assay.forward.app import build_server, forwarder_app
from assay.forward.settings import Clients, ProviderConnections, read_providers
from assay.v1 import evidence_pb2

PROMPT = "canary-prompt-of-the-caller"
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "required": ["a"]}},
}


@dataclass
class HttpAnswer:
    """A reply as the caller sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The chunks of a stream and `[DONE]`, without comments."""
        data = [
            e.removeprefix(b"data: ") for e in self.body.split(b"\n\n") if e.startswith(b"data: ")
        ]
        return [each.decode() if each == b"[DONE]" else json.loads(each) for each in data]

    @property
    def text(self) -> str:
        chunks = [each for each in self.events if each != "[DONE]"]
        return "".join(c["delta"].get("content") or "" for each in chunks for c in each["choices"])

    @property
    def decision_id(self) -> str:
        return self.headers["x-assay-decision-id"]


@dataclass
class ScriptedForwarder:
    """A forwarder and both its neighbors."""

    provider: Provider
    decider: ScriptedDecider
    address: tuple[str, int]
    spool: Path
    decider_address: str
    log: list[str] = field(default_factory=list)

    def ask(
        self,
        model: str,
        *,
        stream: bool = False,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> HttpAnswer:
        body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], **fields}
        return self.post(json.dumps({**body, "stream": True} if stream else body).encode(), headers)

    def relay(self, sent: bytes, model: str = "lab/scripted.good", **fields: Any) -> HttpAnswer:
        """Ask, while the first provider sends these bytes as its stream or answer."""
        return self.ask(model, x_sends=b64encode(sent).decode(), **fields)

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> HttpAnswer:
        return self.request("POST", "/v1/chat/completions", body, headers)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> HttpAnswer:
        connection = HTTPConnection(*self.address, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return HttpAnswer(
                response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def seen(self, decision_id: str, count: int = 1) -> list[evidence_pb2.Outcome]:
        """Return the outcomes of a decision, once `count` have arrived."""
        return eventually(
            lambda: [
                o
                for batch in self.decider.batches
                for o in batch.outcomes
                if o.decision_id == decision_id
            ],
            lambda found: len(found) >= count,
        )

    def decision_of(self, model: str) -> str:
        """Return the newest decision about a model."""
        return self.decider.decided[model]

    def called(self, since: int) -> list[str]:
        return [x.provider for x in self.provider.seen[since:]]


SHORT = "{headers: 500ms, firstToken: 500ms, idle: 500ms, answer: 500ms}"
HASTY = {"hang": SHORT, "stall": SHORT, "silent": SHORT, "quiet": SHORT, "flood": "{idle: 500ms}"}


def providers_file(folder: Path, port: int, dead: int) -> Path:
    """Write a providers file with every behavior; some get timeouts of half a second."""
    lines = [
        "apiVersion: assay/v1",
        "kind: Providers",
        "spec:",
        "  keepAlive: 100ms",
        "  providers:",
    ]
    for name in (*BEHAVIORS, "refused"):
        where = dead if name == "refused" else port
        hasty = f", timeouts: {HASTY[name]}" if name in HASTY else ""
        lines.append(
            f'    {name}: {{baseUrl: "http://127.0.0.1:{where}/{name}", '
            f"private: true, keyEnv: KEY{hasty}}}"
        )
    file = folder / "providers.yaml"
    file.write_text("\n".join(lines))
    return file


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def forwarding(
    server: str,
    providers: ProviderConnections,
    spool: Path,
    clients: Clients = Clients(),  # noqa: B008 - a constant
) -> Iterator[tuple[str, int]]:
    """Run a forwarder in its own thread; yield its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()
    failures: list[BaseException] = []

    async def main() -> None:
        async with forwarder_app(server, providers, clients, spool) as application:
            http = build_server(application)
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
def scripted_forwarder(folder: Path) -> Iterator[ScriptedForwarder]:
    provider, decider = Provider(), ScriptedDecider()  # type: ignore[abstract] # the rest is unused
    try:
        file = providers_file(folder, provider.port, unused_port())
        providers = read_providers(file, {"KEY": KEY})
        address = f"unix:{folder}/decider"
        with deciding(decider, address), forwarding(address, providers, folder / "spool") as where:
            yield ScriptedForwarder(provider, decider, where, folder / "spool", address)
    finally:
        provider.stop()
