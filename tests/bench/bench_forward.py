"""The forwarder's CPU and memory, against a bare forwarder and against LiteLLM.

CPU is user and system time of the forwarding process. `make bench-litellm` makes the environment
for LiteLLM.

Streams come in two ways. Paced chunks travel alone and cost every forwarder a read and a write, so
that the target is relative to the bare forwarder. In bursts, many chunks fit into one read, and the
cost of parsing each chunk shows. There the target is relative to LiteLLM.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.bench.forwarders import (
    HERE,
    LITELLM,
    MODEL,
    Forwarder,
    Side,
    bare,
    body,
    cpu_compared,
    first_bytes,
    litellm,
    streams_at_once,
)
from tests.bench.ledger import Ledger
from tests.bench.measure import spread
from tests.support.catalogs import NOW
from tests.support.forwarding_chain import forwarding, import_lab_catalog, peak_mib, providers_file
from tests.support.processes import environment, serving
from tests.support.simulated_providers import SimulatedProviders, simulating

CHUNKS = 100  # of a stream: its role, its words, its end, [DONE]
WORDS = CHUNKS - 3
PAUSE = 0.002  # seconds between chunks, so that each travels alone
STREAMS = 2000
ROUNDS = 5


@dataclass(frozen=True)
class Track:
    """The processes that run during these benches."""

    providers: SimulatedProviders
    decider: str
    ours: Forwarder
    bare: Forwarder


@pytest.fixture(scope="module")
def track(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Track]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = tmp_path_factory.mktemp("track")
    shutil.copyfile(sqlite_template, folder / "assay.db")
    database = import_lab_catalog(folder, folder / "assay.db")
    with (
        simulating() as providers,
        serving("--database", database, "--now", NOW, "--journal", folder / "journal") as server,
        forwarding(
            server.address, providers_file(folder, providers, dead=9, deaf=9), folder / "spool"
        ) as ours,
        bare(providers.base_url("good")) as least,
    ):
        yield Track(providers, server.address, Forwarder("ours", ours.process, ours.http), least)


@pytest.fixture(scope="module")
def other(track: Track, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forwarder]:
    if not LITELLM.exists():
        pytest.skip("LiteLLM is not there to compare with: make bench-litellm")
    with litellm(track.providers.base_url("good"), tmp_path_factory.mktemp("litellm")) as proxy:
        yield proxy


def test_a_plain_request_against_a_bare_forwarder(track: Track, ledger: Ledger) -> None:
    track.providers.play("good", tokens=12, chunk_s=0)
    found = cpu_compared(Side(track.ours, 1600), Side(track.bare, 4000), body(stream=False), ROUNDS)
    calls = [decide_alone(track.decider) for _ in range(ROUNDS)]

    ledger.took("  of it, asking by gRPC (CPU)", spread([cpu for cpu, _ in calls]))
    ledger.took("  asking by gRPC, one in flight (wall)", spread([wall for _, wall in calls]))
    ledger.slower("plain request, bare forwarder (CPU)", found, at_most=4)


def decide_alone(address: str) -> tuple[float, float]:
    """Return the CPU seconds and the wall seconds that one Decide takes its caller."""
    command = [sys.executable, str(HERE / "decide_alone.py"), address, MODEL, "3200"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    cpu, wall = json.loads(ran.stdout)
    return float(cpu), float(wall)


def test_a_request_with_tools_against_a_bare_forwarder(track: Track, ledger: Ledger) -> None:
    track.providers.play("good", tokens=12, chunk_s=0)
    found = cpu_compared(
        Side(track.ours, 1600), Side(track.bare, 4000), body(stream=False, tools=20), ROUNDS
    )

    ledger.slower("plain request with 20 tools, bare forwarder (CPU)", found)


@pytest.mark.parametrize(
    ("kind", "pause", "counts", "target"),
    [
        pytest.param("paced", PAUSE, (160, 160), 1.5, id="paced"),
        pytest.param("in bursts", 0, (480, 800), None, id="bursts"),
    ],
)
def test_a_stream_against_a_bare_forwarder(
    track: Track,
    ledger: Ledger,
    kind: str,
    pause: float,
    counts: tuple[int, int],
    target: float | None,
) -> None:
    track.providers.play("good", tokens=WORDS, chunk_s=pause)
    ours, theirs = Side(track.ours, counts[0]), Side(track.bare, counts[1])
    found = cpu_compared(ours, theirs, body(stream=True), ROUNDS)

    ledger.slower(f"{CHUNKS} chunks {kind}, bare forwarder (CPU)", found, at_most=target)


def test_a_plain_request_against_litellm(track: Track, other: Forwarder, ledger: Ledger) -> None:
    track.providers.play("good", tokens=12, chunk_s=0)
    found = cpu_compared(Side(track.ours, 1600), Side(other, 96), body(stream=False), ROUNDS)

    ledger.faster("plain request, LiteLLM's proxy (CPU)", found, at_least=10)


@pytest.mark.parametrize(
    ("kind", "pause", "target"),
    [pytest.param("paced", PAUSE, None, id="paced"), pytest.param("in bursts", 0, 30, id="bursts")],
)
def test_a_stream_against_litellm(
    track: Track, other: Forwarder, ledger: Ledger, kind: str, pause: float, target: float | None
) -> None:
    track.providers.play("good", tokens=WORDS, chunk_s=pause)
    found = cpu_compared(Side(track.ours, 160), Side(other, 16), body(stream=True), ROUNDS)

    ledger.faster(f"{CHUNKS} chunks {kind}, LiteLLM's proxy (CPU)", found, at_least=target)


@pytest.mark.parametrize(
    "stream", [pytest.param(False, id="plain"), pytest.param(True, id="stream")]
)
def test_latency_added_to_the_first_byte(track: Track, ledger: Ledger, *, stream: bool) -> None:
    track.providers.play("good", tokens=12, chunk_s=0)
    direct = f"{track.providers.base_url('good')}/chat/completions"
    urls = (direct, track.bare.url, track.ours.url)
    found = asyncio.run(first_bytes(urls, body(stream=stream), 400))
    kind = "stream" if stream else "plain"

    pairs = [(ours - alone, least - alone) for alone, least, ours in found]
    ledger.took(
        f"{kind}: first byte without any forwarder", spread([alone for alone, _, _ in found])
    )
    ledger.took(f"{kind}: added to it by a bare forwarder", spread([least for _, least in pairs]))
    ledger.took(f"{kind}: added to it by ours", spread([ours for ours, _ in pairs]), below=0.002)


def test_memory_of_two_thousand_streams(track: Track, ledger: Ledger) -> None:
    track.providers.play("good", tokens=60, chunk_s=1)

    async def look() -> None:
        open_now = [seen for seen in track.providers.seen("good") if seen["end"] == "open"]
        assert len(open_now) == STREAMS

    ended = asyncio.run(streams_at_once(track.ours.url, body(stream=True), STREAMS, look))

    ledger.counted(f"of {STREAMS:,} streams at once, ended well", ended, at_least=STREAMS)
    ledger.held(
        f"memory at its highest, {STREAMS:,} streams", peak_mib(track.ours.process), below=600
    )
