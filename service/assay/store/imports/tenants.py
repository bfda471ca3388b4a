"""Import of preferences and tenant settings.

A file replaces everything that is stored for the tenants it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, delete, insert, select

from assay.engine.errors import quoted
from assay.engine.world.world import Preference, TenantSettings
from assay.importers.documents import (
    ImportCounts,
    ImportReport,
    PreferenceDocument,
    Rejection,
    TenantDocument,
)
from assay.store.database import writing
from assay.store.evidence_tables import tenant_affiliation
from assay.store.imports.log import ImportedFile, count_change, finish_import
from assay.store.rows import preference_of, tenant_of
from assay.store.tables import endpoint, model, preference, provider, tenant_settings

PREFERENCES = "preferences"
_TENANTS = "tenants"


@dataclass(frozen=True, slots=True)
class PreferenceTargets:
    """What a preference can name: provider slugs, tags by model, and models."""

    providers: frozenset[str]
    tags: frozenset[tuple[str, str]]
    models: frozenset[str]

    def fault(self, target: str, model_name: str | None = None) -> str | None:
        """Return what is wrong with a target, if anything."""
        if model_name is not None and model_name not in self.models:
            return f"model {quoted(model_name)} is unknown"
        if target in self.providers:
            return None
        if any(tag == target and model_name in {None, name} for name, tag in self.tags):
            return None
        of = f" of {model_name}" if model_name else ""
        return f"{quoted(target)} is neither a known provider nor the tag of a known endpoint{of}"


def read_targets(connection: Connection) -> PreferenceTargets:
    """Read everything that a preference can name, gone or not."""
    tags = connection.execute(select(endpoint.c.model, endpoint.c.tag))
    return PreferenceTargets(
        providers=frozenset(connection.execute(select(provider.c.provider)).scalars()),
        tags=frozenset((row.model, row.tag) for row in tags),
        models=frozenset(connection.execute(select(model.c.model)).scalars()),
    )


def apply_preferences(
    database: Engine, document: PreferenceDocument, *, now: datetime
) -> ImportReport:
    """Replace the preferences of every tenant in the document.

    Preferences with unknown targets are rejected.
    """
    with writing(database) as connection:
        targets = read_targets(connection)
        wanted, rejected = [], list(document.rejected)
        for each in dict.fromkeys(document.preferences):
            fault = targets.fault(each.target, each.model)
            if fault is None:
                wanted.append(each)
            else:
                rejected.append(Rejection(f"tenant {each.tenant}", f"{each.kind}: {fault}"))
        tenants = sorted({each.tenant for each in document.preferences})
        counts = _replace_preferences(connection, tenants, wanted, now)
        file = ImportedFile(PREFERENCES, PREFERENCES, document.digest, None, now)
        return _finish(connection, file, counts, rejected)


def apply_tenants(database: Engine, document: TenantDocument, *, now: datetime) -> ImportReport:
    """Replace the settings of every tenant in the document; reject those that name no provider."""
    with writing(database) as connection:
        targets = read_targets(connection)
        wanted, rejected = [], list(document.rejected)
        for each in document.tenants:
            faults = _settings_faults(each, document.affiliated.get(each.tenant), targets)
            if faults:
                rejected.append(Rejection(f"tenant {each.tenant}", "; ".join(faults)))
            else:
                wanted.append(each)
        counts = _replace_tenants(connection, wanted, document.affiliated, now)
        file = ImportedFile(_TENANTS, _TENANTS, document.digest, None, now)
        return _finish(connection, file, counts, rejected)


def _settings_faults(
    settings: TenantSettings, affiliated: str | None, targets: PreferenceTargets
) -> list[str]:
    faults = []
    for name, wanted in (("only", settings.only), ("ignore", settings.ignore)):
        found = [targets.fault(target) for target in wanted]
        faults += [f"{name}: {fault}" for fault in found if fault is not None]
    if affiliated not in {None, *targets.providers}:
        faults.append(f"affiliated_provider: {quoted(affiliated or '')} is not a known provider")
    return faults


def _finish(
    connection: Connection, file: ImportedFile, counts: ImportCounts, rejected: Sequence[Rejection]
) -> ImportReport:
    if counts.has_changes:
        count_change(connection, PREFERENCES)
    return finish_import(connection, file, {file.kind: counts}, rejected)


def _replace_preferences(
    connection: Connection, tenants: Sequence[str], wanted: Iterable[Preference], now: datetime
) -> ImportCounts:
    """Make the tenants' preferences the wanted ones, and write only what differs."""
    rows = connection.execute(select(preference).where(preference.c.tenant.in_(tenants)))
    before = {preference_of(row): row.preference_id for row in rows}
    after = set(wanted)
    gone = {each: number for each, number in before.items() if each not in after}
    added = sorted(after - before.keys(), key=_name_of)
    if gone:
        connection.execute(delete(preference).where(preference.c.preference_id.in_(gone.values())))
    if added:
        cells = [{**asdict(each), "created_at": now} for each in added]
        connection.execute(insert(preference), cells)
    return ImportCounts(
        added=tuple(map(_name_of, added)),
        gone=tuple(sorted(map(_name_of, gone))),
        unchanged=len(before) - len(gone),
    )


def _replace_tenants(
    connection: Connection,
    wanted: Iterable[TenantSettings],
    affiliated: Mapping[str, str],
    now: datetime,
) -> ImportCounts:
    """Make the tenants' settings and affiliations the wanted ones, and write only what differs."""
    query = select(tenant_affiliation.c.tenant, tenant_affiliation.c.provider)
    providers = dict(connection.execute(query).all())
    rows = connection.execute(select(tenant_settings))
    before = {row.tenant: (tenant_of(row), providers.get(row.tenant)) for row in rows}
    after = {each.tenant: (each, affiliated.get(each.tenant)) for each in wanted}
    differing = sorted(name for name, stated in after.items() if before.get(name) != stated)
    if differing:
        for table in (tenant_settings, tenant_affiliation):
            connection.execute(delete(table).where(table.c.tenant.in_(differing)))
        cells = [{**asdict(after[name][0]), "updated_at": now} for name in differing]
        connection.execute(insert(tenant_settings), cells)
    owned = [{"tenant": name, "provider": after[name][1]} for name in differing if after[name][1]]
    if owned:
        connection.execute(insert(tenant_affiliation), owned)
    return ImportCounts(
        added=tuple(name for name in differing if name not in before),
        changed=tuple(name for name in differing if name in before),
        unchanged=len(after) - len(differing),
    )


def _name_of(each: Preference) -> str:
    name = f"{each.tenant}: {each.kind} {each.target}"
    return f"{name} for {each.model}" if each.model else name
