"""Refusals of requests in SQL, as judging reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, func, select

from assay.engine.evidence.refusals import WINDOW_DAYS, RefusalCounts, learn_refusals
from assay.engine.world.clock import EPOCH
from assay.store.evidence_tables import capability_counter, evidence_day
from assay.store.tables import tenant_pseudonym


def load_refusals(connection: Connection, as_of: datetime) -> Mapping[str, tuple[str, ...]]:
    """Return the capabilities that endpoints are known to lack, by endpoint id."""
    today = (as_of - EPOCH).days
    table = capability_counter.c
    tenant = func.coalesce(tenant_pseudonym.c.tenant, table.tenant).label("name")
    query = (
        select(table.endpoint_id, table.capability, tenant, table.day)
        .add_columns(func.sum(table.refused), func.sum(table.answered))
        .outerjoin_from(
            capability_counter, tenant_pseudonym, tenant_pseudonym.c.pseudonym == table.tenant
        )
        .where(table.day.between(today - WINDOW_DAYS, today))
        .group_by(table.endpoint_id, table.capability, tenant, table.day)
    )
    counts = [
        RefusalCounts(endpoint_id, capability, name, day, int(refused), int(answered))
        for endpoint_id, capability, name, day, refused, answered in connection.execute(query)
    ]
    if not any(each.refused for each in counts):
        return {}
    return learn_refusals(counts, today, has_one_tenant=_has_one_tenant(connection))


def _has_one_tenant(connection: Connection) -> bool:
    """Whether all requests come from one tenant, which may be the one without a name."""
    named = select(func.count(tenant_pseudonym.c.tenant.distinct()))
    unnamed = select(evidence_day.c.tenant).where(evidence_day.c.tenant == "").limit(1)
    without_name = connection.scalar(unnamed) is not None
    return int(connection.scalar(named) or 0) + without_name <= 1
