"""The demo: real catalog and real observations in a temporary database, a server, and five questions over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc

from assay.decision_log.writer import Logbook
from assay.importers.catalog_csv import read_catalog
from assay.importers.observations import read_observations
from assay.server.service import Serving
from assay.server.settings import policy_dir
from assay.server.wiring import open_current_database, wall_clock
from assay.store.imports.catalog import apply_catalog
from assay.store.imports.observations import apply_observations
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc

DATA = Path(__file__).resolve().parent / "data"
CATALOGS = ("endpoints_2026-07-04", "kimi-k2-0905_direct")
OBSERVATIONS = "kimi-k2-0905_2025-09-22"
OBSERVED = datetime(2025, 9, 23, 12, tzinfo=UTC)
MODEL = "moonshotai/kimi-k2-0905"
QUESTIONS = ("", ":exacto", ":nitro", ":floor", ":exacto:floor")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was imported."""

    models: int
    endpoints: int
    observations: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One question and what the server said."""

    model: str
    response: pb.DecideResponse


@contextmanager
def demo() -> Iterator[tuple[Loaded, Iterator[Answer]]]:
    """Set everything up, hand out the answers as they come, and take everything down again."""
    with (
        TemporaryDirectory(prefix="assay-demo-") as folder,
        open_current_database(f"sqlite:///{Path(folder) / 'demo.db'}") as database,
    ):
        now = wall_clock()
        for name in CATALOGS:
            data = (DATA / "catalog_facts" / f"{name}.csv").read_bytes()
            apply_catalog(database, read_catalog(data, source=name), now=now)
        seen = read_observations((DATA / "observations" / f"{OBSERVATIONS}.csv").read_bytes())
        apply_observations(database, seen, create_endpoints=False, now=now)
        logbook = Logbook(Path(folder) / "journal", database)
        serving = Serving(
            database, policy_dir(), [f"unix:{Path(folder) / 'assay.sock'}"], OBSERVED, logbook
        )
        try:
            view = serving.current_view()
            loaded = Loaded(len(view.models()), len(view.endpoints(None)), len(seen.rows))
            yield loaded, answers(serving.server.addresses[0])
        finally:
            serving.server.stop()
            logbook.close()


def answers(address: str) -> Iterator[Answer]:
    """Ask every question, as a gateway would."""
    with grpc.insecure_channel(address) as channel:
        stub = routing_pb2_grpc.RoutingServiceStub(channel)
        for suffix in QUESTIONS:
            request = pb.DecideRequest(model=MODEL + suffix, tools=2)
            yield Answer(request.model, stub.Decide(request, timeout=10.0, wait_for_ready=True))
