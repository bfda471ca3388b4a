"""One revision of all rule files, compiled: the policy that judging and planning run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.policy.binding import CompiledBinding, RouteTable, compile_binding, is_default
from assay.engine.policy.compile import CheckedRuleSet, PolicyChecker, check_guard, check_rule_set
from assay.engine.policy.faults import Fault, PolicyFaults
from assay.engine.policy.inheritance import inherit_rule_sets
from assay.engine.policy.rule_set import Binding, PolicySource, RuleSet


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled policy; `digest` is the content address of its rule files.

    `revision` is the number that the store gave it, 0 if it was never stored.
    """

    source: PolicySource
    digest: str
    rule_sets: Mapping[str, CheckedRuleSet]
    routes: RouteTable
    revision: int = 0

    @property
    def bindings(self) -> Mapping[str, CompiledBinding]:
        """Every binding by name, in file order."""
        return self.routes.bindings

    @property
    def judged_bindings(self) -> tuple[CompiledBinding, ...]:
        """The bindings for which judging computes pools or order keys, in file order."""
        return tuple(b for b in self.bindings.values() if b.judged)

    @property
    def folds(self) -> Mapping[str, EvidenceSpec]:
        """Every way of folding evidence that a binding uses, by its key."""
        return {binding.fold: binding.evidence for binding in self.bindings.values()}

    def warm(self) -> None:
        """Fuse what most requests need: single bindings, with at most one guarded order key.

        The rest is fused on first use.
        """
        for binding in self.bindings.values():
            self.routes.make((binding,), binding)
            for order in (binding.across, binding.within):
                for guarded in (None, *(k for k in order.keys if k.when)):
                    used = (k for k in order.keys if k.when is None or k is guarded)
                    order.fused(tuple(k for k in used if not k.judged))


def compile_policy(
    rule_sets: Iterable[RuleSet],
    bindings: Iterable[Binding],
    source: PolicySource,
    revision: int = 0,
    *,
    accept_former: bool = False,
) -> Policy:
    """Check and compile rule files; raises PolicyFaults with every fault of every file.

    With `accept_former`, rule files may use former names of facts, as those that earlier versions
    stored do.
    """
    effective, faults = inherit_rule_sets(rule_sets)
    checker = PolicyChecker(faults, accept_former=accept_former)
    checked = {name: check_rule_set(e, checker) for name, e in effective.items()}
    guarded = [(b, check_guard(b, checked[b.rule_set], checker)) for b in bindings]
    for binding, _ in guarded:
        checker.faults.extend(_check_binding(binding, checked[binding.rule_set]))
    if checker.faults:
        raise PolicyFaults(checker.faults)
    compiled = {b.name: compile_binding(b, checked[b.rule_set], when) for b, when in guarded}
    return Policy(source, source.digest, checked, RouteTable(compiled), revision)


def _check_binding(binding: Binding, rules: CheckedRuleSet) -> Iterable[Fault]:
    """Yield faults of a binding with its rule set.

    The default binding may not be a shadow, which would admit everything. The error rate that fast
    evictions look for must be between 0 and 1.
    """
    memory, own = rules.effective.memory, rules.effective.rule_set
    if is_default(binding) and own.mode == "shadow":
        message = f"the default binding may not use the shadow rule set {binding.rule_set}"
        yield Fault(binding.place, message)
    level = rules.expected_accuracy(binding)
    if level is not None and not 0 < memory.change_odds * (1 - level) < 1:
        name = memory.accuracy or ""
        place = {**own.param_places, **binding.param_places}.get(name, own.place)
        rate = f"{memory.change_odds:g} × (1 − {name})"
        expected = "must lie between 0 and 1: the share of errors to look for"
        yield Fault(place, f"{rate} {expected}, found {level:g}")
