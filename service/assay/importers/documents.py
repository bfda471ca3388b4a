"""The results of importers: parsed values, and every rejected item with its place and reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from assay.engine.world.catalog import Endpoint, Model, Provider
from assay.engine.world.measurements import BenchmarkRun, Observation
from assay.engine.world.world import Preference, TenantSettings
from assay.importers.cells import InvalidItemError


@dataclass(frozen=True, slots=True)
class Rejection:
    """One rejected row or item: its place (`line 12`, `endpoints.x/y[3]`) and why."""

    where: str
    reason: str


class Rejections(list[Rejection]):
    """The rejections of one file, in the order in which it was read."""

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Reject the item at this place if the block raises InvalidItemError."""
        try:
            yield
        except InvalidItemError as error:
            self.append(Rejection(where, str(error)))


@dataclass(frozen=True, slots=True)
class CatalogDocument:
    """One catalog file of one source; items that it does not list are gone from that source.

    Endpoints are in file order, with provisional ids: `model@tag`, then `~2` for a repeated tag.
    The store keeps ids across imports. `generated_at` is the file's own time, if its form has one.
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
    """One observation with the names in its row; `observation.endpoint_id` is `model@tag`."""

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
    """What a file states about the measured endpoint, and where.

    `model` may lack its author. `pins` are providers, by slug or name, or tags; any of them may
    have answered. `provider` is the stated provider. If these do not identify one endpoint, it must
    not be guessed.
    """

    where: str
    model: str | None = None
    pins: tuple[str, ...] = ()
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """One score and the endpoint it mentions; `run.endpoint_id` is still empty."""

    where: str
    subject: EndpointMention
    run: BenchmarkRun


@dataclass(frozen=True, slots=True)
class BenchmarkDocument:
    """The scores of one file, of one run or many."""

    digest: str
    rows: tuple[ReportedRun, ...] = ()
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class PreferenceDocument:
    """The preferences of every tenant in the file; they replace the tenant's earlier ones."""

    digest: str
    preferences: tuple[Preference, ...] = ()
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class TenantDocument:
    """The settings of every tenant in the file; they replace the tenant's earlier ones.

    `affiliated` maps a tenant to the provider that it belongs to, if any.
    """

    digest: str
    tenants: tuple[TenantSettings, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    affiliated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """The names of what an import changed in one kind of item."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    unchanged: int = 0

    @property
    def total(self) -> int:
        """How many items the file lists."""
        return len(self.added) + len(self.changed) + self.unchanged

    @property
    def has_changes(self) -> bool:
        """Whether anything differs from before."""
        return bool(self.added or self.changed or self.gone)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of one import by kind (`models`, `endpoints`, …), and every rejection."""

    source: str
    counts: dict[str, ImportCounts] = field(default_factory=dict)
    rejected: tuple[Rejection, ...] = ()
