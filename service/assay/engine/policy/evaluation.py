"""Evaluation of pool and request rules over endpoints: facts in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay.engine.cel.check import CheckedExpression
from assay.engine.cel.fuse import Item, fuse_columns, fuse_rules
from assay.engine.cel.values import NOT_ASKED, Absent, Failure, Outcome
from assay.engine.policy.compile import CheckedRule
from assay.engine.policy.rule_set import Rule
from assay.engine.policy.verdict import NO_FINDINGS, FactsRead, RuleFinding, RuleFindings

Facts = Mapping[str, object]
SharedFacts = Mapping[str, Facts]
Column = Callable[[Sequence[Facts], SharedFacts], list[list[object]]]
EVIDENCE = ("endpoint.tools.", "endpoint.observed.", "endpoint.propensity.", "endpoint.usable.")


@dataclass(frozen=True, slots=True)
class RuleScope:
    """What a rule set's expressions share: variables in order, parameters by dotted path."""

    variables: Sequence[tuple[str, CheckedExpression]]
    constants: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RuleProgram:
    """Rules of one scope fused into one function over endpoints.

    In a `pool`, missing evidence has its own reasons. `false` holds the finding of each rule for
    the outcome false; the text of the rule's `messageExpression` replaces its message.
    """

    rules: tuple[CheckedRule, ...]
    pool: bool
    run: Callable[[Sequence[Facts], SharedFacts], list[list[tuple[int, Outcome]]]]
    false: tuple[RuleFinding, ...]

    def findings(self, rows: Sequence[Facts], shared: SharedFacts) -> list[RuleFindings]:
        """Evaluate every rule for every endpoint, in the order of `rows`."""
        return [
            self._findings(row, outcomes) if outcomes else NO_FINDINGS
            for row, outcomes in zip(rows, self.run(rows, shared), strict=True)
        ]

    def _findings(self, row: Facts, outcomes: Sequence[tuple[int, Outcome]]) -> RuleFindings:
        broken: list[RuleFinding] = []
        abstained: list[RuleFinding] = []
        shadow: list[RuleFinding] = []
        for index, outcome in outcomes:
            rule = self.rules[index].rule
            missing_passes = isinstance(outcome, Absent) and rule.on_missing == "pass"
            if outcome is NOT_ASKED or missing_passes:
                kind = abstained
            else:
                kind = shadow if rule.action == "shadow" else broken
            kind.append(self.finding(index, outcome, row))
        return RuleFindings(tuple(broken), tuple(abstained), tuple(shadow))

    def finding(self, index: int, outcome: Outcome, row: Facts) -> RuleFinding:
        """Return one rule's outcome with its reason and a sentence."""
        false = self.false[index]
        if outcome is False:
            return false
        if isinstance(outcome, str):
            return RuleFinding(false.rule, false.reason, outcome, false.outcome, false.rule_set)
        rule = self.rules[index].rule
        if isinstance(outcome, Failure):
            place = rule.expression.locate(outcome.line, outcome.column)
            message = f"{place.file}:{place.line}:{place.column}: {outcome.message}"
            return RuleFinding(rule.name, "EVAL_ERROR", message, "error", rule.origin)
        if isinstance(outcome, Absent):
            reason, message = self._absence(rule, outcome, row)
            return RuleFinding(rule.name, reason, message, "absent", rule.origin)
        message = rule.message or "does not apply to this request"
        return RuleFinding(rule.name, rule.reason, message, "not_asked", rule.origin)

    def _absence(self, rule: Rule, outcome: Absent, row: Facts) -> tuple[str, str]:
        """Return reason and message for a missing fact.

        Missing evidence has its own reason, unless the rule passes on it.
        """
        is_evidence = outcome.path.startswith(EVIDENCE) and "tools.tool_call_requests" not in row
        if not (self.pool and is_evidence):
            return rule.reason, rule.message or f"{outcome.path} is not known"
        if row.get("observed.stale"):
            reason, message = "EVIDENCE_STALE", "all observations are older than the evidence limit"
        else:
            reason, message = "EVIDENCE_ABSENT", "its tool calling has not been observed"
        return (rule.reason if rule.on_missing == "pass" else reason), message


def rule_program(
    rules: Sequence[CheckedRule], scope: RuleScope, *, pool: bool = False
) -> RuleProgram:
    """Fuse rules of one scope, with its parameters inlined."""
    return RuleProgram(
        rules=tuple(rules),
        pool=pool,
        run=fuse_rules(
            [Item(r.name, r.expression, r.when, r.message) for r in rules],
            variables=scope.variables,
            row="endpoint",
            constants=scope.constants,
        ),
        false=tuple(_false(r.rule) for r in rules),
    )


def _false(rule: Rule) -> RuleFinding:
    message = rule.message or f"{rule.name} does not hold"
    return RuleFinding(rule.name, rule.reason, message, "false", rule.origin)


def value_columns(
    named: Iterable[tuple[str, CheckedExpression]], scope: RuleScope, row: str = "endpoint"
) -> Column:
    """Fuse expressions that are values; their variables are computed once for all."""
    items = [Item(name, expression) for name, expression in named]
    return fuse_columns(items, variables=scope.variables, row=row, constants=scope.constants)


def facts_read(rule: CheckedRule, roots: SharedFacts, params: Facts) -> FactsRead:
    """Return what one rule read of one endpoint, by path; `None` where a fact is missing."""

    def value(path: str) -> object:
        root, _, name = path.partition(".")
        return params.get(path) if root == "params" else roots[root].get(name)

    return tuple((path, value(path)) for path in sorted(rule.reads))
