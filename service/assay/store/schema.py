"""All tables together: who imports this module knows every table there is."""

from assay.store import audit_tables, benchmark_tables, evidence_tables, pool_tables
from assay.store.tables import metadata

TABLES = (audit_tables, benchmark_tables, evidence_tables, pool_tables)

__all__ = ["TABLES", "metadata"]
