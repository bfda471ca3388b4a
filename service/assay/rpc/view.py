"""What the catalog service reads from: one world's models, endpoints and judged pools, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from assay.engine.catalog import Endpoint, Model
from assay.engine.errors import CallerError, quoted
from assay.engine.verdict import Verdict


class UnknownEndpoint(CallerError):
    """No endpoint of that id is in the catalog."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"endpoint_id: {quoted(endpoint_id)} is not in the catalog")
        self.endpoint_id = endpoint_id


@dataclass(frozen=True, slots=True)
class JudgedEndpoint:
    """One endpoint of a pool's model: its verdict, and the facts it was judged by."""

    verdict: Verdict
    facts: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class JudgedPool:
    """The pool of one binding and model; members and others keep the catalog's order."""

    model: str
    variant: str
    binding: str
    rule_set: str
    as_of: datetime
    snapshot_id: str
    members: tuple[JudgedEndpoint, ...]
    others: tuple[JudgedEndpoint, ...]


class CatalogView(Protocol):
    """One consistent world; sequences come in the order of their key (name, endpoint_id, binding)."""

    def models(self) -> Sequence[Model]:
        """Every model."""

    def model(self, name: str) -> Model:
        """One model; raises UnknownModel."""

    def endpoints(self, model: str | None) -> Sequence[Endpoint]:
        """Every endpoint, or those of one model; raises UnknownModel."""

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """One endpoint; raises UnknownEndpoint."""

    def pools(self, model: str) -> Sequence[JudgedPool]:
        """Every pool of a model; raises UnknownModel."""

    def pool(self, model: str, variant: str, tenant: str) -> JudgedPool:
        """The pool that a variant means for a tenant; raises UnknownModel and UnknownVariant."""
