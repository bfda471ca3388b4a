"""A model with twenty endpoints and evidence: half are admitted by exacto, half excluded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from assay.engine.policy.policy import Policy
from assay.engine.pool.judge import judge
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.catalog import Endpoint, Model, Percentiles, Prices
from assay.engine.world.measurements import IgnoreVote, Observation
from assay.engine.world.world import Preference, World
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory
from assay.server.settings import policy_dir

MODEL = "acme/large-1"
AS_OF = datetime(2026, 7, 4, 14, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TENANTS = 40

# requests, tool-call requests, errored ones, days since the window ended; None if not observed
COUNTS: tuple[tuple[int, int, int, int] | None, ...] = (
    *((9000 + 300 * i, 4400 + 160 * i, 20 + 3 * i, 1) for i in range(10)),  # admitted
    (9000, 4500, 700, 1),
    (8000, 4100, 450, 1),
    (9500, 4300, 1500, 2),
    (9100, 4600, 330, 1),  # not accurate
    (120, 60, 0, 1),
    (90, 45, 1, 1),  # too few
    (9000, 600, 10, 1),  # hardly ever calls tools
    None,
    None,  # never observed
    (9000, 4500, 30, 120),  # observed long ago
)
IGNORED_BY = {3: 2, 9: 1, 15: 20}
PARAMETERS = (
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "tools",
    "tool_choice",
    "response_format",
)


def endpoint(index: int) -> Endpoint:
    provider = f"provider-{index:02}"
    return Endpoint(
        endpoint_id=f"{MODEL}@{provider}",
        model=MODEL,
        provider=provider,
        tag=provider,
        quantization=("fp8", "bf16", "unknown")[index % 3],
        context_length=131072 if index % 4 else 65536,
        max_completion_tokens=16384 if index % 2 else None,
        supported_parameters=PARAMETERS if index % 5 else PARAMETERS[:5],
        prices=Prices(
            prompt=0.3 + 0.05 * (index * 7 % 20), completion=1.0 + 0.2 * (index * 3 % 20)
        ),
        status=0,
        uptime_30m_percent=99.5 if index % 6 else 93.0,
        latency_s=Percentiles(0.4 + 0.02 * index, 0.7, 1.2, 2.5),
        throughput_tps=Percentiles(40.0 + 5 * (index * 11 % 20), 60.0, 30.0, 10.0),
        zdr=index % 2 == 0,
        collects_data=index % 3 == 0,
    )


def observation(index: int, counts: tuple[int, int, int, int]) -> Observation:
    requests, calls, errored, age = counts
    end = AS_OF - age * DAY
    return Observation(
        f"{MODEL}@provider-{index:02}", "probe", end - 7 * DAY, end, requests, calls, errored
    )


def ballots() -> tuple[IgnoreVote, ...]:
    ignored = {
        t: frozenset(f"provider-{i:02}" for i, count in IGNORED_BY.items() if t < count)
        for t in range(TENANTS)
    }
    return tuple(IgnoreVote(f"tenant-{t}", MODEL, ignored[t]) for t in range(TENANTS))


@cache
def world() -> World:
    return World(
        models=(Model(MODEL, "Large 1", 131072, ("text", "image"), ("text",)),),
        endpoints=tuple(endpoint(i) for i in range(20)),
        observations=tuple(observation(i, c) for i, c in enumerate(COUNTS) if c),
        preferences=tuple(
            Preference(f"tenant-{t}", "pin", "provider-00", MODEL) for t in range(TENANTS)
        ),
        ignore_votes=ballots(),
    )


@cache
def policy() -> Policy:
    return compile_source(read_directory(policy_dir()))


@cache
def snapshot() -> Snapshot:
    return judge(world(), policy(), AS_OF).snapshot
