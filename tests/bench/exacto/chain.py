"""The real chain: simulated providers, a server and a forwarder, each as a process.

Pools need evidence before the arms are compared. The bench measures it as a verifier would: it
sends requests with tools to every endpoint, checks the calls, and imports the counts as
observations. They are dated one hour back, since the curator judges as of the last closed hour, and
a window of observation counts only after it has ended.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop
from aiohttp import ClientSession, TCPConnector
from tests.bench.exacto.population import population
from tests.support.catalogs import DEMO_CATALOGS
from tests.support.commands import assay
from tests.support.processes import running, serving
from tests.support.simulated_providers import SimulatedProviders, simulating

from assay.demo.agents import QUESTIONS, TOOLS
from assay.demo.comparison import write_clients, write_policy
from assay.demo.traffic import MODELS
from assay.engine.world.catalog import Endpoint
from assay.importers.catalog_csv import read_catalog
from assay.toolcalls import OfferedTools, check

SEED: Final = 2025
_PROBES_IN_FLIGHT: Final = 64
_QUICK: Final = {"latency_s": 0.0}
_OBSERVATION: Final = (
    *("model", "provider", "tag", "source", "observed_from", "observed_to"),
    *("requests", "tool_call_requests", "errored_requests"),
)


@dataclass(frozen=True, slots=True)
class Chain:
    """A forwarder to send requests to, and the simulated providers behind it."""

    http: str
    simulated: SimulatedProviders
    endpoints: Sequence[Endpoint]

    def errored_answers(self) -> int:
        """Return how many answers the simulated providers gave a bad call on purpose."""
        return sum(bool(record["bad_calls"]) for record in self.simulated.seen())


@dataclass(frozen=True, slots=True)
class ProbeCounts:
    """What requests with tools to one endpoint ended in."""

    requests: int
    tool_call_requests: int
    errored_requests: int


def endpoints_of(models: Sequence[str]) -> list[Endpoint]:
    """Return the endpoints of these models in the demo's catalogs."""
    documents = [read_catalog(path.read_bytes(), source=path.stem) for path in DEMO_CATALOGS]
    found = [each for document in documents for each in document.endpoints]
    return [endpoint for endpoint in found if endpoint.model in models]


@contextmanager
def running_chain(folder: Path, models: Sequence[str], probes: int) -> Iterator[Chain]:
    """Start the chain and measure every endpoint with so many requests."""
    endpoints = endpoints_of(models)
    behaviors = population(endpoint.provider for endpoint in endpoints_of(MODELS))
    url = f"sqlite:///{folder / 'bench.db'}"
    _run("migrate", "--database", url)
    for path in DEMO_CATALOGS:
        _run("import", "catalog", path, "--database", url)
    with simulating(cast={"seed": SEED, "providers": behaviors}, folder=folder) as simulated:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            counts = runner.run(_probe(simulated, behaviors, endpoints, probes))
        observed = folder / "observed.csv"
        observed.write_text(_observations(counts, datetime.now(UTC)))
        _run("import", "observations", observed, "--database", url)
        simulated.forget()
        policy = write_policy(folder)
        options = ("--database", url, "--policy", policy, "--journal", folder / "journal")
        files = ("--clients", write_clients(folder), "--spool", folder / "spool")
        with (
            serving(*options) as server,
            running(
                "forwarding", "forward", "--server", server.address, "--http", "127.0.0.1:0",
                "--providers", _providers_file(folder, simulated, behaviors), *files,
            ) as forwarder,
        ):  # fmt: skip
            yield Chain(forwarder.http, simulated, endpoints)


def _run(*arguments: object) -> None:
    ran = assay(*arguments)
    assert ran.code == 0, ran


def _providers_file(
    folder: Path, simulated: SimulatedProviders, behaviors: Mapping[str, object]
) -> Path:
    providers = {name: {"baseUrl": simulated.base_url(name), "private": True} for name in behaviors}
    file = {"apiVersion": "assay/v1", "kind": "Providers", "spec": {"providers": providers}}
    path = folder / "providers.yaml"
    path.write_text(json.dumps(file))
    return path


async def _probe(
    simulated: SimulatedProviders,
    behaviors: Mapping[str, Mapping[str, Any]],
    endpoints: Sequence[Endpoint],
    probes: int,
) -> dict[Endpoint, ProbeCounts]:
    """Measure the endpoints that support tools, one after the other and without waiting."""
    for name in behaviors:
        simulated.control("PATCH", f"providers/{name}", _QUICK)
    able = [each for each in endpoints if "tools" in each.supported_parameters]
    async with ClientSession(connector=TCPConnector(limit=_PROBES_IN_FLIGHT)) as session:
        counts = {each: await _probe_endpoint(session, simulated, each, probes) for each in able}
    for name, behavior in behaviors.items():
        simulated.control("PATCH", f"providers/{name}", behavior)
    return counts


async def _probe_endpoint(
    session: ClientSession, simulated: SimulatedProviders, endpoint: Endpoint, probes: int
) -> ProbeCounts:
    """Measure one endpoint; requests that it rejects do not count, as a verifier repeats them."""
    url, offered = f"{simulated.base_url(endpoint.provider)}/chat/completions", OfferedTools(TOOLS)
    question = {"role": "user", "content": QUESTIONS[0]}
    sent = {"model": endpoint.model, "messages": [question], "tools": TOOLS}
    body, headers = orjson.dumps(sent), {"Content-Type": "application/json"}

    async def probe() -> list[Any] | None:
        """Return the tool calls of an answer; `None` if there is no answer."""
        async with session.post(url, data=body, headers=headers) as reply:
            answer = orjson.loads(await reply.read())
        if reply.status != 200:
            return None
        return answer["choices"][0]["message"].get("tool_calls") or []

    found = await asyncio.gather(*(probe() for _ in range(probes)))
    answers = [calls for calls in found if calls is not None]
    errored = sum(check(offered, calls).errored for calls in answers)
    return ProbeCounts(len(answers), sum(map(bool, answers)), errored)


def _observations(counts: Mapping[Endpoint, ProbeCounts], now: datetime) -> str:
    """Return the counts as a file of observations of the hour before the last full one."""
    end = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    window = [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (end - timedelta(hours=1), end)]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_OBSERVATION)
    for each, seen in counts.items():
        found = (seen.requests, seen.tool_call_requests, seen.errored_requests)
        rows.writerow((each.model, each.provider, each.tag, "bench-probe", *window, *found))
    return text.getvalue()
