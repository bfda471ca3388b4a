"""The demo's third act: a conversation through the forwarding layer, and a provider that goes bad meanwhile.

Simulated providers and the forwarder run as processes of their own, the service in this one. The client is OpenAI's.
Hours pass by the demo's own clock, since pools change at the end of an hour.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

from sqlalchemy import Engine

from assay.curator.curator import Curator
from assay.curator.judging import RuleFiles, judged
from assay.curator.lease import RowLeaseClient
from assay.decision_log.writer import Logbook
from assay.demo.traffic import Clock, load, logging
from assay.engine.pool.report import pool_report
from assay.engine.snapshot.pool_memory import UNKNOWN
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.clock import HOUR
from assay.engine.world.world import World
from assay.outcomes.endpoint_health import EndpointHealth
from assay.outcomes.intake import OutcomeIntake
from assay.outcomes.outcome import OutcomeGroup
from assay.rpc.catalog import catalog_service
from assay.rpc.evidence import Evidence, evidence_service
from assay.rpc.routing import routing_service
from assay.rpc.server import Server
from assay.rpc.view import WorldView
from assay.server.decider import Decider
from assay.server.settings import policy_dir
from assay.server.wiring import open_current_database, wall_clock
from assay.store.preferences import PreferenceStore

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CATALOG: Final = "endpoints_2026-07-04"
MODEL: Final = "z-ai/glm-4.6"
PROVIDERS: Final = ("atlas-cloud", "novita", "z-ai")
FALLEN: Final = "novita"
REQUESTS, AT_ONCE = 150, 8
PATIENCE_S = 30.0
MOST_HOURS = 3
WORSE = 0.5
QUESTION = "Shall I take an umbrella in Lisbon tomorrow?"
WEATHER: Final[Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string"},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One question to the model, answered with a tool's help: who served each answer, and what was said."""

    providers: Sequence[str]
    call: str
    said: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the act came to; states are those of the endpoints with traffic, by provider."""

    before: Mapping[str, str]
    first: Turn
    after: Mapping[str, str]
    second: Turn
    hours: int


class Heard:
    """Counts the outcomes that have arrived."""

    def __init__(self, health: EndpointHealth) -> None:
        self._health = health
        self._arrived = Condition()
        self._count = 0

    def update(self, groups: Sequence[OutcomeGroup], now_us: int) -> None:
        """Take note of a batch, and hand it on to the health of the moment."""
        self._health.update(groups, now_us)
        with self._arrived:
            self._count += sum(len(group.outcomes) for group in groups)
            self._arrived.notify_all()

    def wait_for(self, number: int) -> None:
        """Wait until so many have arrived in all; raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._count >= number, PATIENCE_S):
                raise TimeoutError(
                    f"{self._count} of {number} outcomes arrived within {PATIENCE_S:.0f} s"
                )


class Service:
    """The routing service in this process, with a curator that closes an hour when told."""

    def __init__(self, database: Engine, logbook: Logbook, address: str) -> None:
        self.clock = Clock(wall_clock().replace(minute=0, second=0, microsecond=0))
        self.database = database
        self.logbook = logbook
        health = EndpointHealth()
        self.heard = Heard(health)
        self.decider = Decider(clock=wall_clock, journal=logbook.journal, health=health.now)
        world, snapshot = judged(database, policy_dir(), self.clock.now)
        self.take(world, snapshot)
        self.curator = Curator(
            database,
            RuleFiles(policy_dir()),
            self.clock,
            lambda new: self.take(new.world, new.snapshot),
        )
        self.leasing = RowLeaseClient(database, "demo", self.clock)
        reporter = OutcomeIntake(
            self.decider.current,
            self.decider.pseudonyms.get,
            logbook.journal.append,
            self.heard.update,
        )
        services = (
            routing_service(self.decider),
            evidence_service(Evidence(reporter, PreferenceStore(database, wall_clock))),
            catalog_service(lambda: self.view),
        )
        self.server = Server(services, [address])

    def take(self, world: World, snapshot: Snapshot) -> None:
        """Put in force what was judged."""
        self.decider.publish(snapshot)
        self.view = WorldView(world, snapshot)

    def close_hour(self) -> Mapping[str, str]:
        """Let the hour end, with all that was reported by now; where the endpoints with traffic stand then."""
        self.logbook.drain()
        self.clock.now += HOUR + timedelta(minutes=1)
        lease = self.leasing.acquire()
        if lease is None:
            raise RuntimeError("another curator works on the demo's own database")
        self.curator.work(lease, lambda: True)
        self.leasing.release(lease)
        self.clock.now -= timedelta(minutes=1)
        stands = pool_report(self.decider.current(), f"{MODEL}:exacto")
        found = (j for j in (*stands.members, *stands.others) if j.verdict.provider in PROVIDERS)
        return {j.verdict.provider: j.state or UNKNOWN for j in found}


