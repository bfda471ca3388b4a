"""Check rule sets against the declared facts, and collect every fault of every rule set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from assay.engine.cel.check import CheckedExpression, check
from assay.engine.cel.faults import ExpressionFaults, locate
from assay.engine.cel.schema import BOOL, DOUBLE, INT, STRING, Fact, Schema, Type
from assay.engine.policy.fact_schema import REQUEST, STAGE_OF, schema_for
from assay.engine.policy.faults import Fault
from assay.engine.policy.functions import FUNCTIONS, STRINGS
from assay.engine.policy.inheritance import EffectiveRuleSet
from assay.engine.policy.rule_set import Binding, Expression, OrderKey, Parameter, Rule, Variable

_JUDGING = frozenset(f.name for f in FUNCTIONS if f.judging)
_MATCHED = frozenset({"endpoint.provider", "endpoint.tag", "endpoint.service_tier"})
_BENCHMARKED = frozenset(f"endpoint.benchmarks.{key}" for key in ("series", "scores", "age_days"))
_READ_BY = {  # functions that take a whole endpoint, and which of its facts they read
    **dict.fromkeys(("matches_any", "named_in", "rank_in"), _MATCHED),
    **dict.fromkeys(("benchmark_score", "benchmark_age"), _BENCHMARKED),
}


@dataclass(frozen=True, slots=True)
class CheckedVariable:
    """A variable with the facts and functions it uses, also through other variables."""

    name: str
    checked: CheckedExpression
    reads: frozenset[str]
    functions: frozenset[str]


@dataclass(frozen=True, slots=True)
class CheckedRule:
    """A rule with typed expressions; `reads` are the facts they use, also through variables."""

    rule: Rule
    expression: CheckedExpression
    when: CheckedExpression | None
    message: CheckedExpression | None
    reads: frozenset[str]
    variables: tuple[CheckedVariable, ...]

    @property
    def name(self) -> str:
        """Return the rule's name."""
        return self.rule.name


@dataclass(frozen=True, slots=True, eq=False)
class CheckedKey:
    """An order key with typed expressions; it sorts, or `draws` by weight.

    A `judged` key reads nothing of the request, so that its values are computed with the pool.
    """

    name: str
    expression: CheckedExpression
    when: CheckedExpression | None
    judged: bool
    draws: bool
    descending: bool
    across_models: bool


@dataclass(frozen=True, slots=True)
class CheckedRuleSet:
    """A rule set with typed expressions; `enter` is `None` if it has no pool."""

    effective: EffectiveRuleSet
    variables: tuple[CheckedVariable, ...]
    enter: tuple[CheckedRule, ...] | None
    stay: tuple[CheckedRule, ...]
    request: tuple[CheckedRule, ...]
    order: tuple[CheckedKey, ...]

    @property
    def name(self) -> str:
        """Return the rule set's name."""
        return self.effective.rule_set.name

    def params(self, binding: Binding) -> dict[str, Parameter]:
        """Return its parameters, with those that a binding overrides."""
        return {**self.effective.rule_set.params, **binding.params}

    def expected_accuracy(self, binding: Binding) -> float | None:
        """Return the value of the parameter that `memory.accuracy` names."""
        found = self.params(binding).get(self.effective.memory.accuracy or "")
        return found if isinstance(found, float) else None


def type_of(value: Parameter) -> Type:
    """Return the CEL type of a parameter."""
    if isinstance(value, tuple):
        return STRINGS
    return {bool: BOOL, int: INT, float: DOUBLE, str: STRING}[type(value)]


