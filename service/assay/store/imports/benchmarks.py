"""Take benchmark scores: each kept as a revision of its run, or refused with the reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, and_, bindparam, insert, select, update

from assay.engine.errors import InvalidField, quoted
from assay.engine.world.catalog import Endpoint, Provider
from assay.engine.world.measurements import BenchmarkRun
from assay.engine.world.slug import CATALOG_VARIANTS, provider_matches
from assay.importers.documents import (
    BenchmarkDocument,
    EndpointMention,
    ImportCounts,
    ImportReport,
    Rejection,
    ReportedRun,
)
from assay.store.benchmarks import IDENTITY, benchmark_run, current, run_cells, run_of
from assay.store.database import writing
from assay.store.imports.log import Import, bump, changed, note
from assay.store.listings import ENDPOINTS, PROVIDERS, holding, listings

NAME_IT = "name the endpoint with --endpoint"
SPELL_IT = "write its slug, or the endpoint's tag in the column tag"


class EndpointResolver:
    """All endpoints there ever were, by what files of others call them; `named` is the operator's word for all."""

    def __init__(
        self, endpoints: Iterable[Endpoint], providers: Iterable[Provider], named: str | None
    ) -> None:
        known = {each.endpoint_id: each for each in endpoints}
        if named is not None and named not in known:
            raise InvalidField(
                "--endpoint", named, "the id of an endpoint that a catalog has listed"
            )
        self.named = None if named is None else known[named]
        self._by_model: dict[str, list[Endpoint]] = defaultdict(list)
        for each in known.values():
            self._by_model[each.model].append(each)
        self._slugs = slugs(providers)

    def meant_by(self, subject: EndpointMention) -> str | Rejection:
        """Return the id of the endpoint meant, or why it is not known which that is."""
        if self.named is not None:
            fault = self._contradiction(subject, self.named)
            return self.named.endpoint_id if fault is None else Rejection(subject.where, fault)
        return self._pinned(subject)

    def _contradiction(self, subject: EndpointMention, named: Endpoint) -> str | None:
        """Say where the file denies what the operator says."""
        if subject.model is not None and not is_of(named.model, subject.model):
            return f"the model is {quoted(subject.model)}, --endpoint is one of {named.model}"
        pinned = not subject.pins or any(self._means(pin, named) for pin in subject.pins)
        if not pinned or not self._is_by(subject, named):
            stated = subject.pins if subject.provider is None else (subject.provider, *subject.pins)
            said = ", ".join(map(quoted, dict.fromkeys(stated)))
            return f"the provider is {said}, --endpoint is {named.endpoint_id}"
        return None

    def _pinned(self, subject: EndpointMention) -> str | Rejection:
        """Find the one endpoint that the pins leave."""
        if len(subject.pins) != 1:
            to = "several providers" if subject.pins else "no provider"
            return Rejection(
                subject.where,
                f"the run is pinned to {to}, so it measured whoever answered: {NAME_IT}",
            )
        if subject.model is None:
            return Rejection(subject.where, f"no model of a catalog is named: {NAME_IT}")
        models = [name for name in self._by_model if is_of(name, subject.model)]
        if len(models) != 1:
            several = f"may be {', '.join(sorted(models))}" if models else "is in no catalog"
            return Rejection(subject.where, f"model {quoted(subject.model)} {several}")
        (pin,) = subject.pins
        found = [
            e for e in self._by_model[models[0]] if self._means(pin, e) and self._is_by(subject, e)
        ]
        if len(found) == 1:
            return found[0].endpoint_id
        ids = ", ".join(sorted(e.endpoint_id for e in found))
        what = (
            f"provider {quoted(pin)} means any of {ids}"
            if ids
            else f"{models[0]} has no provider {quoted(pin)}"
        )
        return Rejection(
            subject.where, f"{what}: {NAME_IT if subject.provider is None else SPELL_IT}"
        )

    def _means(self, pin: str, endpoint: Endpoint) -> bool:
        """Whether a slug, a name that a catalog gives, or a tag means the endpoint."""
        name = self._slugs.get(pin.casefold(), pin)
        return provider_matches(name, endpoint.provider, endpoint.tag, endpoint.service_tier)

    def _is_by(self, subject: EndpointMention, endpoint: Endpoint) -> bool:
        said = subject.provider
        return said is None or self._slugs.get(said.casefold(), said) == endpoint.provider


def is_of(model: str, said: str) -> bool:
    """Whether a file's word for a model means one of the catalog: its id, without author or routing variant."""
    if "/" not in said:
        return model.partition("/")[2] == said
    base, *variants = said.split(":")
    return model == ":".join((base, *(each for each in variants if each in CATALOG_VARIANTS)))


def slugs(providers: Iterable[Provider]) -> Mapping[str, str]:
    """Map slugs and names, in small letters, to slugs; a name that two providers share means neither."""
    found: dict[str, set[str]] = defaultdict(set)
    for each in providers:
        for name in {each.slug, each.name or each.slug}:
            found[name.casefold()].add(each.slug)
    return {name: next(iter(of)) for name, of in found.items() if len(of) == 1}


