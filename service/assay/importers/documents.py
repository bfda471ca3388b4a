"""What importers hand to the store: parsed values, and every refused row with its line and reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from assay.engine.world.catalog import Endpoint, Model, Provider
from assay.engine.world.measurements import BenchmarkRun, Observation
from assay.engine.world.tenants import Preference, TenantSettings


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row or item that was not taken: where it stood (`line 12`, `endpoints.x/y[3]`) and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class CatalogDocument:
    """One catalog file of one source, whole: what it does not list is gone from that source.

    Endpoints come in file order with provisional ids (`model@tag`, `~2` where a tag repeats); the store keeps ids
    across imports. `generated_at` is the file's own time, `None` where the form has none.
    """

    source: str
    digest: str
    generated_at: datetime | None = None
    providers: tuple[Provider, ...] = ()
    models: tuple[Model, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservedRow:
    """One observation with the names it came under; `observation.endpoint_id` is `model@tag`."""

    where: str
    model: str
    provider: str
    tag: str
    observation: Observation


@dataclass(frozen=True, slots=True)
class ObservationDocument:
    """One observation file; several sources may share it."""

    digest: str
    rows: tuple[ObservedRow, ...] = ()
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointMention:
    """What a file says of the endpoint that was measured, and where it says so.

    `model` may lack its author; `pins` are providers (by slug or name) or tags, any of which may have answered;
    `provider` is its provider where that is stated. Nothing more is known: who reads this must not guess.
    """

    where: str
    model: str | None = None
    pins: tuple[str, ...] = ()
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """One score and whom it speaks of; `run.endpoint_id` is still empty."""

    where: str
    subject: EndpointMention
    run: BenchmarkRun


@dataclass(frozen=True, slots=True)
class BenchmarkDocument:
    """Scores of one file, of one run or of many."""

    digest: str
    rows: tuple[ReportedRun, ...] = ()
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class PreferenceDocument:
    """Standing preferences of every tenant the file names: a named tenant's earlier ones are replaced."""

    digest: str
    preferences: tuple[Preference, ...] = ()
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class TenantDocument:
    """Settings of every tenant the file names: a named tenant's earlier ones are replaced.

    `affiliated` holds the provider that a tenant belongs to, where it belongs to one.
    """

    digest: str
    tenants: tuple[TenantSettings, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    affiliated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """Names of what an import did to one kind of thing."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    unchanged: int = 0

    @property
    def has_changes(self) -> bool:
        """Whether anything differs from before."""
        return bool(self.added or self.changed or self.gone)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What one import did, by kind (`models`, `endpoints`, `observations` …), and every refusal."""

    source: str
    counts: dict[str, ImportCounts] = field(default_factory=dict)
    rejected: tuple[Rejection, ...] = ()