@dataclass(slots=True)
class PolicyChecker:
    """Checks the expressions of one policy, each text once per set of names that it may use."""

    faults: list[Fault] = field(default_factory=list)
    known: dict[object, CheckedExpression | ExpressionFaults] = field(default_factory=dict)
    accept_former: bool = False

    def check(
        self, expression: Expression, schema: Schema, key: object, expected: tuple[Type, ...]
    ) -> CheckedExpression | None:
        """Return the typed expression, or `None` after adding its faults at their places."""
        found = self.known.get((expression.text, key))
        if found is None:
            try:
                found = check(expression.text, schema)
            except ExpressionFaults as error:
                found = error
            self.known[expression.text, key] = found
        if isinstance(found, ExpressionFaults):
            for fault in found.faults:
                place = expression.locate(fault.line, fault.column)
                self.faults.append(Fault(place, fault.message))
            return None
        if expected and found.type not in expected:
            words = " or ".join(map(str, expected))
            self.faults.append(Fault(expression.place, f"this is {found.type}, expected {words}"))
            return None
        return found

    def reject(self, expression: Expression, name: str, message: str) -> None:
        """Add a fault at the first occurrence of a name or of its root, otherwise at the start."""
        root = name.partition(".")[0]
        found = (at for at in map(expression.text.find, (name, root)) if at >= 0)
        place = expression.locate(*locate(expression.text, next(found, 0)))
        self.faults.append(Fault(place, message))


def check_rule_set(effective: EffectiveRuleSet, checker: PolicyChecker) -> CheckedRuleSet:
    """Check one effective rule set; the result leaves out what is faulty."""
    own = effective.rule_set
    names = _RuleSetScope(checker, own.params)
    for variable in own.cohort_variables:
        names.declare(variable, cohort=True)
    for variable in own.variables:
        names.declare(variable, cohort=False)
    return CheckedRuleSet(
        effective,
        variables=tuple(names.variables.values()),
        enter=None if own.enter is None else names.rules(own.enter, in_pool=True),
        stay=names.rules(own.stay or own.enter or (), in_pool=True),
        request=names.rules(own.request, in_pool=False),
        order=tuple(names.keys(own.order or ())),
    )


