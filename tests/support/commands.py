"""What journeys share: the command in process and as a process, a server as a process, and small worlds."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import MetaData, func, select

from assay.cli.app import run
from assay.cli.output import configure_logs
from assay.store.database import open_database, reading
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "policy"
DEMO_DATA = ROOT / "service" / "assay" / "demo" / "data"
CATALOGS = tuple(
    DEMO_DATA / "catalog_facts" / f"{n}.csv"
    for n in ("endpoints_2026-07-04", "kimi-k2-0905_direct")
)
KIMI_CSV = DEMO_DATA / "observations" / "kimi-k2-0905_2025-09-22.csv"
KIMI = "moonshotai/kimi-k2-0905"
NOW = "2025-09-23T12:00:00Z"
MEMBERS = {"moonshotai", "moonshotai/turbo", "novita", "infinigence"}
MEGABYTE = "x" * 1_000_000
HOMOGLYPH = "l\N{CYRILLIC SMALL LETTER A}b/mixed"
DEADLINE_SECONDS = 30.0

T = TypeVar("T")


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line that says what is wrong, without the program's name."""
        (line,) = self.err.splitlines()
        assert line.startswith("assay: ")
        return line.removeprefix("assay: ")


def assay(*arguments: object) -> Ran:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        configure_logs(logging.WARNING)  # as `main` does
        code = run([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())


def refused(ran: Ran, code: int, *words: str) -> None:
    """One clear line on standard error, and nothing on standard output."""
    assert (ran.code, ran.out) == (code, ""), ran
    assert ran.line.isprintable()
    for word in words:
        assert word in ran.line


def environment(**changes: str) -> dict[str, str]:
    """The environment of a user without any settings of ours, save the changes."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("ASSAY_") and k != "XDG_DATA_HOME"
    }
    return {**kept, "PYTHONPATH": str(ROOT / "service"), "PYTHONDONTWRITEBYTECODE": "1", **changes}


def assay_process(*arguments: object, **changes: str) -> Ran:
    """Run a command as a user does: a process of its own, its output in pipes."""
    ended = subprocess.run(
        [sys.executable, "-m", "assay.cli", *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=120, env=environment(**changes), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Ran(ended.returncode, ended.stdout, ended.stderr)


@dataclass
class Served:
    """`assay serve` as a process that listens."""

    process: subprocess.Popen[str]
    address: str
    log: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self.address) as channel:
            yield channel

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)


@contextmanager
def serving(*arguments: object) -> Iterator[Served]:
    """Start a server on a port of its own and wait until it listens; at the end it has to stop as asked."""
    command = [
        sys.executable,
        "-m",
        "assay.cli",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--poll-interval",
        "0.1",
    ]
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        log: list[dict[str, Any]] = []
        try:
            for line in process.stderr:
                assert line.startswith("{"), line
                log.append(json.loads(line))
                if log[-1]["event"] == "serving":
                    break
            assert log, "the server ended without a word"
            assert log[-1]["event"] == "serving", log
            reader = threading.Thread(target=drain, args=(process.stderr, log))
            reader.start()
            yield Served(process, log[-1]["listen"][0], log)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_SECONDS) == 0
            reader.join(DEADLINE_SECONDS)
        finally:
            process.kill()


def scrape(address: str) -> dict[str, float]:
    """The metrics of a server, by name."""
    with urlopen(f"http://{address}/metrics", timeout=DEADLINE_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    }


def drain(lines: Iterator[str], log: list[dict[str, Any]]) -> None:
    """Take every further line, so that the process never waits for its reader."""
    log.extend(json.loads(line) for line in lines)


def eventually(look: Callable[[], T], holds: Callable[[T], object] = bool) -> T:
    """Look until what is seen holds; fails showing what was seen last."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds(seen := look()):
        assert time.monotonic() < deadline, f"still {seen!r} after {DEADLINE_SECONDS} s"
        time.sleep(0.05)
    return seen


def decide(channel: grpc.Channel, model: str, **fields: Any) -> pb.DecideResponse:
    return pb_grpc.RoutingServiceStub(channel).Decide(
        pb.DecideRequest(model=model, **fields), timeout=30
    )


def tags(answer: pb.DecideResponse) -> list[str]:
    """The tags of the attempts, in order."""
    return [attempt.tag for attempt in answer.attempts]


def reasons(answer: pb.DecideResponse) -> dict[str, set[str]]:
    """Why each tag was left out."""
    return {found.tag: {each.reason for each in found.reasons} for found in answer.excluded}


def health(channel: grpc.Channel, name: str = "") -> str:
    stub: Any = health_pb2_grpc.HealthStub
    reply = stub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=30)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def counts(database_url: str) -> dict[str, int]:
    """How many rows each table holds."""
    database = open_database(database_url)
    tables = MetaData()
    tables.reflect(database)
    with reading(database) as connection:
        found = {
            t.name: connection.scalar(select(func.count()).select_from(t)) or 0
            for t in tables.sorted_tables
        }
    database.dispose()
    return found


def own_policy(folder: Path) -> Path:
    """A copy of the shipped rule files, to be edited."""
    return Path(shutil.copytree(POLICY, folder / "policy"))


@dataclass(frozen=True)
class Small:
    """A catalog of hand-written models and what was observed of them, as files."""

    catalog: str
    observations: str


COLUMNS = (
    *("model", "provider", "tag", "quantization", "prompt_usd_per_mtok", "completion_usd_per_mtok"),
    *(
        "throughput_p50_tps",
        "zdr",
        "supported_parameters",
        "context_length",
        "max_completion_tokens",
    ),
    "input_modalities",
)


def table(*rows: str) -> str:
    """A catalog of these rows; columns left out at a row's end are blank."""
    padded = [row + "," * (len(COLUMNS) - 1 - row.count(",")) for row in rows]
    return "".join(f"{line}\n" for line in (",".join(COLUMNS), *padded))


SMALL = Small(
    table(
        # prices of $1 and $3, for draws
        "lab/draw,one,one,fp8,1,1,10,,tools",
        "lab/draw,three,three,fp8,3,3,30,,tools",
        # evidence for two endpoints only
        "lab/pair,one,one,fp8,1,1,,,tools",
        "lab/pair,two,two,fp8,2,2,,,tools",
        # cheapest, fastest and steadiest differ
        "lab/mixed,one,one/a,fp8,1,1,10,true,tools seed",
        "lab/mixed,two,two/b,bf16,2,2,20,false,tools",
        "lab/mixed,three,three/c,int4,3,3,30,,tools",
        # one tag twice, at two prices
        "lab/twice,one,one,fp8,1,1,,,tools",
        "lab/twice,one,one,fp8,2,2,,,tools",
        "lab/twice,two,two,fp8,3,3,,,tools",
        # one that can little and one that can much
        "lab/sizes,narrow,narrow,fp8,1,1,,,,1000,100,text",
        "lab/sizes,wide,wide,fp8,2,2,,,tools tool_choice,100000,10000,text",
    ),
    "model,provider,tag,source,observed_from,observed_to,requests,tool_call_requests,errored_requests,reference\n"
    "lab/pair,one,one,probe,2025-09-22T00:00:00Z,2025-09-23T00:00:00Z,2000,500,0,false\n"
    "lab/pair,two,two,probe,2025-09-22T00:00:00Z,2025-09-23T00:00:00Z,2000,20,0,false\n",
)
