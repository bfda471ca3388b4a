"""Rule sets and bindings as written, each expression with its place in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from assay.engine.canonical import address, canonical
from assay.engine.evidence.decay import EvidenceSpec

Parameter = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a rule file; line and column count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Expression:
    """CEL text with its place.

    `place` is the place of the first character. Line n of the text (from 0) is line
    `place.line + n` of the file. From the second line on, text starts in column `indent + 1`.
    """

    text: str
    place: Place
    indent: int = 0

    def locate(self, line: int, column: int) -> Place:
        """Return the place of a line and column (from 1) of the text."""
        if line == 1:
            return Place(self.place.file, self.place.line, self.place.column + column - 1)
        return Place(self.place.file, self.place.line + line - 1, self.indent + column)


@dataclass(frozen=True, slots=True)
class Variable:
    """A named expression, read as `variables.NAME`."""

    name: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition that must hold for the endpoints and requests that match `when`.

    `on_missing` is `exclude` or `pass`, `action` is `exclude` or `shadow`. `origin` names the rule
    set that declares the rule.
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
    """One key of an order: `expression` sorts, `weight` draws; a key with neither is inherited.

    A key is skipped if its `when` is false. `across_models` puts it before the grouping by
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
    """How a pool remembers: when members are evicted, and for how long.

    A slow eviction follows `slow_failures` closed hours in a row with a broken `stay` rule, for at
    most `slow_evictions` members per hour and pool. A fast eviction follows a CUSUM of
    `cusum_limit`: it weighs the errors that `accuracy` allows (the name of a parameter; `None`: no
    fast evictions) against `change_odds` times as many, and one hour counts as at most `cusum_cap`
    effective calls. The k-th eviction lasts `hold` × `backoff`^(k-1), at most `hold_max`. The share
    `keep_after_eviction` of the evidence at that time still counts afterwards.
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
    """One rule file; a block is `None` if the file leaves it to the rule set that it extends."""

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
    """Which rule set applies when: for a `variant`, a `sort`, a `when`, or as the default."""

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
    """The rule files of a policy directory: text by relative path, without test files."""

    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON of all files, in hex."""
        return address(canonical({"files": dict(self.files)}))
