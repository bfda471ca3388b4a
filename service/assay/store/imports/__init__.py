"""Imports: each is one transaction, can be repeated without duplicates, and reports what it did."""

from assay.store.imports.benchmarks import apply_benchmarks
from assay.store.imports.catalog import apply_catalog
from assay.store.imports.observations import apply_observations
from assay.store.imports.tenants import apply_preferences, apply_tenants

__all__ = [
    "apply_benchmarks",
    "apply_catalog",
    "apply_observations",
    "apply_preferences",
    "apply_tenants",
]
