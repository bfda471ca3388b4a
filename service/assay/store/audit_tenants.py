"""Who is behind a pseudonym: the one table of the log that names tenants."""

from __future__ import annotations

from sqlalchemy import Engine, select

from assay.store.audit_tables import tenant_pseudonym
from assay.store.engine import reading


def tenants_by_pseudonym(engine: Engine) -> dict[str, str]:
    """The tenant of every pseudonym that was not erased; a tenant may have several."""
    with reading(engine) as connection:
        rows = connection.execute(select(tenant_pseudonym.c.pseudonym, tenant_pseudonym.c.tenant)).all()
    return {row.pseudonym: row.tenant for row in rows}


def pseudonyms_by_tenant(engine: Engine) -> dict[str, str]:
    """The newest pseudonym of every tenant, to go on with."""
    query = select(tenant_pseudonym).order_by(tenant_pseudonym.c.created_at, tenant_pseudonym.c.pseudonym)
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    return {row.tenant: row.pseudonym for row in rows}
