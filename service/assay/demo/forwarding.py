"""Third part of the demo: a conversation through the forwarder while one provider becomes worse.

Simulated providers and the forwarder run as processes of their own, the service in this one. The
client is OpenAI's. Pools change at the end of an hour, so the curator's clock is the demo's own.
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
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

from assay.demo.agents import agent_tasks, run_agents
from assay.demo.comparison import ARMS, AUTO, ArmFigures, arm_figures, write_clients, write_policy
from assay.demo.traffic import SEED, SETTLING, SteppedClock, import_catalog
from assay.engine.pool.report import pool_report
from assay.engine.snapshot.pool_memory import UNKNOWN
from assay.engine.world.clock import HOUR
from assay.outcomes.outcome import OutcomeGroup
from assay.server.database import open_current_database
from assay.server.frontend import GrpcFrontend
from assay.server.service import Service, ServiceSettings
from assay.server.settings import wall_clock

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CATALOG: Final = "endpoints_2026-07-04"
MODEL: Final = "z-ai/glm-4.6"
PROVIDERS: Final = ("atlas-cloud", "novita", "z-ai")
WORSENING: Final = "novita"
REQUESTS, CONCURRENCY = 150, 8
TIMEOUT_S = 30.0
MAX_HOURS = 3
TASKS = 20
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
class ConversationTurn:
    """A question answered with a tool: the provider of each response, the call and the answer."""

    providers: Sequence[str]
    call: str
    answer: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Both turns, and the pool states of the three providers before and after.

    `arms` are the figures of simulated agents afterwards, by the name of their arm.
    """

    before: Mapping[str, str]
    first: ConversationTurn
    after: Mapping[str, str]
    second: ConversationTurn
    hours: int
    arms: Mapping[str, ArmFigures]


