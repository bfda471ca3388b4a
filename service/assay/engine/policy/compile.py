"""Check rule sets against the declared facts, and collect every fault of every rule set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from assay.engine.cel.check import CheckedExpression, check
from assay.engine.cel.faults import ExpressionFaults
from assay.engine.cel.schema import BOOL, DOUBLE, INT, STRING, Fact, Schema, Type
from assay.engine.policy.fact_schema import REQUEST, STAGE_OF, schema_for
from assay.engine.policy.faults import Fault
from assay.engine.policy.functions import FUNCTIONS, STRINGS
from assay.engine.policy.inheritance import EffectiveRuleSet
from assay.engine.policy.rule_set import Expression, OrderKey, Parameter, Rule, Variable

JUDGING = frozenset(f.name for f in FUNCTIONS if f.judging)
NUMERIC = (INT, DOUBLE)
MATCHED = frozenset({"endpoint.provider", "endpoint.tag", "endpoint.service_tier"})
BENCHMARKED = frozenset(
    {"endpoint.benchmarks.series", "endpoint.benchmarks.scores", "endpoint.benchmarks.age_days"}
)
READ_BY = {  # functions that take a whole endpoint, and which of its facts they read
    **dict.fromkeys(("matches_any", "named_in", "rank_in"), MATCHED),
    **dict.fromkeys(("benchmark_score", "benchmark_age"), BENCHMARKED),
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


@dataclass(frozen=True, slots=True)
class CheckedKey:
    """An order key with typed expressions; a `judged` key reads nothing of the request."""

    key: OrderKey
    expression: CheckedExpression
    when: CheckedExpression | None
    judged: bool
    variables: tuple[CheckedVariable, ...]

    @property
    def name(self) -> str:
        """Return the key's name."""
        return self.key.name


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
            self.faults.extend(
                Fault(expression.locate(f.line, f.column), f.message) for f in found.faults
            )
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
        before = expression.text[: next(found, 0)]
        place = expression.locate(
            before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        )
        self.faults.append(Fault(place, message))


def check_rule_set(effective: EffectiveRuleSet, checker: PolicyChecker) -> CheckedRuleSet:
    """Check one effective rule set; the result leaves out what is faulty."""
    own = effective.rule_set
    names = RuleSetScope(checker, {name: type_of(value) for name, value in own.params.items()})
    for variable in own.cohort_variables:
        names.declare(variable, cohort=True)
    for variable in own.variables:
        names.declare(variable, cohort=False)
    return CheckedRuleSet(
        effective,
        variables=tuple(names.variables.values()),
        enter=None if own.enter is None else tuple(names.pool_rules(own.enter)),
        stay=tuple(names.pool_rules(own.stay or own.enter or ())),
        request=tuple(names.request_rules(own.request)),
        order=tuple(names.keys(own.order or ())),
    )


