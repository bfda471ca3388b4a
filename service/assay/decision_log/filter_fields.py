"""The fields that auditors' filters may name: what each says, its type, and where a decision row keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from assay.decision_log.derived import Derived
from assay.engine.cel.schema import INT, STRING, Fact, Schema, Type, list_of
from assay.engine.world.clock import EPOCH
from assay.store.types import MICROSECOND

ROOT: Final = "decision"
TENANT: Final = "tenant"
TIME: Final = "time_us"
WORDS: Final = list_of(STRING)


@dataclass(frozen=True, slots=True)
class Field:
    """One field, and what it is called in the row: a column of `decision`, or a kind of `finding_set_word`."""

    name: str
    type: Type
    says: str
    kept_as: str

    @property
    def path(self) -> str:
        """The field as filters write it."""
        return f"{ROOT}.{self.name}"


FIELDS: Final = (
    Field("id", STRING, "the decision's id", "decision_id"),
    Field(TIME, INT, "when it was decided, in microseconds since 1970 UTC", "decided_at"),
    Field(
        TENANT,
        STRING,
        "the tenant's name; empty where none was named or it has been erased",
        "tenant",
    ),
    Field(
        "request_id",
        STRING,
        "the caller's own id of the request; empty where none was given",
        "request_id",
    ),
    Field("model", STRING, "the model asked for, catalog variant included", "model"),
    Field(
        "variant",
        STRING,
        "the routing variant as asked for: exacto, nitro, …; empty for none",
        "variant",
    ),
    Field("tools", INT, "how many tools the request declared", "tools"),
    Field("attempts", INT, "how many endpoints the plan holds", "attempts"),
    Field("excluded", INT, "how many endpoints were left out", "excluded"),
    Field(
        "first_provider",
        STRING,
        "the provider to try first; empty where nobody could serve",
        "first_provider",
    ),
    Field(
        "first_endpoint",
        STRING,
        "the endpoint to try first; empty where nobody could serve",
        "first_endpoint",
    ),
    Field("availability", STRING, "the plan's availability as the plan spells it", "availability"),
    Field("policy_revision", INT, "the policy revision in force", "policy_revision"),
    Field("snapshot_id", STRING, "the snapshot decided from", "snapshot_id"),
    Field("engine_version", STRING, "the engine that decided", "engine_version"),
    Field(
        "demoted", INT, "how many endpoints were demoted for their health at that moment", "demoted"
    ),
    Field("plan_ns", INT, "how long planning took, in nanoseconds", "plan_ns"),
    Field("attempted_providers", WORDS, "the providers in the plan", "attempted_provider"),
    Field("attempted_endpoints", WORDS, "the endpoints in the plan", "attempted_endpoint"),
    Field(
        "excluded_providers", WORDS, "the providers with an endpoint left out", "excluded_provider"
    ),
    Field("excluded_endpoints", WORDS, "the endpoints left out", "excluded_endpoint"),
    Field("reasons", WORDS, "why endpoints were left out", "reason"),
    Field(
        "demoted_endpoints",
        WORDS,
        "the endpoints demoted for their health at that moment",
        "demoted_endpoint",
    ),
)
BY_NAME: Final = {field.name: field for field in FIELDS}
SCHEMA: Final = Schema(roots={ROOT: {field.name: Fact(field.type) for field in FIELDS}})


def row_of(derived: Derived, tenants: Mapping[str, str]) -> dict[str, object]:
    """Give a decision as filters read it; `tenants` names the tenant of each pseudonym not erased."""
    row: dict[str, object] = {
        field.name: derived.words.get(field.kept_as, ())
        if field.type == WORDS
        else getattr(derived, field.kept_as)
        for field in FIELDS
    }
    row[TIME] = (derived.decided_at - EPOCH) // MICROSECOND
    row[TENANT] = tenants.get(derived.tenant, "")
    return row
