"""Inheritance between rule sets: params, variables, rules and order keys by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.policy.faults import Fault
from assay.engine.policy.rule_set import MemorySpec, OrderKey, Rule, RuleSet, Variable

Named = TypeVar("Named", Rule, Variable, OrderKey)


@dataclass(frozen=True, slots=True)
class EffectiveRuleSet:
    """A rule set with all that it inherits; `overridden` names the request rules it replaces."""

    rule_set: RuleSet
    evidence: EvidenceSpec
    memory: MemorySpec
    owns_order: bool
    overridden: frozenset[str]


def inherit_rule_sets(
    rule_sets: Iterable[RuleSet],
) -> tuple[Mapping[str, EffectiveRuleSet], list[Fault]]:
    """Merge every rule set with the one it extends; return them by name, and the faults.

    The caller has checked that `extends` names existing rule sets, without cycles.
    """
    by_name = {r.name: r for r in rule_sets}
    done: dict[str, EffectiveRuleSet] = {}
    faults: list[Fault] = []

    def merge(name: str) -> EffectiveRuleSet:
        if name not in done:
            own = by_name[name]
            done[name] = _merge(own, merge(own.extends) if own.extends else None, faults)
        return done[name]

    for name in by_name:
        merge(name)
    return done, faults


def _merge(own: RuleSet, base: EffectiveRuleSet | None, faults: list[Fault]) -> EffectiveRuleSet:
    """Return `own` merged with its base; a shadow rule set decides as its base does."""
    parent = base.rule_set if base else RuleSet(name="", place=own.place, order=())
    shadow = own.mode == "shadow"
    if shadow:
        faults.extend(_check_shadow(own, parent))
    own_rules = _with_origin(own.request, own, shadow=shadow)
    rewritten = frozenset(r.name for r in own_rules) & frozenset(r.name for r in parent.request)
    request, order = parent.request + own_rules, parent.order
    if not shadow:
        request = _replace_by_name(parent.request, own_rules)
    if own.order is not None and not shadow:
        order = tuple(_order_keys(own, parent, faults))
    merged = replace(
        own,
        params={**parent.params, **own.params},
        param_places={**parent.param_places, **own.param_places},
        cohort_variables=_replace_by_name(parent.cohort_variables, own.cohort_variables),
        variables=_replace_by_name(parent.variables, own.variables),
        enter=_merge_block(parent.enter, own.enter, own),
        stay=_merge_block(parent.stay or (parent.enter if shadow else None), own.stay, own),
        minimum=parent.minimum if own.minimum is None else own.minimum,
        request=request,
        order=order,
    )
    return EffectiveRuleSet(
        merged,
        evidence=own.evidence or (base.evidence if base else EvidenceSpec()),
        memory=own.memory or (base.memory if base else MemorySpec()),
        owns_order=own.order is not None and not shadow,
        overridden=frozenset() if shadow else rewritten,
    )


def _check_shadow(own: RuleSet, parent: RuleSet) -> Iterable[Fault]:
    """Yield a fault for each part that a shadow rule set may not change."""
    words = f"a shadow rule set may not change what it inherits from {parent.name}"
    for name in own.params.keys() & parent.params.keys():
        yield Fault(own.param_places.get(name, own.place), f"{words}: params.{name}")
    inherited = {v.name for v in (*parent.cohort_variables, *parent.variables)}
    for variable in (*own.cohort_variables, *own.variables):
        if variable.name in inherited:
            yield Fault(variable.expression.place, f"{words}: variables.{variable.name}")
    blocks = {"evidence": own.evidence, "memory": own.memory, "pool.minimum": own.minimum}
    for name, written in blocks.items():
        if written is not None and parent.name:
            yield Fault(own.place, f"{words}: {name}")


def _merge_block(
    inherited: tuple[Rule, ...] | None, written: tuple[Rule, ...] | None, own: RuleSet
) -> tuple[Rule, ...] | None:
    """Return a block of pool rules; a shadow rule set adds to the inherited block."""
    if written is None:
        return inherited
    shadow = own.mode == "shadow"
    return (inherited or () if shadow else ()) + _with_origin(written, own, shadow=shadow)


def _with_origin(rules: tuple[Rule, ...], own: RuleSet, *, shadow: bool) -> tuple[Rule, ...]:
    """Return the rules with their origin, as shadow rules if the rule set is a shadow."""
    return tuple(
        replace(r, origin=own.name, action="shadow" if shadow else r.action) for r in rules
    )


def _replace_by_name(inherited: tuple[Named, ...], own: tuple[Named, ...]) -> tuple[Named, ...]:
    """Replace inherited items by own ones of the same name, and append the other own ones."""
    own_by_name = {item.name: item for item in own}
    merged = tuple(own_by_name.pop(item.name, item) for item in inherited)
    return merged + tuple(item for item in own if item.name in own_by_name)


def _order_keys(own: RuleSet, parent: RuleSet, faults: list[Fault]) -> Iterable[OrderKey]:
    """Yield the order's keys; a key with only a name is the inherited one."""
    known = {key.name: key for key in parent.order or ()}
    for key in own.order or ():
        if key.expression is not None or key.weight is not None:
            yield key
        elif key.name in known:
            yield known[key.name]
        else:
            why = "has no expression, and no inherited key has its name"
            faults.append(Fault(key.place, f"order key {key.name} {why}"))