class RuleSetScope:
    """The names that a rule set's expressions may use; each variable adds one."""

    def __init__(self, checker: PolicyChecker, params: Mapping[str, Type]) -> None:
        self.checker = checker
        self.schema = schema_for(REQUEST, dict(params), accept_former=checker.accept_former)
        self.variables: dict[str, CheckedVariable] = {}
        self.broken: set[str] = set()

    def check(self, expression: Expression, *expected: Type) -> CheckedExpression | None:
        """Check an expression in this scope; one that uses a faulty variable adds no fault."""
        if any(re.search(rf"\bvariables\.{name}\b", expression.text) for name in self.broken):
            return None
        return self.checker.check(expression, self.schema, self.key(), expected)

    def key(self) -> object:
        """Return what distinguishes scopes in which the same text may have other types."""
        return (
            tuple(sorted((n, str(f.type)) for n, f in self.schema.roots["params"].items())),
            tuple((n, v.checked.text, str(v.checked.type)) for n, v in self.variables.items()),
        )

    def declare(self, variable: Variable, *, cohort: bool) -> None:
        """Add a variable; a cohort variable may not read the endpoint."""
        checked = self.check(variable.expression)
        if checked is None:
            self.broken.add(variable.name)
            return
        found = CheckedVariable(
            variable.name, checked, self.reads(checked), self.functions(checked)
        )
        if cohort and (endpoint := first_of(found.reads, "endpoint.")):
            self.checker.reject(
                variable.expression, endpoint, f"a cohort variable may not read {endpoint}"
            )
            self.broken.add(variable.name)
            return
        self.variables[variable.name] = found
        roots = {
            **self.schema.roots,
            "variables": {**self.schema.roots["variables"], variable.name: Fact(checked.type)},
        }
        self.schema = replace(self.schema, roots=roots)

    def behind(self, *expressions: CheckedExpression | None) -> tuple[CheckedVariable, ...]:
        """Return the variables behind expressions, also through others, as they were declared."""
        wanted = {r for e in expressions if e for r in e.reads if r.startswith("variables.")}
        needed: set[str] = set()
        while wanted:
            name = wanted.pop().partition(".")[2]
            if name not in needed:
                needed.add(name)
                wanted |= {
                    r for r in self.variables[name].checked.reads if r.startswith("variables.")
                }
        return tuple(v for name, v in self.variables.items() if name in needed)

    def reads(self, checked: CheckedExpression) -> frozenset[str]:
        """Return the facts that an expression reads, also through variables."""
        own = frozenset(r for r in checked.reads if not r.startswith("variables."))
        if "endpoint" in own:
            own = (own - {"endpoint"}).union(
                *(READ_BY[name] for name in checked.functions & READ_BY.keys())
            )
        return own.union(*(v.reads for v in self.behind(checked)))

    def functions(self, checked: CheckedExpression) -> frozenset[str]:
        """Return the functions that an expression calls, also through variables."""
        return checked.functions.union(*(v.functions for v in self.behind(checked)))

    def rule(self, rule: Rule) -> CheckedRule | None:
        """Check one rule's expressions."""
        expression = self.check(rule.expression, BOOL)
        when = self.check(rule.when, BOOL) if rule.when else None
        message = self.check(rule.message_expression, STRING) if rule.message_expression else None
        if (
            expression is None
            or (rule.when and not when)
            or (rule.message_expression and not message)
        ):
            return None
        reads = frozenset[str]().union(*(self.reads(e) for e in (expression, when, message) if e))
        return CheckedRule(
            rule, expression, when, message, reads, self.behind(expression, when, message)
        )

    def pool_rules(self, rules: Iterable[Rule]) -> Iterable[CheckedRule]:
        """Check pool rules, which may not read the request."""
        for rule in rules:
            if checked := self.rule(rule):
                sources = [e for e in (rule.expression, rule.when, rule.message_expression) if e]
                for source in sources:
                    self.judged_only(source)
                yield checked

    def judged_only(self, source: Expression) -> None:
        """Reject a pool rule's expression that reads facts of the request."""
        checked = self.check(source)
        for path in sorted(self.reads(checked)) if checked else ():
            if STAGE_OF.get(path) == REQUEST:
                self.checker.reject(
                    source,
                    path,
                    f"a pool rule may not read {path}, which is known only with a request",
                )

    def request_rules(self, rules: Iterable[Rule]) -> Iterable[CheckedRule]:
        """Check request rules: no functions for judging only, and guards that read no endpoint."""
        for rule in rules:
            if checked := self.rule(rule):
                for source in (rule.expression, rule.when, rule.message_expression):
                    if source:
                        self.planned(source)
                if rule.when:
                    self.request_only(rule.when)
                yield checked

    def planned(self, source: Expression) -> None:
        """Reject functions for judging only in an expression that runs with each request."""
        checked = self.check(source)
        for name in sorted(self.functions(checked) & JUDGING) if checked else ():
            self.checker.reject(
                source, name, f"{name} may only be used where no fact of the request is read"
            )

    def request_only(self, source: Expression) -> None:
        """Reject a guard that reads the endpoint."""
        checked = self.check(source)
        if checked and (endpoint := first_of(self.reads(checked), "endpoint")):
            self.checker.reject(
                source,
                endpoint,
                f"this `when` is evaluated once per request and may not read {endpoint}",
            )

    def keys(self, keys: Iterable[OrderKey]) -> Iterable[CheckedKey]:
        """Check order keys: expressions are numbers, weights are doubles."""
        for key in keys:
            source = key.expression or key.weight
            if source is None:
                continue
            checked = self.check(source, *(NUMERIC if key.expression else (DOUBLE,)))
            when = self.check(key.when, BOOL) if key.when else None
            if checked is None or (key.when and not when):
                continue
            judged = not any(STAGE_OF.get(path) == REQUEST for path in self.reads(checked))
            if not judged:
                self.planned(source)
            if key.when:
                self.request_only(key.when)
            yield CheckedKey(key, checked, when, judged, self.behind(checked, when))


def first_of(paths: Iterable[str], prefix: str) -> str | None:
    """Return the first path, in order, that starts with a prefix."""
    return next((path for path in sorted(paths) if path.startswith(prefix)), None)


def check_guard(
    expression: Expression, checker: PolicyChecker, params: Mapping[str, Parameter]
) -> CheckedExpression | None:
    """Check a binding's `when`, which may read the request, the tenant and the model."""
    names = RuleSetScope(checker, {name: type_of(value) for name, value in params.items()})
    checked = names.check(expression, BOOL)
    if checked:
        names.planned(expression)
        for path in sorted(checked.reads):
            if path.partition(".")[0] not in ("request", "tenant", "model"):
                checker.reject(expression, path, f"a binding's `when` may not read {path}")
                return None
    return checked
