"""Simulated providers, a forwarder as a process and a real decider; reports are recorded."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from subprocess import Popen
from typing import Any

import grpc
from tests.support.catalogs import NOW, POLICY, catalog_csv
from tests.support.commands import assay
from tests.support.processes import AssayProcess, running
from tests.support.simulated_providers import HELLO, SimulatedProviders, simulating
from tests.support.waiting import DEADLINE_SECONDS, eventually

from assay.curator.curator import judge_once
from assay.rpc.catalog import CatalogView, catalog_service
from assay.rpc.routing import routing_service
from assay.rpc.server import GrpcServer, GrpcService
from assay.server.decider import Decider
from assay.store.database import open_database
from assay.v1 import evidence_pb2 as pb

Json = Mapping[str, Any]

CATALOG = catalog_csv(
    # the first by price is the one that goes bad
    "lab/pair,bad,bad,fp8,1,1,,,tools tool_choice max_tokens temperature",
    "lab/pair,good,good,fp8,2,2,,,tools tool_choice max_tokens temperature",
    "lab/solo,bad,bad,fp8,1,1,,,tools tool_choice",
    "lab/other,good,good,fp8,1,1,,,tools tool_choice",
    "lab/good,good,good,fp8,1,1,,,tools tool_choice max_tokens temperature stream",
    "lab/seeing,good,good,fp8,1,1,,,tools tool_choice,,,text image",
    "lab/dead,dead,dead,fp8,1,1,,,tools",
    "lab/dead,good,good,fp8,2,2,,,tools",
    "lab/deaf,deaf,deaf,fp8,1,1,,,tools",
    "lab/deaf,good,good,fp8,2,2,,,tools",
    "lab/slow,slow,slow,fp8,1,1,,,tools",
    "lab/stranger,stranger,stranger,fp8,1,1,,,tools",
    "lab/stranger,good,good,fp8,2,2,,,tools",
    # evidence for good alone
    "lab/vetted,bad,bad,fp8,1,1,,,tools",
    "lab/vetted,good,good,fp8,2,2,,,tools",
)
OBSERVED = (
    "model,provider,tag,source,observed_from,observed_to,"
    "requests,tool_call_requests,errored_requests,reference\n"
    "lab/vetted,good,good,probe,2025-09-22T00:00:00Z,2025-09-23T00:00:00Z,4000,2000,0,false\n"
    "lab/vetted,bad,bad,probe,2025-09-22T00:00:00Z,2025-09-23T00:00:00Z,4000,2000,400,false\n"
)
QUICK = {
    "connect": "300ms",
    "headers": "500ms",
    "firstToken": "1500ms",
    "idle": "500ms",
    "answer": "700ms",
}
METADATA = {"X-OpenRouter-Metadata": "enabled"}
KEY = "sk-canary-of-the-upstream"


@dataclass
class Recorder:
    """Accepts every outcome, as EvidenceService accepts valid ones."""

    outcomes: list[pb.Outcome] = field(default_factory=list)
    batches: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def report(
        self, request: pb.ReportOutcomesRequest, _context: object
    ) -> pb.ReportOutcomesResponse:
        return pb.ReportOutcomesResponse(accepted=self.keep(request.batch_id, request.outcomes))

    def stream(
        self, requests: Iterator[pb.StreamOutcomesRequest], _context: object
    ) -> Iterator[pb.StreamOutcomesResponse]:
        for one in requests:
            yield pb.StreamOutcomesResponse(
                batch_id=one.batch_id, accepted=self.keep(one.batch_id, one.outcomes)
            )

    def keep(self, batch_id: str, outcomes: Iterable[pb.Outcome]) -> int:
        """Record a batch unless it is known, and return its size."""
        taken = list(outcomes)
        with self.lock:
            if batch_id not in self.batches:
                self.batches.add(batch_id)
                self.outcomes.extend(taken)
        return len(taken)

    def of(self, decision_id: str, count: int) -> list[pb.Outcome]:
        """Return the outcomes of a decision by attempt, once `count` have arrived."""

        def found() -> list[pb.Outcome]:
            with self.lock:
                return [outcome for outcome in self.outcomes if outcome.decision_id == decision_id]

        outcomes = eventually(found, lambda seen: len(seen) >= count)
        return sorted(outcomes, key=lambda outcome: outcome.attempt)

    def cancelled(self, endpoint_id: str) -> list[pb.Outcome]:
        """Return the outcomes of cancelled attempts."""
        with self.lock:
            found = [outcome for outcome in self.outcomes if outcome.endpoint_id == endpoint_id]
        return [outcome for outcome in found if outcome.result == pb.RESULT_CANCELLED]

    def service(self) -> GrpcService:
        name = pb.DESCRIPTOR.services_by_name["EvidenceService"].full_name
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ReportOutcomes": grpc.unary_unary_rpc_method_handler(
                self.report,
                pb.ReportOutcomesRequest.FromString,
                pb.ReportOutcomesResponse.SerializeToString,
            ),
            "StreamOutcomes": grpc.stream_stream_rpc_method_handler(
                self.stream,
                pb.StreamOutcomesRequest.FromString,
                pb.StreamOutcomesResponse.SerializeToString,
            ),
        }
        handler = grpc.method_handlers_generic_handler(name, methods)
        return GrpcService(name, lambda server: server.add_generic_rpc_handlers((handler,)))


@dataclass(frozen=True)
class Answer:
    """A reply as the client saw it; `cut` if the connection broke before its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    cut: bool = False

    @cached_property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def decision_id(self) -> str:
        return self.headers["x-assay-decision-id"]

    @cached_property
    def chunks(self) -> list[Any]:
        """The JSON of a stream's events, without comments and `[DONE]`."""
        lines = [
            line.removeprefix("data: ")
            for line in self.body.decode().split("\n")
            if line.startswith("data: ")
        ]
        return [json.loads(line) for line in lines if line != "[DONE]"]

    @property
    def done(self) -> bool:
        return self.body.rstrip().endswith(b"data: [DONE]")

    @property
    def text(self) -> str:
        """The text of the answer."""
        if not self.headers["content-type"].startswith("text/event-stream"):
            return str(self.json["choices"][0]["message"]["content"])
        deltas = [choice["delta"] for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def error(self) -> Any:
        """The error in the body or in a chunk of the stream."""
        if self.headers["content-type"].startswith("text/event-stream"):
            return next((chunk["error"] for chunk in self.chunks if "error" in chunk), None)
        return self.json.get("error")

    @property
    def metadata(self) -> Any:
        """The metadata block; a stream has it in one of its last chunks."""
        if self.headers["content-type"].startswith("text/event-stream"):
            return next(
                chunk["openrouter_metadata"]
                for chunk in self.chunks
                if "openrouter_metadata" in chunk
            )
        return self.json["openrouter_metadata"]


@dataclass(frozen=True)
class Chain:
    """Providers, forwarder and decider connected to each other."""

    providers: SimulatedProviders
    recorder: Recorder
    process: Popen[str]
    http: str
    log: list[dict[str, Any]]
    spool: Path

    @property
    def base_url(self) -> str:
        return f"http://{self.http}/v1"

    def ask(self, model: str, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
        """Send one chat request; the cheapest endpoint comes first by default."""
        body = {"model": model, "messages": [HELLO], "provider": {"sort": "price"}, **fields}
        return ask(self.http, "POST", "/v1/chat/completions", json.dumps(body), headers)

    def leave(self, model: str, provider: str, **fields: Any) -> float:
        """Send a request, disconnect once the provider has it, and return the time."""
        body = json.dumps({"model": model, "messages": [HELLO], **fields})
        host, _, port = self.http.rpartition(":")
        connection = HTTPConnection(host, int(port), timeout=DEADLINE_SECONDS)
        with closing(connection):
            connection.request(
                "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"}
            )
            eventually(lambda: self.seen(provider))
            return time.time()

    def get(self, path: str) -> Answer:
        return ask(self.http, "GET", path)

    def seen(self, provider: str) -> list[dict[str, Any]]:
        return self.providers.seen(provider)


def ask(
    http: str,
    method: str,
    path: str,
    body: str | bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request and return the reply, as far as it got."""
    began = time.monotonic()
    host, _, port = http.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=DEADLINE_SECONDS)
    with closing(connection):
        connection.request(
            method, path, body, {"Content-Type": "application/json", **(headers or {})}
        )
        answer = connection.getresponse()
        head = {name.lower(): text for name, text in answer.getheaders()}
        parts: list[bytes] = []
        cut = False
        try:
            while part := answer.read1(1 << 16):
                parts.append(part)
        except (HTTPException, OSError):
            cut = True
    return Answer(answer.status, head, b"".join(parts), time.monotonic() - began, cut)


def import_lab_catalog(folder: Path, database: Path) -> str:
    """Fill a migrated database with the catalog and its evidence; return its URL."""
    url = f"sqlite:///{database}"
    (folder / "catalog.csv").write_text(CATALOG)
    (folder / "observed.csv").write_text(OBSERVED)
    assert assay("import", "catalog", folder / "catalog.csv", "--database", url).code == 0
    assert assay("import", "observations", folder / "observed.csv", "--database", url).code == 0
    return url


@contextmanager
def deciding(url: str, recorder: Recorder) -> Iterator[str]:
    """Run a decider in this process, with the shipped rules; yield its address."""
    database = open_database(url)
    now = datetime.fromisoformat(NOW)
    world, snapshot = judge_once(database, POLICY, now)
    view = CatalogView(world, snapshot)
    decider = Decider(lambda: now, snapshot)
    services = (
        routing_service(decider.decide, decider.explain),
        catalog_service(lambda: view),
        recorder.service(),
    )
    server = GrpcServer(services, ["127.0.0.1:0"])
    try:
        yield server.addresses[0]
    finally:
        server.stop(0)
        database.dispose()


def providers_file(
    folder: Path, providers: SimulatedProviders, *, dead: int, deaf: int, **spec: object
) -> Path:
    """Write providers: `good` has long timeouts, the others short ones; the rest are ports."""
    common = {"private": True, "keyEnv": "UPSTREAM_KEY"}
    known = {
        "good": {**common, "baseUrl": providers.base_url("good")},
        "slow": {**common, "baseUrl": providers.base_url("slow")},
        "bad": {**common, "baseUrl": providers.base_url("bad"), "timeouts": QUICK},
        "dead": {**common, "baseUrl": f"http://127.0.0.1:{dead}/v1", "timeouts": QUICK},
        "deaf": {**common, "baseUrl": f"http://127.0.0.1:{deaf}/v1", "timeouts": QUICK},
    }
    path = folder / "providers.yaml"
    path.write_text(
        json.dumps(
            {"apiVersion": "assay/v1", "kind": "Providers", "spec": {"providers": known, **spec}}
        )
    )
    return path


def forwarding(
    server: str, providers: Path, spool: Path, *arguments: object
) -> AbstractContextManager[AssayProcess]:
    """Run `assay forward` on a free port."""
    files = ("--providers", providers, "--spool", spool)
    options = ("--server", server, "--http", "127.0.0.1:0", *files)
    return running("forwarding", "forward", *options, *arguments, UPSTREAM_KEY=KEY)


@contextmanager
def dead_port() -> Iterator[int]:
    """Yield a port that rejects connections: it is bound, and nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def deaf_port() -> Iterator[int]:
    """Yield a port that never answers: its queue is full, so that connections wait."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextmanager
def running_chain(database: str, folder: Path, **spec: object) -> Iterator[Chain]:
    """Start all of it; `spec` is added to the providers file."""
    recorder = Recorder()
    with (
        simulating() as providers,
        deciding(database, recorder) as server,
        dead_port() as dead,
        deaf_port() as deaf,
    ):
        file = providers_file(folder, providers, dead=dead, deaf=deaf, **spec)
        with forwarding(server, file, folder / "spool") as forwarder:
            yield Chain(
                providers,
                recorder,
                forwarder.process,
                forwarder.http,
                forwarder.log,
                folder / "spool",
            )


def resident_mib(process: Popen[str]) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def peak_mib(process: Popen[str]) -> float:
    """Return the peak memory of a process."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def cpu_seconds(process: Popen[str]) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
