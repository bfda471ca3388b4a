"""The pseudonyms under which tenants appear in the log, of bounded number and rate.

How it works. A pseudonym is random. Only one record maps it to the tenant's name, and that can be
erased. A tenant may have several pseudonyms, one for each process that met it first, or met it
again after it had forgotten it; whatever reads them joins by name.

Callers choose the names of tenants, so a caller could invent any number of them. A process
remembers a bounded number, and creates new pseudonyms at a bounded rate. A tenant beyond that which
has neither settings nor preferences is logged as one without a name: nothing that depends on its
name is lost to replay, and its outcomes share the caps of all such tenants.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container, Mapping
from typing import Final

from assay.decision_log.record import Append, encode_tenant
from assay.journal.sink import RecordKind
from assay.outcomes.bounded_map import BoundedMap

REMEMBERED: Final = 32_768
"""Tenants, at least, that a process remembers; at most twice as many, about 11 MB."""
NEW_AT_ONCE: Final = 10_000
NEW_PER_SECOND: Final = 1.0


class TenantPseudonyms:
    """The pseudonyms of tenants, shared by all writers of a process; `known` are those in the log.

    `unnamed` counts decisions and reports that were stored without their tenant.
    """

    def __init__(
        self,
        known: Mapping[str, str] | None = None,
        *,
        remembered: int = REMEMBERED,
        new_at_once: int = NEW_AT_ONCE,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.unnamed = 0
        self._known: BoundedMap[str, str] = BoundedMap(remembered)
        self._new_at_once = new_at_once
        self._steady = steady
        self._allowance, self._allowed_at = float(new_at_once), steady()
        self.learn(known or {})

    def learn(self, known: Mapping[str, str]) -> None:
        """Add pseudonyms that are in the log."""
        self._known.update(known)

    def names(self) -> dict[str, str]:
        """Return the tenants that are remembered, by pseudonym."""
        return {pseudonym: tenant for tenant, pseudonym in self._known.items()}

    @property
    def remembered(self) -> int:
        """How many tenants are remembered."""
        return len(self._known)

    def get(
        self, tenant: str, at_us: int, append: Append, configured: Container[str] = frozenset()
    ) -> str:
        """Return the pseudonym of a tenant, and journal a new one first.

        Returns "" for no tenant, and for one that is neither known nor `configured`, which means
        that it has settings or preferences, if too many are new.
        """
        if not tenant:
            return ""
        found = self._known.renew(tenant)
        if found is not None:
            return found
        if tenant not in configured and not self._take_allowance():
            self.unnamed += 1
            return ""
        created = secrets.token_hex(16)
        append(RecordKind.TENANT, encode_tenant(tenant, created, at_us))
        self._known.update({tenant: created})
        return created

    def _take_allowance(self) -> bool:
        """Whether one more pseudonym may be created; threads that race may get a few too many."""
        now = self._steady()
        gained = (now - self._allowed_at) * NEW_PER_SECOND
        allowance = min(self._allowance + gained, float(self._new_at_once))
        if allowance < 1.0:
            return False
        self._allowance, self._allowed_at = allowance - 1.0, now
        return True
