"""Standing preferences of tenants: set and deleted one by one, listed in pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, delete, insert, select

from assay.engine.errors import CallerError
from assay.engine.world.world import Preference
from assay.store.database import reading, writing
from assay.store.imports.log import count_change
from assay.store.imports.tenants import PREFERENCES, read_targets
from assay.store.rows import preference_of
from assay.store.tables import preference


class UnknownTarget(CallerError):
    """A preference names a model, provider or tag that does not exist."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"preference: {fault}")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class StoredPreference:
    """A preference with its number; numbers grow in the order of creation."""

    number: int
    preference: Preference
    created_at: datetime


class PreferenceStore:
    """The preferences in the database; a change takes effect with the next snapshot."""

    def __init__(self, database: Engine, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def put(self, wanted: Preference) -> bool:
        """Store a preference in place of any other for this tenant, target and model.

        Returns whether anything changed; raises UnknownTarget.
        """
        with writing(self._database) as connection:
            fault = read_targets(connection).fault(wanted.target, wanted.model)
            if fault is not None:
                raise UnknownTarget(fault)
            same = select(preference.c.kind).where(*_same(wanted))
            if connection.execute(same).scalars().all() == [wanted.kind]:
                return False
            connection.execute(delete(preference).where(*_same(wanted)))
            row = {**asdict(wanted), "created_at": self._clock()}
            connection.execute(insert(preference), row)
            count_change(connection, PREFERENCES)
            return True

    def delete(self, tenant: str, target: str, model: str | None) -> bool:
        """Delete the preference for this tenant, target and model; return whether there was one."""
        unwanted = Preference(tenant, "", target, model)
        with writing(self._database) as connection:
            deleted = connection.execute(delete(preference).where(*_same(unwanted))).rowcount > 0
            if deleted:
                count_change(connection, PREFERENCES)
            return deleted

    def page(self, tenant: str, *, after: int, limit: int) -> Sequence[StoredPreference]:
        """Return the preferences with greater numbers, in order; `tenant` may be empty for all."""
        number = preference.c.preference_id
        query = select(preference).where(number > after).order_by(number).limit(limit)
        if tenant:
            query = query.where(preference.c.tenant == tenant)
        with reading(self._database) as connection:
            return [
                StoredPreference(row.preference_id, preference_of(row), row.created_at)
                for row in connection.execute(query)
            ]


def _same(of: Preference) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions on tenant, target and model."""
    model = preference.c.model.is_(None) if of.model is None else preference.c.model == of.model
    return preference.c.tenant == of.tenant, preference.c.target == of.target, model
