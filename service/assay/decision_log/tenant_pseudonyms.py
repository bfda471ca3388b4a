"""Pseudonyms of tenants: the log stores no tenant's own name with a decision or an outcome."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from assay.decision_log.record import encode_tenant
from assay.journal.sink import RecordKind

Append = Callable[[int, bytes], None]
"""Appends a record to the journal; raises JournalError if it is not stored."""


class TenantPseudonyms:
    """The pseudonyms of tenants, shared by all writers of a process; `known` are those in the log.

    A pseudonym is random. Only one record maps it to the tenant's name, and that can be erased.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self.known = dict(known or {})

    def get(self, tenant: str, at_us: int, append: Append) -> str:
        """Return the pseudonym of a tenant, and journal a new one first; "" stays empty."""
        if not tenant:
            return ""
        if tenant not in self.known:
            created = secrets.token_hex(16)
            append(RecordKind.TENANT, encode_tenant(tenant, created, at_us))
            self.known.setdefault(tenant, created)
        return self.known[tenant]
