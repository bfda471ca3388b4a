"""Standing preferences one by one: set from outside, listed in pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, select

from assay.engine.errors import CallerError
from assay.engine.world.tenants import Preference
from assay.store.database import reading, writing
from assay.store.imports.log import bump
from assay.store.imports.tenants import PREFERENCES, known_targets
from assay.store.rows import preference_of
from assay.store.tables import preference


class UnknownTarget(CallerError):
    """A preference names a model, provider or tag that is not there."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"preference: {fault}")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class StoredPreference:
    """A preference as it stands; numbers grow in the order in which preferences were made."""

    number: int
    preference: Preference
    created_at: datetime


class PreferenceStore:
    """What tenants want, in the database; changes hold from the next snapshot on."""

    def __init__(self, database: Engine, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def put(self, wanted: Preference) -> bool:
        """Have a preference stand in the place of any other of this tenant, target and model; whether that is new.

        Raises UnknownTarget.
        """
        with writing(self._database) as connection:
            fault = known_targets(connection).fault(wanted.target, wanted.model)
            if fault is not None:
                raise UnknownTarget(fault)
            before = kinds(connection, wanted)
            if before == [wanted.kind]:
                return False
            remove(connection, wanted)
            row = {
                "tenant": wanted.tenant,
                "kind": wanted.kind,
                "target": wanted.target,
                "model": wanted.model,
            }
            connection.execute(insert(preference), {**row, "created_at": self._clock()})
            bump(connection, PREFERENCES)
            return True

    def delete(self, tenant: str, target: str, model: str | None) -> bool:
        """Have no preference of this tenant for this target and model; whether there was any."""
        unwanted = Preference(tenant, "", target, model)
        with writing(self._database) as connection:
            gone = bool(kinds(connection, unwanted))
            if gone:
                remove(connection, unwanted)
                bump(connection, PREFERENCES)
            return gone

    def page(self, tenant: str, *, after: int, limit: int) -> Sequence[StoredPreference]:
        """Preferences with greater numbers, in order; those of one tenant where it is named."""
        query = (
            select(preference)
            .where(preference.c.preference_id > after)
            .order_by(preference.c.preference_id)
        )
        if tenant:
            query = query.where(preference.c.tenant == tenant)
        with reading(self._database) as connection:
            rows = connection.execute(query.limit(limit)).all()
        return [
            StoredPreference(row.preference_id, preference_of(row), row.created_at) for row in rows
        ]


def kinds(connection: Connection, of: Preference) -> Sequence[str]:
    """What the tenant wants of this target and model."""
    return connection.execute(select(preference.c.kind).where(*same(of))).scalars().all()


def remove(connection: Connection, of: Preference) -> None:
    """Remove whatever the tenant wants of this target and model."""
    connection.execute(delete(preference).where(*same(of)))


def same(of: Preference) -> tuple[ColumnElement[bool], ...]:
    """Conditions on tenant, target and model."""
    model = preference.c.model.is_(None) if of.model is None else preference.c.model == of.model
    return preference.c.tenant == of.tenant, preference.c.target == of.target, model
