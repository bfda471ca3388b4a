"""What rule files say of each other: rule sets that exist, no circles, parameters that are declared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from assay.engine.policy.faults import Fault
from assay.engine.policy.rule_set import Binding, Parameter, Place, RuleSet
from assay.rule_files.nodes import Table
from assay.rule_files.schemas import unknown

TYPES: Final[dict[type, str]] = {
    bool: "true or false", int: "a whole number", float: "a number with a decimal point", str: "text", tuple: "a list",
}  # fmt: skip

Declared = Mapping[str, tuple[Parameter, str]]


def check_links(
    rule_sets: Mapping[str, tuple[RuleSet, Table]],
    bindings: Iterable[tuple[Binding, Table]],
    names: Collection[str],
) -> Iterator[Fault]:
    """Every fault between files; `names` are all rule sets, those included that could not be read."""
    for rule_set, root in rule_sets.values():
        place = root.table("spec").place_of("extends")
        if rule_set.extends is not None and rule_set.extends not in names:
            yield Fault(place, unknown("rule set", rule_set.extends, sorted(names)))
    yield from _circles(rule_sets)
    for rule_set, _ in rule_sets.values():
        if rule_set.extends:
            declared = _declared(rule_set.extends, rule_sets)
            yield from _retyped(rule_set.params, rule_set.param_places, declared or {})
    for rule_set, root in rule_sets.values():
        yield from _measured(
            root.table("spec").table("memory"), _declared(rule_set.name, rule_sets)
        )
    for binding, table in bindings:
        if binding.rule_set and binding.rule_set not in names:
            yield Fault(
                table.place_of("ruleSet"), unknown("rule set", binding.rule_set, sorted(names))
            )
        yield from _overrides(binding, _declared(binding.rule_set, rule_sets))


def _chain(
    name: str, rule_sets: Mapping[str, tuple[RuleSet, Table]]
) -> tuple[Sequence[str], str | None]:
    """A rule set and those it extends, nearest first, and where the chain ends: `None`, or a missing or met name."""
    met: list[str] = []
    following: str | None = name
    while following is not None and following in rule_sets and following not in met:
        met.append(following)
        following = rule_sets[following][0].extends
    return met, following


def _circles(rule_sets: Mapping[str, tuple[RuleSet, Table]]) -> Iterator[Fault]:
    """Each circle once, at the rule set whose name comes first."""
    for name, (_, root) in rule_sets.items():
        met, end = _chain(name, rule_sets)
        if end == name and name == min(met):
            way = " → ".join([*met, name])
            yield Fault(
                root.table("spec").place_of("extends"),
                f"rule sets extend each other in a circle: {way}",
            )


def _declared(name: str, rule_sets: Mapping[str, tuple[RuleSet, Table]]) -> Declared | None:
    """Every parameter of a rule set and those it extends; `None` where one of them could not be read."""
    met, end = _chain(name, rule_sets)
    if end is not None:
        return None
    return {
        key: (value, link)
        for link in reversed(met)
        for key, value in rule_sets[link][0].params.items()
    }


def _measured(memory: Table, declared: Declared | None) -> Iterator[Fault]:
    """What a memory measures by is a declared parameter, a double."""
    named = memory.scalar("accuracy")
    if named is None or declared is None:
        return
    if named.text not in declared:
        yield Fault(named.place, unknown("parameter", named.text, declared))
    elif type(declared[named.text][0]) is not float:
        value, owner = declared[named.text]
        message = f"`{named.text}` must be {TYPES[float]}, it is {TYPES[type(value)]} in {owner}"
        yield Fault(named.place, message)


def _overrides(binding: Binding, declared: Declared | None) -> Iterator[Fault]:
    """A binding's parameters are declared by its rule set, with the same types."""
    if declared is None:
        return
    for name in binding.params:
        if name not in declared:
            message = unknown(f"parameter of rule set {binding.rule_set}", name, declared)
            yield Fault(binding.param_places[name], message)
    yield from _retyped(binding.params, binding.param_places, declared)


def _retyped(
    params: Mapping[str, Parameter], places: Mapping[str, Place], declared: Declared
) -> Iterator[Fault]:
    """Parameters whose type is not the one that was declared."""
    for name, value in params.items():
        if name not in declared or type(value) is type(declared[name][0]):
            continue
        first, owner = declared[name]
        hint = f"; write {value}.0" if (type(value), type(first)) == (int, float) else ""
        message = f"`{name}` is {TYPES[type(first)]} in {owner}, found {TYPES[type(value)]}{hint}"
        yield Fault(places[name], message)
