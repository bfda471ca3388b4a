"""Simulated agents: seeded conversations with tools, sent through a forwarder.

An agent asks a question. While the model calls tools, the agent checks the calls, returns a result
for each, and sends the conversation again. Then it asks the next question. The checks are those of
Assay's checker; what is wrong with a call is the provider's doing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from assay.toolcalls import OfferedTools, check

MAX_STEPS: Final = 4  # requests for one question
QUESTIONS_EACH: Final = 3
TIMEOUT_S: Final = 60.0
SYSTEM: Final = "You are a careful assistant. Use the tools, and say so if you cannot help."
QUESTIONS: Final = (
    "Shall I take an umbrella in Lisbon tomorrow?",
    "Which invoices of last month are still open, and who has to be reminded?",
    "Find the design document about retries and summarize its open points.",
    "Move the review with Ana to Thursday, and tell her why.",
    "Why does the nightly build fail since Monday?",
    "How many customers came back within thirty days?",
    "Which of our three offices has the most rain in May?",
)
Json = Mapping[str, Any]


def _tool(name: str, required: Sequence[str], **properties: Json) -> Json:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    function = {"name": name, "description": name.replace("_", " "), "parameters": parameters}
    return {"type": "function", "function": function}


_TEXT: Final[Json] = {"type": "string", "minLength": 1}
_COUNT: Final[Json] = {"type": "integer", "minimum": 1, "maximum": 50}
TOOLS: Final[Sequence[Json]] = (
    _tool("get_weather", ["place"], place=_TEXT, days=_COUNT),
    _tool("search_documents", ["query"], query=_TEXT, limit=_COUNT),
    _tool("read_file", ["path"], path=_TEXT, first_line=_COUNT, last_line=_COUNT),
    _tool(
        "run_query",
        ["sql", "format"],
        sql=_TEXT,
        format={"enum": ["table", "json"]},
        parameters={"type": "array", "items": _TEXT, "maxItems": 3},
    ),
    _tool(
        "book_meeting",
        ["title", "start", "attendees"],
        title=_TEXT,
        start={"type": "string", "format": "date-time"},
        attendees={"type": "array", "items": _TEXT, "minItems": 1},
    ),
    _tool("send_message", ["to", "text"], to=_TEXT, text=_TEXT, urgent={"type": "boolean"}),
)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of asking for the same models: the tenant of its requests, and a suffix."""

    name: str
    tenant: str
    suffix: str = ""

    @property
    def key(self) -> str:
        """The client key of the tenant."""
        return f"key-of-{self.tenant}"


@dataclass(frozen=True, slots=True)
class AgentTask:
    """What an agent asks one model, and the tools that it offers."""

    number: int
    model: str
    tools: Sequence[Json]
    questions: Sequence[str]


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """One request of an agent; without an endpoint it was not answered.

    It is `errored` if any tool call of the answer is bad.
    """

    task: AgentTask
    seconds: float
    endpoint_id: str | None = None
    attempts: int = 0
    errored: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


def agent_tasks(models: Sequence[str], count: int, seed: int) -> list[AgentTask]:
    """Return tasks for these models in turn; the same ones for the same seed."""
    draw = random.Random(seed)  # noqa: S311 - simulated traffic is the same in every run
    return [
        AgentTask(
            number,
            models[number % len(models)],
            draw.sample(TOOLS, draw.randint(2, len(TOOLS))),
            draw.sample(QUESTIONS, QUESTIONS_EACH),
        )
        for number in range(count)
    ]


async def run_agents(
    http: str, arms: Iterable[Arm], tasks: Iterable[AgentTask], *, in_flight: int
) -> dict[Arm, list[AgentRequest]]:
    """Send every task through every arm, side by side; return the requests of each arm."""
    limit = asyncio.Semaphore(in_flight)
    pairs = [(arm, task) for task in tasks for arm in arms]
    async with ClientSession(
        f"http://{http}", connector=TCPConnector(limit=0), timeout=ClientTimeout(TIMEOUT_S)
    ) as session:

        async def run(arm: Arm, task: AgentTask) -> list[AgentRequest]:
            async with limit:
                return await _Agent(session, arm, task).run()

        found = await asyncio.gather(*(run(arm, task) for arm, task in pairs))
    requests: dict[Arm, list[AgentRequest]] = {arm: [] for arm, _ in pairs}
    for (arm, _), done in zip(pairs, found, strict=True):
        requests[arm] += done
    return requests


class _Agent:
    """Works on one task through one arm."""

    def __init__(self, session: ClientSession, arm: Arm, task: AgentTask) -> None:
        self._session = session
        self._task = task
        self._offered = OfferedTools(task.tools)
        self._messages: list[Json] = [{"role": "system", "content": SYSTEM}]
        self._fixed = {
            "model": f"{task.model}{arm.suffix}",
            "tools": task.tools,
            "session_id": f"agent-{task.number}",
        }
        self._headers = {
            "Authorization": f"Bearer {arm.key}",
            "Content-Type": "application/json",
            "X-OpenRouter-Metadata": "enabled",
        }

    async def run(self) -> list[AgentRequest]:
        sent = []
        for question in self._task.questions:
            self._messages.append({"role": "user", "content": question})
            for _ in range(MAX_STEPS):
                request = await self._send()
                sent.append(request)
                if request.endpoint_id is None or self._messages[-1]["role"] != "tool":
                    break
        return sent

    async def _send(self) -> AgentRequest:
        """Send the conversation; add the answer, and a result for each tool call, to it."""
        began = time.perf_counter()
        body = orjson.dumps({**self._fixed, "messages": self._messages})
        async with self._session.post(
            "/v1/chat/completions", data=body, headers=self._headers
        ) as reply:
            answer = orjson.loads(await reply.read())
        seconds = time.perf_counter() - began
        attempts = answer.get("openrouter_metadata", {}).get("attempts", [])
        if reply.status != HTTPStatus.OK:
            return AgentRequest(self._task, seconds, attempts=len(attempts))
        message = answer["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        self._messages.append(message)
        self._messages += [
            {"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in calls
        ]
        return AgentRequest(
            self._task,
            seconds,
            endpoint_id=attempts[-1]["endpoint_id"],
            attempts=len(attempts),
            errored=check(self._offered, calls).errored,
            prompt_tokens=answer["usage"]["prompt_tokens"],
            completion_tokens=answer["usage"]["completion_tokens"],
        )
