"""One revision of all rule files, compiled: what judging and planning run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from assay.engine.cel.check import CheckedExpression
from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.policy.binding import CompiledBinding, RouteTable, accuracy, bind, is_default
from assay.engine.policy.compile import CheckedRuleSet, PolicyChecker, check_guard, check_rule_set
from assay.engine.policy.faults import Fault, PolicyFaults
from assay.engine.policy.inheritance import inherit
from assay.engine.policy.rule_set import Binding, PolicySource, RuleSet


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled policy; `revision` is the store's number for it, 0 where it was never stored.

    `digest` is the content address of its rule files.
    """

    source: PolicySource
    digest: str
    rule_sets: Mapping[str, CheckedRuleSet]
    routes: RouteTable
    revision: int = 0

    @property
    def bound(self) -> Mapping[str, CompiledBinding]:
        """Every binding by name, in file order."""
        return self.routes.bound

    @property
    def folds(self) -> Mapping[str, EvidenceSpec]:
        """Every way of folding evidence that a binding asks for, by its key."""
        return {bound.fold: bound.evidence for bound in self.bound.values()}

    def warm(self) -> None:
        """Fuse what most requests need, so that none waits for it: any one binding, at most one guarded order key.

        The rest is fused when it is first asked for.
        """
        for bound in self.bound.values():
            self.routes.make((bound,), bound)
            for keys in (bound.across, bound.within):
                for guarded in (None, *(k for k in keys.keys if k.when)):
                    asked = (
                        k for k in keys.keys if not k.judged and (k.when is None or k is guarded)
                    )
                    keys.values(tuple(asked), (), {})


def compile_policy(
    rule_sets: Iterable[RuleSet],
    bindings: Iterable[Binding],
    source: PolicySource,
    revision: int = 0,
    *,
    accept_former: bool = False,
) -> Policy:
    """Check and compile; raises PolicyFaults with every fault of every file.

    With `accept_former`, rule files may use former names of facts: those that earlier versions stored do.
    """
    effective, faults = inherit(rule_sets)
    checker = PolicyChecker(faults, accept_former=accept_former)
    checked = {name: check_rule_set(e, checker) for name, e in effective.items()}
    guarded = [(b, guard(b, checked, checker)) for b in bindings]
    checker.faults.extend(shadow_default(guarded, checked))
    checker.faults.extend(unlikely_changes(guarded, checked))
    if checker.faults:
        raise PolicyFaults(checker.faults)
    bound = {b.name: bind(b, checked[b.rule_set], when) for b, when in guarded}
    return Policy(source, source.digest, checked, RouteTable(bound), revision)


def guard(
    binding: Binding, checked: Mapping[str, CheckedRuleSet], checker: PolicyChecker
) -> CheckedExpression | None:
    """The typed `when` of a binding, if it has one."""
    if binding.when is None:
        return None
    params = {**checked[binding.rule_set].effective.rule_set.params, **binding.params}
    return check_guard(binding.when, checker, params)


def shadow_default(
    bindings: Iterable[tuple[Binding, CheckedExpression | None]],
    checked: Mapping[str, CheckedRuleSet],
) -> Iterable[Fault]:
    """The default binding has to decide: a shadow there would let everything in."""
    for binding, _ in bindings:
        if is_default(binding) and checked[binding.rule_set].effective.rule_set.mode == "shadow":
            yield Fault(
                binding.place,
                f"the default binding may not use the shadow rule set {binding.rule_set}",
            )


def unlikely_changes(
    bindings: Iterable[tuple[Binding, CheckedExpression | None]],
    checked: Mapping[str, CheckedRuleSet],
) -> Iterable[Fault]:
    """A change to look for is one of errors that may be, to more errors that may be."""
    for binding, _ in bindings:
        effective = checked[binding.rule_set].effective
        memory, own = effective.memory, effective.rule_set
        level = accuracy(memory, {**own.params, **binding.params})
        if level is not None and not 0 < memory.change_odds * (1 - level) < 1:
            name = memory.accuracy or ""
            place = {**own.param_places, **binding.param_places}.get(name, own.place)
            words = f"{memory.change_odds:g} × (1 − {name}) must lie between 0 and 1: the share of errors to look for"
            yield Fault(place, f"{words}, found {level:g}")