class OutcomeCounter:
    """Counts the outcomes that have arrived."""

    def __init__(self) -> None:
        self._arrived = Condition()
        self._count = 0

    def add(self, groups: Sequence[OutcomeGroup]) -> None:
        """Count an accepted batch."""
        with self._arrived:
            self._count += sum(len(group.outcomes) for group in groups)
            self._arrived.notify_all()

    def wait_for(self, number: int) -> None:
        """Wait until so many have arrived in all; raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._count >= number, TIMEOUT_S):
                raise TimeoutError(
                    f"{self._count} of {number} outcomes arrived within {TIMEOUT_S:.0f} s"
                )


class HourlyService:
    """The service of this process; an hour ends when `close_hour` is called."""

    def __init__(self, service: Service, clock: SteppedClock, arrived: OutcomeCounter) -> None:
        self.arrived = arrived
        self._service = service
        self._clock = clock

    def close_hour(self) -> Mapping[str, str]:
        """End the hour with everything reported by now; return the pool state of each provider."""
        self._service.drain_log()
        self._clock.now += HOUR + SETTLING
        self._service.curate_once()
        self._clock.now -= SETTLING
        report = pool_report(self._service.decider.current(), f"{MODEL}:exacto")
        judged = (*report.members, *report.others)
        return {
            each.verdict.provider: each.state or UNKNOWN
            for each in judged
            if each.verdict.provider in PROVIDERS
        }


@contextmanager
def _assay_process(event: str, *arguments: object) -> Iterator[Mapping[str, Any]]:
    """Run an `assay` command as a process; yield its log line for `event` once it listens."""
    command = [sys.executable, "-m", "assay.cli", *map(str, arguments)]
    with subprocess.Popen(  # noqa: S603 - our own command, its arguments made here
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            if running.stderr is None:
                raise RuntimeError("the process has no log")
            for line in running.stderr:
                fields: dict[str, Any] = json.loads(line)
                if fields["event"] == event:
                    break
            else:
                raise RuntimeError(f"assay {arguments[0]} ended before it listened")
            # Read the rest of its log, so that the process never blocks on a full pipe.
            Thread(target=deque, args=(running.stderr, 0), daemon=True).start()
            yield fields
        finally:
            _stop(running)


def _stop(running: subprocess.Popen[str]) -> None:
    """End a process; kill it if it does not end in time."""
    running.terminate()
    try:
        running.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        running.kill()


@contextmanager
def _chain(folder: Path) -> Iterator[tuple[HourlyService, str, str]]:
    """Run service, forwarder and simulated providers; yield the HTTP addresses of the last two."""
    clock = SteppedClock(wall_clock().replace(minute=0, second=0, microsecond=0))
    arrived = OutcomeCounter()
    with ExitStack() as stack:
        database = stack.enter_context(open_current_database(f"sqlite:///{folder / 'forward.db'}"))
        import_catalog(database, CATALOG)
        settings = ServiceSettings(
            database=database,
            policy=write_policy(folder),
            journal=folder / "journal",
            curator_clock=clock,
            on_outcomes=arrived.add,
        )
        service = stack.enter_context(Service(settings))
        frontend = GrpcFrontend(service, [f"unix:{folder / 'assay.sock'}"])
        stack.callback(frontend.stop)
        perfect = {name: {"propensity": 1.0} for name in PROVIDERS}
        simulated = folder / "simulated.yaml"
        simulated.write_text(json.dumps({"seed": 7, "providers": perfect}))
        simulating = stack.enter_context(
            _assay_process(
                "simulating", "simulate", "--http", "127.0.0.1:0", "--providers", simulated
            )
        )
        upstream = simulating["http"]
        providers = folder / "providers.yaml"
        providers.write_text(json.dumps(_providers_file(upstream)))
        forwarding = stack.enter_context(
            _assay_process(
                "forwarding",
                *("forward", "--server", frontend.addresses[0], "--http", "127.0.0.1:0"),
                *("--providers", providers, "--clients", write_clients(folder)),
                *("--spool", folder / "spool"),
            )
        )
        yield HourlyService(service, clock, arrived), forwarding["http"], upstream


def _providers_file(upstream: str) -> dict[str, object]:
    urls = {name: f"http://{upstream}/{name}/v1" for name in PROVIDERS}
    providers = {name: {"baseUrl": url, "private": True} for name, url in urls.items()}
    return {"apiVersion": "assay/v1", "kind": "Providers", "spec": {"providers": providers}}


def run_conversation() -> Conversation:
    """Qualify three providers, converse through the pool, make one worse, converse again."""
    with (
        TemporaryDirectory(prefix="assay-demo-") as folder,
        _chain(Path(folder)) as (service, front, upstream),
    ):
        return asyncio.run(_converse(service, front, upstream))


async def _converse(service: HourlyService, front: str, upstream: str) -> Conversation:
    from openai import AsyncOpenAI  # noqa: PLC0415 - an optional dependency of the demo

    async with AsyncOpenAI(
        base_url=f"http://{front}/v1", api_key=AUTO.key, max_retries=0, timeout=TIMEOUT_S
    ) as client:
        await asyncio.gather(*(_send_requests(client, name) for name in PROVIDERS))
        service.arrived.wait_for(REQUESTS * len(PROVIDERS))
        before = service.close_hour()
        first = await _converse_once(client)
        await asyncio.to_thread(_make_worse, upstream)
        await _send_requests(client, WORSENING)
        service.arrived.wait_for(REQUESTS * (len(PROVIDERS) + 1) + 2)
        hours, after = 0, before
        while after[WORSENING] == "member" and hours < MAX_HOURS:
            after = service.close_hour()
            hours += 1
        second = await _converse_once(client)
        return Conversation(before, first, after, second, hours, await _compare_arms(front))


async def _compare_arms(front: str) -> dict[str, ArmFigures]:
    """Send the same tasks of simulated agents through every arm."""
    tasks = agent_tasks([MODEL], TASKS, SEED)
    sent = await run_agents(front, ARMS, tasks, in_flight=CONCURRENCY)
    return {arm.name: arm_figures(requests, {}) for arm, requests in sent.items()}


async def _send_requests(client: AsyncOpenAI, provider: str) -> None:
    """Send requests with a tool to one provider, which qualify it for the pool."""
    limit = asyncio.Semaphore(CONCURRENCY)

    async def once() -> None:
        async with limit:
            await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": QUESTION}], tools=[WEATHER],
                extra_body={"provider": {"only": [provider]}},
            )  # fmt: skip

    await asyncio.gather(*(once() for _ in range(REQUESTS)))


async def _converse_once(client: AsyncOpenAI) -> ConversationTurn:
    """Ask a question, return the result of the tool that the model calls, and read its answer."""
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
    text = answering.choices[0].message.content or ""
    return ConversationTurn(served, f"{call.function.name}({call.function.arguments})", text)


def _make_worse(upstream: str) -> None:
    """Make half of one simulated provider's tool calls invalid from now on."""
    change = json.dumps({"accuracy": WORSE}).encode()
    request = Request(f"http://{upstream}/control/providers/{WORSENING}", change, method="PATCH")
    with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - our own process on loopback
        answer.read()
