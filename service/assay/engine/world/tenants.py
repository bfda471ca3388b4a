"""What tenants prefer, and what the operator allows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preference:
    """A tenant's pin or ignore of a provider (slug) or an endpoint (tag), for one model or for all (`None`)."""

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
