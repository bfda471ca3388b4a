"""Rule sets with what they extend folded in: params, variables, rules and order by name."""

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
    """A rule set as it applies: everything inherited is in `rule_set`; `overridden` are rules it wrote anew."""

    rule_set: RuleSet
    evidence: EvidenceSpec
    memory: MemorySpec
    owns_order: bool
    overridden: frozenset[str]


def inherit(rule_sets: Iterable[RuleSet]) -> tuple[Mapping[str, EffectiveRuleSet], list[Fault]]:
    """Fold every rule set over the one it extends; order keys that name nothing inherited are faults.

    `extends` is known to name existing rule sets without cycles.
    """
    by_name = {r.name: r for r in rule_sets}
    done: dict[str, EffectiveRuleSet] = {}
    faults: list[Fault] = []
    for name in by_name:
        fold_in(name, by_name, done, faults)
    return done, faults


def fold_in(
    name: str,
    by_name: Mapping[str, RuleSet],
    done: dict[str, EffectiveRuleSet],
    faults: list[Fault],
) -> EffectiveRuleSet:
    """The effective form of one rule set, parents first."""
    if name in done:
        return done[name]
    own = by_name[name]
    base = fold_in(own.extends, by_name, done, faults) if own.extends else None
    done[name] = over(own, base, faults)
    return done[name]


def over(own: RuleSet, base: EffectiveRuleSet | None, faults: list[Fault]) -> EffectiveRuleSet:
    """What `own` comes to over its base; a shadow rule set decides as its base does, its own rules only watch."""
    parent = base.rule_set if base else RuleSet(name="", place=own.place, order=())
    shadow = own.mode == "shadow"
    if shadow:
        faults.extend(decisive(own, parent))
    mine = stamped(own.request, own, shadow=shadow)
    rewritten = frozenset(r.name for r in mine) & frozenset(r.name for r in parent.request)
    merged = replace(
        own,
        params={**parent.params, **own.params},
        param_places={**parent.param_places, **own.param_places},
        cohort_variables=by_names(parent.cohort_variables, own.cohort_variables),
        variables=by_names(parent.variables, own.variables),
        enter=block(parent.enter, own.enter, own),
        stay=block(parent.stay or (parent.enter if shadow else None), own.stay, own),
        minimum=parent.minimum if own.minimum is None else own.minimum,
        request=parent.request + mine if shadow else by_names(parent.request, mine),
        order=parent.order
        if own.order is None or shadow
        else tuple(inherited_keys(own, parent, faults)),
    )
    return EffectiveRuleSet(
        merged,
        evidence=own.evidence or (base.evidence if base else EvidenceSpec()),
        memory=own.memory or (base.memory if base else MemorySpec()),
        owns_order=own.order is not None and not shadow,
        overridden=frozenset() if shadow else rewritten,
    )


def decisive(own: RuleSet, parent: RuleSet) -> Iterable[Fault]:
    """What a shadow rule set may not rewrite, since the rules it inherits would decide by it."""
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


def block(
    inherited: tuple[Rule, ...] | None, written: tuple[Rule, ...] | None, own: RuleSet
) -> tuple[Rule, ...] | None:
    """A block of pool rules: as written, else as inherited; a shadow rule set's stand beside the inherited ones."""
    if written is None:
        return inherited
    shadow = own.mode == "shadow"
    return (inherited or () if shadow else ()) + stamped(written, own, shadow=shadow)


def stamped(rules: tuple[Rule, ...], own: RuleSet, *, shadow: bool) -> tuple[Rule, ...]:
    """Rules that know the rule set they were written in, and that they only watch where it does."""
    return tuple(
        replace(r, origin=own.name, action="shadow" if shadow else r.action) for r in rules
    )


def by_names(inherited: tuple[Named, ...], own: tuple[Named, ...]) -> tuple[Named, ...]:
    """Own things replace inherited ones of their name in place; the rest follows in its order."""
    mine = {thing.name: thing for thing in own}
    kept = tuple(mine.pop(thing.name, thing) for thing in inherited)
    return kept + tuple(thing for thing in own if thing.name in mine)


def inherited_keys(own: RuleSet, parent: RuleSet, faults: list[Fault]) -> Iterable[OrderKey]:
    """The order as written, with the inherited key wherever only a name stands."""
    known = {key.name: key for key in parent.order or ()}
    for key in own.order or ():
        if key.expression is not None or key.weight is not None:
            yield key
        elif key.name in known:
            yield known[key.name]
        else:
            faults.append(
                Fault(
                    key.place,
                    f"order key {key.name} has no expression and none of that name is inherited",
                )
            )
