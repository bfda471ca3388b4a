"""First part of the demo: five requests, decided from a real catalog and real observations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc

from assay.importers.catalog_csv import read_catalog
from assay.importers.observations import read_observations
from assay.server.database import open_current_database
from assay.server.frontend import GrpcFrontend
from assay.server.service import Service, ServiceSettings
from assay.server.settings import policy_dir, wall_clock
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
class ImportedData:
    """How much was imported."""

    models: int
    endpoints: int
    observations: int


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """One requested model and the answer of the server."""

    model: str
    response: pb.DecideResponse


@contextmanager
def demo() -> Iterator[tuple[ImportedData, Iterator[ModelAnswer]]]:
    """Import the data into a temporary database, start a server and yield its answers."""
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
        settings = ServiceSettings(
            database=database,
            policy=policy_dir(),
            pinned=OBSERVED,
            journal=Path(folder) / "journal",
        )
        with Service(settings) as service:
            frontend = GrpcFrontend(service, [f"unix:{Path(folder) / 'assay.sock'}"])
            try:
                view = service.active_view()
                loaded = ImportedData(len(view.models()), len(view.endpoints(None)), len(seen.rows))
                yield loaded, answers(frontend.addresses[0])
            finally:
                frontend.stop()


def answers(address: str) -> Iterator[ModelAnswer]:
    """Send every request, as a gateway does."""
    with grpc.insecure_channel(address) as channel:
        stub = routing_pb2_grpc.RoutingServiceStub(channel)
        for suffix in QUESTIONS:
            request = pb.DecideRequest(model=MODEL + suffix, tools=2)
            yield ModelAnswer(
                request.model, stub.Decide(request, timeout=10.0, wait_for_ready=True)
            )
