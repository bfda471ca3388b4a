"""Import of benchmark scores: each is stored as a revision of its run, or rejected."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from assay.engine.errors import InvalidField, quoted
from assay.engine.world.catalog import Endpoint
from assay.engine.world.measurements import BenchmarkRun
from assay.engine.world.request import CATALOG_VARIANTS, provider_matches
from assay.importers.documents import (
    BenchmarkDocument,
    EndpointMention,
    ImportReport,
    Rejection,
)
from assay.store.benchmarks import IDENTITY, benchmark_run, run_cells, run_of
from assay.store.database import writing
from assay.store.imports.log import ImportedFile, count_change, finish_import
from assay.store.imports.revisions import RevisedTable, RevisionPlan, plan_revisions
from assay.store.listings import ENDPOINTS, PROVIDERS, read_listings, select_listing

_KIND = "benchmarks"
_AHEAD = timedelta(days=1)  # a day that has begun somewhere on Earth
_NAME_IT = "name the endpoint with --endpoint"
_USE_TAG = "write its slug, or the endpoint's tag in the column tag"
_RUNS = RevisedTable(
    benchmark_run,
    IDENTITY,
    run_of,
    run_cells,
    lambda run: f"{run.endpoint_id} {run.series.name}" + (f" {run.run}" if run.run else ""),
)


def apply_benchmarks(
    database: Engine, document: BenchmarkDocument, *, endpoint: str | None, now: datetime
) -> ImportReport:
    """Store the scores; one that is rejected does not stop the rest.

    `endpoint` is the id of the measured endpoint, by the operator; raises InvalidField if it is not
    known.
    """
    sources = sorted({row.run.source for row in document.rows})
    file = ImportedFile(_KIND, ", ".join(sources), document.digest, None, now)
    with writing(database) as connection:
        resolver = _EndpointResolver(connection, endpoint)
        plan = plan_revisions(connection, _RUNS, sources)
        unresolved: dict[Rejection, None] = {}  # rows with one mention are rejected together
        for row in document.rows:
            try:
                endpoint_id = resolver.resolve(row.subject)
            except _UnresolvedError as error:
                unresolved[Rejection(row.subject.where, str(error))] = None
            else:
                _plan_run(plan, row.where, replace(row.run, endpoint_id=endpoint_id), now)
        plan.store(connection, now)
        counts = plan.counts()
        if counts.has_changes:
            count_change(connection, "evidence")
        rejected = (*document.rejected, *unresolved, *plan.rejected)
        return finish_import(connection, file, {_KIND: counts}, rejected)


def _plan_run(
    plan: RevisionPlan[BenchmarkRun], where: str, run: BenchmarkRun, now: datetime
) -> None:
    key = _RUNS.key_of(run)
    if key in plan.seen:
        plan.reject(where, f"repeats the run of {plan.seen[key]}")
        return
    plan.seen[key] = where
    stored = plan.stored[key][0] if key in plan.stored else None
    day = run.run_at.date()
    if run.run_at > now + _AHEAD:
        plan.reject(where, f"the run is dated {day}, which is in the future")
    elif stored is not None and run.run_at < stored.run_at:
        newer = f"{run.source} already has a newer one of {stored.run_at.date()}"
        plan.reject(where, f"the run is dated {day}, {newer}")
    else:
        plan.place(run)


class _UnresolvedError(Exception):
    """A mention that does not identify one endpoint, with the reason."""


class _EndpointResolver:
    """Finds the endpoint that a file mentions; `named` is the operator's, for all mentions."""

    def __init__(self, connection: Connection, named: str | None) -> None:
        """Read all endpoints, gone or not; raise InvalidField if `named` is none of them."""
        listings = read_listings(connection, ENDPOINTS)
        known = {name: select_listing(each).value for name, each in listings.items()}
        if named is not None and named not in known:
            raise InvalidField(
                "--endpoint", named, "the id of an endpoint that a catalog has listed"
            )
        self._named = None if named is None else known[named]
        self._by_model: dict[str, list[Endpoint]] = defaultdict(list)
        for each in known.values():
            self._by_model[each.model].append(each)
        slugs: dict[str, set[str]] = defaultdict(set)  # by slug and name, in lower case
        for of_provider in read_listings(connection, PROVIDERS).values():
            for listing in of_provider:
                provider = listing.value
                slugs[provider.slug.casefold()].add(provider.slug)
                slugs[(provider.name or provider.slug).casefold()].add(provider.slug)
        # A name that two providers share is left out.
        self._slugs = {name: min(found) for name, found in slugs.items() if len(found) == 1}

    def resolve(self, mention: EndpointMention) -> str:
        """Return the endpoint's id; raise _UnresolvedError."""
        if self._named is not None:
            self._require_consistent(mention, self._named)
            return self._named.endpoint_id
        if len(mention.pins) != 1:
            pinned = "several providers" if mention.pins else "no provider"
            raise _UnresolvedError(
                f"the run is pinned to {pinned}, so any of them may have answered: {_NAME_IT}"
            )
        if mention.model is None:
            raise _UnresolvedError(f"the file names no model of a catalog: {_NAME_IT}")
        model = self._resolve_model(mention.model)
        (pin,) = mention.pins
        candidates = [each for each in self._by_model[model] if self._means(pin, each)]
        found = sorted(e.endpoint_id for e in candidates if self._is_by(mention, e))
        if len(found) == 1:
            return found[0]
        fault = f"provider {quoted(pin)} means any of {', '.join(found)}"
        if not found:
            fault = f"{model} has no provider {quoted(pin)}"
        raise _UnresolvedError(f"{fault}: {_NAME_IT if mention.provider is None else _USE_TAG}")

    def _resolve_model(self, name: str) -> str:
        models = sorted(model for model in self._by_model if _is_model(model, name))
        if len(models) == 1:
            return models[0]
        fault = f"may be {', '.join(models)}" if models else "is in no catalog"
        raise _UnresolvedError(f"model {quoted(name)} {fault}")

    def _require_consistent(self, mention: EndpointMention, named: Endpoint) -> None:
        """Raise _UnresolvedError if the file contradicts the operator."""
        if mention.model is not None and not _is_model(named.model, mention.model):
            raise _UnresolvedError(
                f"the model is {quoted(mention.model)}, --endpoint is one of {named.model}"
            )
        pinned = not mention.pins or any(self._means(pin, named) for pin in mention.pins)
        if not pinned or not self._is_by(mention, named):
            stated = (*(() if mention.provider is None else (mention.provider,)), *mention.pins)
            names = ", ".join(map(quoted, dict.fromkeys(stated)))
            raise _UnresolvedError(f"the provider is {names}, --endpoint is {named.endpoint_id}")

    def _means(self, pin: str, endpoint: Endpoint) -> bool:
        """Whether a slug, a name that a catalog gives, or a tag means the endpoint."""
        name = self._slugs.get(pin.casefold(), pin)
        return provider_matches(name, endpoint.provider, endpoint.tag, endpoint.service_tier)

    def _is_by(self, mention: EndpointMention, endpoint: Endpoint) -> bool:
        name = mention.provider
        return name is None or self._slugs.get(name.casefold(), name) == endpoint.provider


def _is_model(model: str, name: str) -> bool:
    """Whether a file's name means a model of the catalog.

    A name means a model if it is the model's id, possibly without author or routing variant.
    """
    if "/" not in name:
        return model.partition("/")[2] == name
    base, *variants = name.split(":")
    return model == ":".join((base, *(each for each in variants if each in CATALOG_VARIANTS)))
