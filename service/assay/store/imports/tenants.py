"""Take preferences and tenant settings: each tenant that a file names is replaced whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, delete, insert, select

from assay.engine.errors import quoted
from assay.engine.world.tenants import Preference, TenantSettings
from assay.importers.documents import (
    ImportCounts,
    ImportReport,
    PreferenceDocument,
    Rejection,
    TenantDocument,
)
from assay.store.database import writing
from assay.store.evidence_tables import tenant_affiliation
from assay.store.imports.log import Import, bump, changed, note
from assay.store.rows import preference_of, tenant_cells, tenant_of
from assay.store.tables import endpoint, model, preference, provider, tenant_settings

PREFERENCES = "preferences"
TENANTS = "tenants"


@dataclass(frozen=True, slots=True)
class Targets:
    """What a tenant can name: provider slugs, tags of any model, tags of one model, models."""

    providers: frozenset[str]
    tags: frozenset[tuple[str, str]]
    models: frozenset[str]

    def fault(self, target: str, model_name: str | None = None) -> str | None:
        """Say what is wrong with a target, if anything."""
        if model_name is not None and model_name not in self.models:
            return f"model {quoted(model_name)} is unknown"
        if target in self.providers or any(self._tagged(target, model_name)):
            return None
        of = f" of {model_name}" if model_name else ""
        return f"{quoted(target)} is neither a known provider nor the tag of a known endpoint{of}"

    def _tagged(self, target: str, model_name: str | None) -> Iterable[bool]:
        return (tag == target and model_name in {None, name} for name, tag in self.tags)


def apply_preferences(
    database: Engine, document: PreferenceDocument, *, now: datetime
) -> ImportReport:
    """Replace the standing preferences of every tenant in the document; refuse targets that nothing is called."""
    with writing(database) as connection:
        targets = known_targets(connection)
        wanted, refused = [], list(document.rejected)
        for each in dict.fromkeys(document.preferences):
            fault = targets.fault(each.target, each.model)
            if fault is None:
                wanted.append(each)
            else:
                refused.append(Rejection(f"tenant {each.tenant}", f"{each.kind}: {fault}"))
        tally = replace_preferences(
            connection, {each.tenant for each in document.preferences}, wanted, now
        )
        return finish(
            connection, Import(PREFERENCES, PREFERENCES, document.digest, None, now), tally, refused
        )


def apply_tenants(database: Engine, document: TenantDocument, *, now: datetime) -> ImportReport:
    """Replace the settings of every tenant in the document; one that names an unknown provider is refused whole."""
    with writing(database) as connection:
        targets = known_targets(connection)
        wanted, refused = [], list(document.rejected)
        for each in document.tenants:
            faults = [f"only: {fault}" for target in each.only if (fault := targets.fault(target))]
            faults += [
                f"ignore: {fault}" for target in each.ignore if (fault := targets.fault(target))
            ]
            provider = document.affiliated.get(each.tenant)
            if provider not in {None, *targets.providers}:
                faults.append(
                    f"affiliated_provider: {quoted(provider or '')} is not a known provider"
                )
            if faults:
                refused.append(Rejection(f"tenant {each.tenant}", "; ".join(faults)))
            else:
                wanted.append(each)
        tally = replace_tenants(connection, wanted, document.affiliated, now)
        return finish(
            connection, Import(TENANTS, TENANTS, document.digest, None, now), tally, refused
        )


def finish(
    connection: Connection, taken: Import, tally: ImportCounts, refused: list[Rejection]
) -> ImportReport:
    """Log the import and report it."""
    if changed(tally):
        bump(connection, PREFERENCES)
    note(connection, taken, {taken.kind: tally}, refused)
    return ImportReport(taken.source, {taken.kind: tally}, tuple(refused))


def known_targets(connection: Connection) -> Targets:
    """Read what there is to be named, gone or not."""
    tags = connection.execute(select(endpoint.c.model, endpoint.c.tag))
    return Targets(
        providers=frozenset(connection.execute(select(provider.c.provider)).scalars()),
        tags=frozenset((row.model, row.tag) for row in tags),
        models=frozenset(connection.execute(select(model.c.model)).scalars()),
    )


def replace_preferences(
    connection: Connection, tenants: set[str], wanted: Iterable[Preference], now: datetime
) -> ImportCounts:
    """Make the tenants' preferences those that are wanted, touching only what differs."""
    rows = connection.execute(select(preference).where(preference.c.tenant.in_(sorted(tenants))))
    before = {preference_of(row): row.preference_id for row in rows}
    after = set(wanted)
    gone = {each: number for each, number in before.items() if each not in after}
    added = sorted(after - before.keys(), key=named)
    if gone:
        connection.execute(delete(preference).where(preference.c.preference_id.in_(gone.values())))
    if added:
        cells = [
            {"tenant": p.tenant, "kind": p.kind, "target": p.target, "model": p.model}
            for p in added
        ]
        connection.execute(insert(preference), [{**each, "created_at": now} for each in cells])
    return ImportCounts(
        tuple(map(named, added)), (), tuple(sorted(map(named, gone))), len(before) - len(gone)
    )


def replace_tenants(
    connection: Connection,
    wanted: Iterable[TenantSettings],
    affiliated: Mapping[str, str],
    now: datetime,
) -> ImportCounts:
    """Make the tenants' settings and affiliations those that are wanted, touching only what differs."""
    belongs = dict(
        connection.execute(select(tenant_affiliation.c.tenant, tenant_affiliation.c.provider)).all()
    )
    rows = connection.execute(select(tenant_settings))
    before = {row.tenant: (tenant_of(row), belongs.get(row.tenant)) for row in rows}
    after = {each.tenant: (each, affiliated.get(each.tenant)) for each in wanted}
    differing = sorted(name for name, said in after.items() if before.get(name) != said)
    added = tuple(name for name in differing if name not in before)
    if differing:
        for table in (tenant_settings, tenant_affiliation):
            connection.execute(delete(table).where(table.c.tenant.in_(differing)))
        cells = [{**tenant_cells(after[name][0]), "updated_at": now} for name in differing]
        connection.execute(insert(tenant_settings), cells)
    if owned := [
        {"tenant": name, "provider": provider} for name in differing if (provider := after[name][1])
    ]:
        connection.execute(insert(tenant_affiliation), owned)
    altered = tuple(name for name in differing if name in before)
    return ImportCounts(added, altered, (), len(after) - len(differing))


def named(each: Preference) -> str:
    """Name a preference in a report."""
    return f"{each.tenant}: {each.kind} {each.target}" + (
        f" for {each.model}" if each.model else ""
    )