def known_endpoints(connection: Connection, named: str | None) -> EndpointResolver:
    """Read what there is to be meant, gone or not; raises InvalidField where `named` is no endpoint."""
    endpoints = (holding(said).value for said in listings(connection, ENDPOINTS).values())
    providers = (each.value for said in listings(connection, PROVIDERS).values() for each in said)
    return EndpointResolver(endpoints, providers, named)


KIND = "benchmarks"
AHEAD = timedelta(days=1)  # a day that has begun somewhere on Earth
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A run as it stands in the table now."""

    run: BenchmarkRun
    revision: int


@dataclass(slots=True)
class Sorting:
    """Runs sorted into added, superseding, unchanged and refused, while the file is read."""

    kept: dict[Key, Kept]
    added: dict[Key, BenchmarkRun] = field(default_factory=dict)
    superseding: dict[Key, BenchmarkRun] = field(default_factory=dict)
    unchanged: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    seen: dict[Key, str] = field(default_factory=dict)

    def take(self, where: str, run: BenchmarkRun, now: datetime) -> None:
        """Sort one run in, under the endpoint it measured."""
        key = key_of(run)
        kept = self.kept.get(key)
        if key in self.seen:
            self.rejected.append(Rejection(where, f"repeats the run of {self.seen[key]}"))
            return
        self.seen[key] = where
        if run.run_at > now + AHEAD:
            self.rejected.append(
                Rejection(where, f"the run is dated {day(run)}, which is yet to come")
            )
        elif kept is None:
            self.added[key] = run
        elif kept.run == run:
            self.unchanged += 1
        elif run.run_at < kept.run.run_at:
            why = f"dated {day(run)}, {run.source} has said something newer on {day(kept.run)}"
            self.rejected.append(Rejection(where, why))
        else:
            self.superseding[key] = run

    def tally(self) -> ImportCounts:
        """Name what came in."""
        return ImportCounts(
            added=tuple(sorted(map(named, self.added.values()))),
            changed=tuple(sorted(map(named, self.superseding.values()))),
            unchanged=self.unchanged,
        )


def apply_benchmarks(
    database: Engine, document: BenchmarkDocument, *, endpoint: str | None, now: datetime
) -> ImportReport:
    """Keep the scores; those that cannot be are refused one by one and do not stop the rest.

    `endpoint` is the operator's word for whom the file speaks of; raises InvalidField where there is none of that id.
    """
    with writing(database) as connection:
        rows, refused = identified(known_endpoints(connection, endpoint), document.rows)
        sources = sorted({row.run.source for row in document.rows})
        sorting = Sorting(kept_of(connection, sources))
        for row in rows:
            sorting.take(row.where, row.run, now)
        store(connection, sorting, now)
        tally = sorting.tally()
        if changed(tally):
            bump(connection, "evidence")
        everything = (*document.rejected, *refused, *sorting.rejected)
        taken = Import(KIND, ", ".join(sources), document.digest, None, now)
        note(connection, taken, {KIND: tally}, everything)
    return ImportReport(taken.source, {KIND: tally}, everything)


def identified(
    measured: EndpointResolver, rows: Iterable[ReportedRun]
) -> tuple[list[ReportedRun], list[Rejection]]:
    """Put the endpoint's id into each row; rows of one subject are refused together."""
    found: list[ReportedRun] = []
    refused: dict[Rejection, None] = {}
    for row in rows:
        meant = measured.meant_by(row.subject)
        if isinstance(meant, str):
            found.append(replace(row, run=replace(row.run, endpoint_id=meant)))
        else:
            refused[meant] = None
    return found, list(refused)


def kept_of(connection: Connection, sources: list[str]) -> dict[Key, Kept]:
    """Read what these sources have said so far."""
    rows = connection.execute(
        select(benchmark_run).where(current, benchmark_run.c.source.in_(sources))
    )
    kept = (Kept(run_of(row), row.revision) for row in rows)
    return {key_of(each.run): each for each in kept}


def store(connection: Connection, sorting: Sorting, now: datetime) -> None:
    """Write new runs, and new revisions of known ones; what they supersede stays, marked."""
    if sorting.superseding:
        this = and_(
            current, *(benchmark_run.c[name] == bindparam(f"this_{name}") for name in IDENTITY)
        )
        keys = [
            dict(zip((f"this_{name}" for name in IDENTITY), key, strict=True))
            for key in sorting.superseding
        ]
        connection.execute(update(benchmark_run).where(this).values(superseded_at=now), keys)
    first = [
        {**run_cells(run), "revision": 1, "imported_at": now} for run in sorting.added.values()
    ]
    again = [
        {**run_cells(run), "revision": sorting.kept[key].revision + 1, "imported_at": now}
        for key, run in sorting.superseding.items()
    ]
    if first or again:
        connection.execute(insert(benchmark_run), [*first, *again])


def key_of(run: BenchmarkRun) -> Key:
    """Return what makes a run the same one in another file, in the order of the table's identity."""
    cells = run_cells(run)
    return tuple(str(cells[name]) for name in IDENTITY)


def named(run: BenchmarkRun) -> str:
    """Name a run in a report."""
    return f"{run.endpoint_id} {run.series.name}" + (f" {run.run}" if run.run else "")


def day(run: BenchmarkRun) -> str:
    """Date a run in a message."""
    return run.run_at.date().isoformat()