class _RuleSetScope:
    """The names that a rule set's expressions may use; each variable adds one."""

    def __init__(self, checker: PolicyChecker, params: Mapping[str, Parameter]) -> None:
        self.checker = checker
        types = {name: type_of(value) for name, value in params.items()}
        self.schema = schema_for(REQUEST, types, accept_former=checker.accept_former)
        self.variables: dict[str, CheckedVariable] = {}
        self.broken: set[str] = set()

    def check(self, expression: Expression, *expected: Type) -> CheckedExpression | None:
        """Check an expression in this scope; one that uses a faulty variable adds no fault."""
        if any(re.search(rf"\bvariables\.{name}\b", expression.text) for name in self.broken):
            return None
        # In scopes with another key, the same text may have another type.
        key = (
            tuple(sorted((n, str(f.type)) for n, f in self.schema.roots["params"].items())),
            tuple((n, v.checked.text, str(v.checked.type)) for n, v in self.variables.items()),
        )
        return self.checker.check(expression, self.schema, key, expected)

    def declare(self, variable: Variable, *, cohort: bool) -> None:
        """Add a variable; a cohort variable may not read the endpoint."""
        checked = self.check(variable.expression)
        if checked is None:
            self.broken.add(variable.name)
            return
        reads = self.reads(checked)
        if cohort and (endpoint := _first_of(reads, "endpoint.")):
            message = f"a cohort variable may not read {endpoint}"
            self.checker.reject(variable.expression, endpoint, message)
            self.broken.add(variable.name)
            return
        functions = self.functions(checked)
        self.variables[variable.name] = CheckedVariable(variable.name, checked, reads, functions)
        known = {**self.schema.roots["variables"], variable.name: Fact(checked.type)}
        self.schema = replace(self.schema, roots={**self.schema.roots, "variables": known})

    def behind(self, *expressions: CheckedExpression | None) -> tuple[CheckedVariable, ...]:
        """Return the variables behind expressions, also through others, as they were declared."""
        wanted = {path for expression in expressions if expression for path in expression.reads}
        needed: list[CheckedVariable] = []
        for name, variable in reversed(self.variables.items()):
            if f"variables.{name}" in wanted:
                needed.append(variable)
                wanted |= variable.checked.reads
        return tuple(reversed(needed))

    def reads(self, checked: CheckedExpression) -> frozenset[str]:
        """Return the facts that an expression reads, also through variables."""
        own = frozenset(r for r in checked.reads if not r.startswith("variables."))
        if "endpoint" in own:
            behind = (_READ_BY[name] for name in checked.functions & _READ_BY.keys())
            own = (own - {"endpoint"}).union(*behind)
        return own.union(*(v.reads for v in self.behind(checked)))

    def functions(self, checked: CheckedExpression) -> frozenset[str]:
        """Return the functions that an expression calls, also through variables."""
        return checked.functions.union(*(v.functions for v in self.behind(checked)))

    def rules(self, rules: Iterable[Rule], *, in_pool: bool) -> tuple[CheckedRule, ...]:
        """Check rules; the result leaves out what is faulty."""
        checked = (self.rule(rule, in_pool=in_pool) for rule in rules)
        return tuple(rule for rule in checked if rule)

    def rule(self, rule: Rule, *, in_pool: bool) -> CheckedRule | None:
        """Check one rule.

        Pool rules may not read the request. Request rules may not judge, and their guards may not
        read the endpoint.
        """
        sources = (rule.expression, rule.when, rule.message_expression)
        types = (BOOL, BOOL, STRING)
        expression, when, message = (
            self.check(source, type_) if source else None
            for source, type_ in zip(sources, types, strict=True)
        )
        if (
            expression is None
            or (rule.when and not when)
            or (rule.message_expression and not message)
        ):
            return None
        for source, checked in zip(sources, (expression, when, message), strict=True):
            if source and checked:
                reject = self.reject_request if in_pool else self.reject_judging
                reject(source, checked)
        if rule.when and when and not in_pool:
            self.reject_endpoint(rule.when, when)
        reads = frozenset[str]().union(*(self.reads(e) for e in (expression, when, message) if e))
        variables = self.behind(expression, when, message)
        return CheckedRule(rule, expression, when, message, reads, variables)

    def reject_request(self, source: Expression, checked: CheckedExpression) -> None:
        """Reject a pool rule's expression that reads facts of the request."""
        for path in sorted(self.reads(checked)):
            if STAGE_OF.get(path) == REQUEST:
                message = f"a pool rule may not read {path}, which is known only with a request"
                self.checker.reject(source, path, message)

    def reject_judging(self, source: Expression, checked: CheckedExpression) -> None:
        """Reject functions for judging only in an expression that runs with each request."""
        for name in sorted(self.functions(checked) & _JUDGING):
            message = f"{name} may only be used where no fact of the request is read"
            self.checker.reject(source, name, message)

    def reject_endpoint(self, source: Expression, checked: CheckedExpression) -> None:
        """Reject a guard that reads the endpoint."""
        if endpoint := _first_of(self.reads(checked), "endpoint"):
            message = f"this `when` is evaluated once per request and may not read {endpoint}"
            self.checker.reject(source, endpoint, message)

    def keys(self, keys: Iterable[OrderKey]) -> Iterable[CheckedKey]:
        """Check order keys: expressions are numbers, weights are doubles."""
        for key in keys:
            source = key.expression or key.weight
            if source is None:
                continue
            checked = self.check(source, *((INT, DOUBLE) if key.expression else (DOUBLE,)))
            when = self.check(key.when, BOOL) if key.when else None
            if checked is None or (key.when and not when):
                continue
            judged = not any(STAGE_OF.get(path) == REQUEST for path in self.reads(checked))
            if not judged:
                self.reject_judging(source, checked)
            if key.when and when:
                self.reject_endpoint(key.when, when)
            yield CheckedKey(
                key.name,
                checked,
                when,
                judged,
                draws=key.weight is not None,
                descending=key.direction == "descending",
                across_models=key.across_models,
            )


def _first_of(paths: Iterable[str], prefix: str) -> str | None:
    """Return the first path, in order, that starts with a prefix."""
    return next((path for path in sorted(paths) if path.startswith(prefix)), None)


def check_guard(
    binding: Binding, rules: CheckedRuleSet, checker: PolicyChecker
) -> CheckedExpression | None:
    """Check a binding's `when`, which may read the request, the tenant and the model."""
    if binding.when is None:
        return None
    names = _RuleSetScope(checker, rules.params(binding))
    checked = names.check(binding.when, BOOL)
    if checked:
        names.reject_judging(binding.when, checked)
        for path in sorted(checked.reads):
            if path.partition(".")[0] not in ("request", "tenant", "model"):
                checker.reject(binding.when, path, f"a binding's `when` may not read {path}")
                return None
    return checked
