"""Latency of Decide while the server activates a snapshot of 1,000 models × 20 endpoints."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

import pytest
from sqlalchemy import Engine, func, insert, select
from tests.bench.ledger import Ledger
from tests.bench.measure import Spread, spread
from tests.support.databases import record_policy
from tests.support.messages import message_from
from tests.support.population import AS_OF, DAY, MODEL, world
from tests.support.processes import serving
from tests.support.server_calls import health_status
from tests.support.waiting import eventually

from assay.engine.policy.policy import Policy
from assay.engine.pool.judge import judge
from assay.engine.world.request import Request
from assay.engine.world.world import World
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory
from assay.server.settings import policy_dir
from assay.store.database import writing
from assay.store.snapshots import StoredSnapshot, save_snapshot
from assay.store.tables import publication
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

MODELS = 1000
SWAPS = 6
QUIET_S = 15.0
FOLLOWED_WITHIN_S = 5.0
TIMES_P99 = 2.0


@dataclass(frozen=True)
class Prepared:
    """A database with two snapshots that share only the policy's part."""

    database: Engine
    names: tuple[str, str]
    bytes: int

    def publish(self, name: str) -> None:
        with writing(self.database) as connection:
            newest = connection.scalar(select(func.max(publication.c.sequence))) or 0
            row = {"sequence": newest + 1, "snapshot_id": name, "published_at": datetime.now(UTC)}
            connection.execute(insert(publication), row)


def populated() -> World:
    """Return the population `MODELS` times, each under a name of its own."""
    one = world()
    names = [f"{MODEL}-{number}" for number in range(MODELS)]
    return replace(
        one,
        models=tuple(replace(model, model=name) for name in names for model in one.models),
        endpoints=tuple(
            replace(each, model=name, endpoint_id=each.endpoint_id.replace(MODEL, name))
            for name in names
            for each in one.endpoints
        ),
        observations=tuple(
            replace(each, endpoint_id=each.endpoint_id.replace(MODEL, name))
            for name in names
            for each in one.observations
        ),
        preferences=(),
    )


@pytest.fixture
def prepared(store: Engine) -> Prepared:
    source = read_directory(policy_dir())
    revision = record_policy(store, source.digest, source.files, now=AS_OF)
    policy = replace(compile_source(source), revision=revision)
    whole = populated()
    first, second = (store_snapshot(store, whole, policy, days) for days in (0, 1))
    names = (first.snapshot_id, second.snapshot_id)
    return Prepared(store, names, sum(map(len, first.parts.values())))


def store_snapshot(store: Engine, whole: World, policy: Policy, days: int) -> StoredSnapshot:
    snapshot = judge(whole, policy, AS_OF + days * DAY).snapshot
    stored = StoredSnapshot(
        snapshot.snapshot_id, snapshot.as_of, policy.revision, snapshot.manifest, snapshot.parts
    )
    save_snapshot(store, stored, published=False, now=AS_OF)
    return stored


@dataclass
class DecideClient:
    """A client with one call in flight; `seen` is the snapshot of the last answer."""

    stub: pb_grpc.RoutingServiceStub
    number: int = 0
    seen: str = ""

    def __call__(self) -> float:
        """Decide for the next model; return the seconds it took."""
        self.number += 1
        name = f"{MODEL}-{self.number * 7919 % MODELS}:exacto"
        question: pb.DecideRequest = message_from(
            Request(name, tools=2, parameters=("tools", "tool_choice"))
        )
        started = time.perf_counter()
        answer = self.stub.Decide(question)
        took = time.perf_counter() - started
        self.seen = answer.snapshot_id
        return took

    def until_time(self, end: float) -> list[float]:
        """Decide until a monotonic time; return the seconds of each call."""
        found = []
        while time.monotonic() <= end:
            found.append(self())
        return found

    def until_seen(self, snapshot: str) -> list[float]:
        """Decide until an answer comes from this snapshot; return the seconds of each call."""
        found = []
        while self.seen != snapshot:
            found.append(self())
        return found


def p99(times: list[float]) -> float:
    return quantiles(times, n=100)[98]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_activating_a_snapshot_at_most_doubles_the_p99_of_decide(
    prepared: Prepared, tmp_path: Path, ledger: Ledger
) -> None:
    url = prepared.database.url.render_as_string(hide_password=False)
    arguments = ("--target", "decide", "--database", url, "--journal", tmp_path / "journal")
    prepared.publish(prepared.names[0])
    with serving(*arguments) as server, server.channel() as channel:
        eventually(lambda: health_status(channel), lambda seen: seen == "SERVING")
        client = DecideClient(pb_grpc.RoutingServiceStub(channel))
        end = time.monotonic() + 3.0
        client.until_time(end)  # warm
        levels, peaks, spans, worst = [], [], [], 0.0
        for swap in range(1, SWAPS + 1):
            end = time.monotonic() + QUIET_S / SWAPS
            levels += client.until_time(end)
            name = prepared.names[swap % 2]
            started = time.monotonic()
            prepared.publish(name)
            during = client.until_seen(name)
            spans.append(time.monotonic() - started)
            end = time.monotonic() + 1.0
            during += client.until_time(end)
            peaks += during
            worst = max(worst, *during)
    megabytes = prepared.bytes / 1e6
    name = f"swap of {MODELS} models × 20, {megabytes:.0f} MB, from publication to activation"
    ledger.took(name, spread(spans), below=FOLLOWED_WITHIN_S)
    ledger.took("Decide over a socket, p99, quiet", point(p99(levels)))
    ledger.took("Decide over a socket, worst while swapping", point(worst))
    assert len(peaks) > 1000
    ledger.took(
        f"Decide over a socket, p99 while swapping ({p99(peaks) / p99(levels):.2f} × quiet)",
        point(p99(peaks)),
        below=TIMES_P99 * p99(levels),
    )


def point(seconds: float) -> Spread:
    return Spread(seconds, seconds, seconds)
