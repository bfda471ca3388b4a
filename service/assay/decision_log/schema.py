"""The metadata of all tables; importing this module registers every one."""

from assay.decision_log import tables as audit_tables
from assay.store import benchmarks as benchmark_tables, evidence_tables, pool_tables
from assay.store.tables import metadata

TABLES = (audit_tables, benchmark_tables, evidence_tables, pool_tables)

__all__ = ["TABLES", "metadata"]
