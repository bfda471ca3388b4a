"""Rule sets and bindings as written: checked for form, not yet compiled; every expression keeps its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from assay.engine.canonical import address, canonical
from assay.engine.evidence.decay import EvidenceSpec

Parameter = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a rule file; line and column count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Expression:
    """CEL text and where it stands.

    `place` is that of the first character; the text's line n (from 0) begins at file line `place.line + n`, its
    first character (n > 0) in column `indent + 1`.
    """

    text: str
    place: Place
    indent: int = 0

    def locate(self, line: int, column: int) -> Place:
        """Where the text's own line and column (from 1) stand in the file."""
        if line == 1:
            return Place(self.place.file, self.place.line, self.place.column + column - 1)
        return Place(self.place.file, self.place.line + line - 1, self.indent + column)


@dataclass(frozen=True, slots=True)
class Variable:
    """A named expression that rules read as `variables.NAME`."""

    name: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition that must hold; `when` says whom it concerns, `on_missing` is `exclude` or `pass`.

    `action` is `exclude` or `shadow`; `origin` names the rule set that wrote it.
    """

    name: str
    expression: Expression
    reason: str
    place: Place
    when: Expression | None = None
    message: str = ""
    message_expression: Expression | None = None
    on_missing: str = "exclude"
    action: str = "exclude"
    origin: str = ""


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One key of an order: `expression` sorts (`direction`), `weight` draws; with neither it is inherited.

    A key whose request-only `when` does not hold is left out. `across_models` puts the key before the grouping by
    requested model.
    """

    name: str
    place: Place
    when: Expression | None = None
    expression: Expression | None = None
    weight: Expression | None = None
    direction: str = "ascending"
    across_models: bool = False


@dataclass(frozen=True, slots=True)
class MemorySpec:
    """How a pool remembers: what it takes to leave it, and for how long one who left stays outside.

    Slow: `stay` broken at `slow_failures` closed hours in a row, at most `slow_evictions` an hour and model. Fast: a
    CUSUM over the closed hours, weighing the errors that `accuracy` allows (the name of the parameter that holds it,
    `None` for no fast way) against `change_odds` times as many; it evicts from `cusum_limit` on, and one hour counts
    for at most `cusum_cap` effective calls. The k-th eviction holds for `hold` × `backoff`^(k−1), at most `hold_max`,
    and leaves the share `keep_after_eviction` of what was known then.
    """

    hold: timedelta = timedelta(hours=24)
    hold_max: timedelta = timedelta(hours=168)
    backoff: float = 2.0
    slow_failures: int = 2
    slow_evictions: int = 1
    accuracy: str | None = None
    change_odds: float = 2.0
    cusum_limit: float = 8.0
    cusum_cap: float = 800.0
    keep_after_eviction: float = 0.1


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One rule file; `None` for a block that the file leaves to the rule set it extends."""

    name: str
    place: Place
    description: str = ""
    extends: str | None = None
    mode: str = "enforce"
    evidence: EvidenceSpec | None = None
    memory: MemorySpec | None = None
    params: Mapping[str, Parameter] = field(default_factory=dict)
    param_places: Mapping[str, Place] = field(default_factory=dict)
    cohort_variables: tuple[Variable, ...] = ()
    variables: tuple[Variable, ...] = ()
    enter: tuple[Rule, ...] | None = None
    stay: tuple[Rule, ...] | None = None
    on_empty: str = "fail"
    minimum: int | None = None
    request: tuple[Rule, ...] = ()
    order: tuple[OrderKey, ...] | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """Which rule set applies when; exactly one of `variant`, `sort` and `when` is set, or none for the default."""

    name: str
    rule_set: str
    place: Place
    variant: str | None = None
    sort: str | None = None
    when: Expression | None = None
    tenants: tuple[str, ...] = ()
    params: Mapping[str, Parameter] = field(default_factory=dict)
    param_places: Mapping[str, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicySource:
    """A whole policy directory in memory: relative path -> text, tests left out; `digest` is its content's address."""

    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The SHA-256 of the canonical JSON of all files, in hex."""
        return address(canonical({"files": dict(self.files)}))
