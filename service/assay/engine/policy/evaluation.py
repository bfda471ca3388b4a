"""Rules asked of endpoints: fused programs in, findings out; shared by pools and by request rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay.engine.cel.check import CheckedExpression
from assay.engine.cel.fuse import Item, fuse_columns, fuse_rules
from assay.engine.cel.values import NOT_ASKED, Absent, Failure, Outcome
from assay.engine.policy.compile import CheckedRule
from assay.engine.policy.rule_set import Rule
from assay.engine.policy.verdict import FactsRead, RuleFinding

Facts = Mapping[str, object]
SharedFacts = Mapping[str, Facts]
Column = Callable[[Sequence[Facts], SharedFacts], list[list[object]]]
EVIDENCE = ("endpoint.tools.", "endpoint.observed.", "endpoint.propensity.")


@dataclass(frozen=True, slots=True)
class RuleScope:
    """What a rule set's expressions share: its variables in order, and its parameters by dotted path."""

    variables: Sequence[tuple[str, CheckedExpression]]
    constants: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RuleFindings:
    """What one endpoint's rules came to besides holding."""

    broken: tuple[RuleFinding, ...] = ()
    abstained: tuple[RuleFinding, ...] = ()
    shadow: tuple[RuleFinding, ...] = ()


NO_FINDINGS = RuleFindings()


@dataclass(frozen=True, slots=True)
class RuleProgram:
    """Rules of one scope fused into one function over endpoints, with what each says where it does not hold.

    In a `pool`, missing evidence has reasons of its own. `false` is what each rule says where it does not hold, save
    for the sentence that it writes of a row.
    """

    rules: tuple[CheckedRule, ...]
    pool: bool
    run: Callable[[Sequence[Facts], SharedFacts], list[list[tuple[int, Outcome]]]]
    false: tuple[RuleFinding, ...]

    def findings(self, rows: Sequence[Facts], shared: SharedFacts) -> list[RuleFindings]:
        """Judge every endpoint by every rule, in the order of `rows`."""
        return [
            self.explain(row, outcomes) if outcomes else NO_FINDINGS
            for row, outcomes in zip(rows, self.run(rows, shared), strict=True)
        ]

    def explain(self, row: Facts, outcomes: Sequence[tuple[int, Outcome]]) -> RuleFindings:
        """Put words to one endpoint's outcomes."""
        broken: list[RuleFinding] = []
        abstained: list[RuleFinding] = []
        shadow: list[RuleFinding] = []
        for index, outcome in outcomes:
            checked = self.rules[index]
            finding = self.finding(index, outcome, row)
            if abstains(checked, outcome):
                abstained.append(finding)
            elif checked.rule.action == "shadow":
                shadow.append(finding)
            else:
                broken.append(finding)
        return RuleFindings(tuple(broken), tuple(abstained), tuple(shadow))

    def finding(self, index: int, outcome: Outcome, row: Facts) -> RuleFinding:
        """One rule's outcome with its reason and a sentence."""
        if outcome is False:
            return self.false[index]
        if isinstance(outcome, str):
            said = self.false[index]
            return RuleFinding(said.rule, said.reason, outcome, said.outcome, said.rule_set)
        rule = self.rules[index].rule
        if isinstance(outcome, Failure):
            place = rule.expression.locate(outcome.line, outcome.column)
            words = f"{place.file}:{place.line}:{place.column}: {outcome.message}"
            return RuleFinding(rule.name, "EVAL_ERROR", words, "error", rule.origin)
        if isinstance(outcome, Absent):
            reason, message = self.absence(index, outcome, row)
            return RuleFinding(rule.name, reason, message, "absent", rule.origin)
        return RuleFinding(
            rule.name, rule.reason, rule.message or "not asked here", "not_asked", rule.origin
        )

    def absence(self, index: int, outcome: Absent, row: Facts) -> tuple[str, str]:
        """Why a fact is missing: evidence has words of its own where the rule excludes for want of it."""
        rule = self.rules[index].rule
        if (
            not self.pool
            or not outcome.path.startswith(EVIDENCE)
            or "tools.tool_call_requests" in row
        ):
            return rule.reason, rule.message or f"{outcome.path} is not known"
        if row.get("observed.stale"):
            reason, message = (
                "EVIDENCE_STALE",
                "all that was observed is older than the evidence limit",
            )
        else:
            reason, message = "EVIDENCE_ABSENT", "its tool calling has not been observed"
        return (rule.reason if rule.on_missing == "pass" else reason), message


def abstains(checked: CheckedRule, outcome: Outcome) -> bool:
    """Whether an outcome leaves the endpoint alone: not asked, or missing where that is allowed."""
    return outcome is NOT_ASKED or (
        isinstance(outcome, Absent) and checked.rule.on_missing == "pass"
    )


def program(rules: Sequence[CheckedRule], scope: RuleScope, *, pool: bool = False) -> RuleProgram:
    """Fuse rules of one scope, its parameters inlined."""
    return RuleProgram(
        rules=tuple(rules),
        pool=pool,
        run=fuse_rules(
            [Item(r.name, r.expression, r.when, r.message) for r in rules],
            variables=scope.variables,
            row="endpoint",
            constants=scope.constants,
        ),
        false=tuple(false(r.rule) for r in rules),
    )


def false(rule: Rule) -> RuleFinding:
    """What a rule says where it does not hold: its message, else its name."""
    return RuleFinding(
        rule.name, rule.reason, rule.message or f"{rule.name} does not hold", "false", rule.origin
    )


def column(
    name: str, expression: CheckedExpression, scope: RuleScope, row: str = "endpoint"
) -> Column:
    """Fuse one expression that is a value rather than a condition."""
    return columns([(name, expression)], scope, row)


def columns(
    named: Iterable[tuple[str, CheckedExpression]], scope: RuleScope, row: str = "endpoint"
) -> Column:
    """Fuse expressions that are values; the variables behind them are computed once for all."""
    items = [Item(name, expression) for name, expression in named]
    return fuse_columns(items, variables=scope.variables, row=row, constants=scope.constants)


def facts_read(
    rule: CheckedRule, roots: Mapping[str, Mapping[str, object]], params: Mapping[str, object]
) -> FactsRead:
    """What one rule read of one row."""
    return tuple((path, value_of(path, roots, params)) for path in sorted(rule.reads))


def value_of(
    path: str, roots: Mapping[str, Mapping[str, object]], params: Mapping[str, object]
) -> object:
    """One fact or parameter, `None` where it is absent."""
    root, _, name = path.partition(".")
    return params.get(path) if root == "params" else roots[root].get(name)
