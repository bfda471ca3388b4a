"""Tenants' preferences and the settings that the operator gives them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preference:
    """A tenant's pin or ignore of a provider (slug) or endpoint (tag), for one model or for all."""

    tenant: str
    kind: str  # "pin" | "ignore"
    target: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """What the operator allows a tenant; an empty `only` allows all providers."""

    tenant: str
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    zdr: bool = False
    deny_data_collection: bool = False