@contextmanager
def process(event: str, *arguments: object) -> Iterator[Mapping[str, Any]]:
    """An `assay` command as a process of its own, from the line that says it listens to the end of the context."""
    command = [sys.executable, "-m", "assay.cli", *map(str, arguments)]
    with subprocess.Popen(  # noqa: S603 - our own command, its arguments made here
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            if running.stderr is None:
                raise RuntimeError("the process has no log")
            for line in running.stderr:
                told: dict[str, Any] = json.loads(line)
                if told["event"] == event:
                    break
            else:
                raise RuntimeError(f"assay {arguments[0]} ended before it listened")
            rest = Thread(
                target=deque, args=(running.stderr, 0), daemon=True
            )  # so that it never waits for a reader
            rest.start()
            yield told
        finally:
            running.terminate()
            running.wait()


@contextmanager
def chain(folder: Path) -> Iterator[tuple[Service, str, str]]:
    """Service, forwarder and simulated providers; yields the addresses of forwarder and providers over HTTP."""
    with ExitStack() as stack:
        database = stack.enter_context(open_current_database(f"sqlite:///{folder / 'forward.db'}"))
        load(database, CATALOG)
        logbook = stack.enter_context(logging(folder, database))
        service = Service(database, logbook, f"unix:{folder / 'assay.sock'}")
        stack.callback(service.server.stop)
        cast = folder / "cast.yaml"
        cast.write_text(
            json.dumps({"seed": 7, "providers": {name: {"propensity": 1.0} for name in PROVIDERS}})
        )
        simulated = stack.enter_context(
            process("simulating", "simulate", "--http", "127.0.0.1:0", "--providers", cast)
        )
        upstream = simulated["http"]
        known = {
            name: {"baseUrl": f"http://{upstream}/{name}/v1", "private": True} for name in PROVIDERS
        }
        providers = folder / "providers.yaml"
        providers.write_text(
            json.dumps(
                {"apiVersion": "assay/v1", "kind": "Providers", "spec": {"providers": known}}
            )
        )
        forwarding = stack.enter_context(
            process(
                "forwarding", "forward", "--server", service.server.addresses[0], "--http", "127.0.0.1:0",
                "--providers", providers, "--spool", folder / "spool",
            )
        )  # fmt: skip
        yield service, forwarding["http"], upstream


def conversation() -> Conversation:
    """Earn a pool with ordinary requests, talk through it, let a provider go bad, and talk again."""
    with (
        TemporaryDirectory(prefix="assay-demo-") as folder,
        chain(Path(folder)) as (service, front, upstream),
    ):
        return asyncio.run(acted(service, front, upstream))


async def acted(service: Service, front: str, upstream: str) -> Conversation:
    """The act itself."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - only the demo speaks through OpenAI's client

    async with AsyncOpenAI(base_url=f"http://{front}/v1", api_key="none", max_retries=0) as client:
        await asyncio.gather(*(asked(client, name) for name in PROVIDERS))
        service.heard.wait_for(REQUESTS * len(PROVIDERS))
        before = service.close_hour()
        first = await talked(client)
        await asyncio.to_thread(spoil, upstream)
        await asked(client, FALLEN)
        service.heard.wait_for(REQUESTS * (len(PROVIDERS) + 1) + 2)
        hours, after = 0, before
        while after[FALLEN] == "member" and hours < MOST_HOURS:
            after = service.close_hour()
            hours += 1
        return Conversation(before, first, after, await talked(client), hours)


async def asked(client: AsyncOpenAI, provider: str) -> None:
    """Ordinary requests with a tool, all to one provider: they are what a place in the pool is earned with."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def once() -> None:
        async with limit:
            await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": QUESTION}], tools=[WEATHER],
                extra_body={"provider": {"only": [provider]}},
            )  # fmt: skip

    await asyncio.gather(*(once() for _ in range(REQUESTS)))


async def talked(client: AsyncOpenAI) -> Turn:
    """A question, the model's call of a tool, the tool's result, and the model's answer, through `:exacto`."""
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    calling = await client.chat.completions.create(
        model=f"{MODEL}:exacto", messages=messages, tools=[WEATHER]
    )
    message = calling.choices[0].message
    [call] = (call for call in message.tool_calls or [] if call.type == "function")
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"forecast": "rain"}'}
    messages += [message.model_dump(exclude_none=True), result]
    answering = await client.chat.completions.create(
        model=f"{MODEL}:exacto", messages=messages, tools=[WEATHER]
    )
    served = [str((answer.model_extra or {}).get("provider")) for answer in (calling, answering)]
    said = answering.choices[0].message.content or ""
    return Turn(served, f"{call.function.name}({call.function.arguments})", said)


def spoil(upstream: str) -> None:
    """Let one simulated provider err in half of its tool calls from now on."""
    change = json.dumps({"accuracy": WORSE}).encode()
    request = Request(f"http://{upstream}/control/providers/{FALLEN}", change, method="PATCH")
    with urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - our own process on loopback
        answer.read()
