"""What rule files say of each other: rule sets that exist, no circles, parameters that are declared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from assay.engine.policy.faults import Fault, PolicyFaults
from assay.engine.policy.rule_set import Binding, Parameter, Place, RuleSet
from assay.rule_files.nodes import Table
from assay.rule_files.rules import expression, param_places, params, rule_set, unique
from assay.rule_files.schemas import check_form, check_kind, unknown
from assay.rule_files.source import read_source

BINDINGS: Final = "bindings.yaml"


@dataclass
class _Reading:
    """What has been read of the files so far."""

    faults: list[Fault] = field(default_factory=list)
    rule_sets: dict[str, tuple[RuleSet, Table]] = field(default_factory=dict)
    bindings: list[tuple[Binding, Table]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)


def read_policy(files: Mapping[str, str]) -> tuple[tuple[RuleSet, ...], tuple[Binding, ...]]:
    """The rule sets by file name, the bindings in their order; raises PolicyFaults with every fault of every file."""
    reading = _Reading()
    for file in sorted(files):
        _read_file(file, files[file], reading)
    if BINDINGS not in files:
        message = "there is no bindings.yaml, which says what rule set applies when"
        reading.faults.append(Fault(Place(BINDINGS, 1, 1), message))
    reading.faults.extend(check_links(reading.rule_sets, reading.bindings, reading.names))
    if reading.faults:
        raise PolicyFaults(reading.faults)
    return tuple(read for read, _ in reading.rule_sets.values()), tuple(
        read for read, _ in reading.bindings
    )


def _read_file(file: str, text: str, reading: _Reading) -> None:
    """One file into the reading; a rule set's name is known even where its file cannot be read."""
    kind = "Bindings" if file == BINDINGS else "RuleSet"
    root = read_form(file, text, kind, reading.faults)
    if kind == "Bindings":
        if root:
            reading.bindings.extend(bindings(root, reading.faults))
        return
    name = PurePosixPath(file).stem
    if name in reading.names:
        message = f"the rule set `{name}` stands in {reading.names[name]} already"
        reading.faults.append(Fault(Place(file, 1, 1), message))
        return
    reading.names[name] = file
    if root:
        reading.rule_sets[name] = (rule_set(root, file, reading.faults), root)


def read_form(file: str, text: str, kind: str, faults: list[Fault]) -> Table | None:
    """A file's nodes, checked for form; `None` where it is not even of that kind."""
    root, found = read_source(file, text)
    faults.extend(found)
    if root is None:
        return None
    wrong = check_kind(root, [kind])
    if wrong is not None:
        faults.append(_misplaced(wrong, root, file))
        return None
    faults.extend(check_form(root, kind, found))
    return root if isinstance(root, Table) else None


def _misplaced(wrong: Fault, root: object, file: str) -> Fault:
    """Bindings under another name are told where they belong."""
    if isinstance(root, Table) and root.maybe_text("kind") == "Bindings":
        return Fault(
            wrong.place, f"bindings stand in one file, {BINDINGS} at the top, not in {file}"
        )
    return wrong


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
    for own, root in rule_sets.values():
        place = root.table("spec").place_of("extends")
        if own.extends is not None and own.extends not in names:
            yield Fault(place, unknown("rule set", own.extends, sorted(names)))
    yield from _circles(rule_sets)
    for rule_set, _ in rule_sets.values():
        if rule_set.extends:
            declared = _declared(rule_set.extends, rule_sets)
            yield from _retyped(rule_set.params, rule_set.param_places, declared or {})
    for own, root in rule_sets.values():
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


SELECTORS: Final = ("variant", "sort", "when")


def bindings(root: Table, faults: list[Fault]) -> tuple[tuple[Binding, Table], ...]:
    """Every binding with its nodes; leniently read where it is faulty, so that every fault is found."""
    tables = root.tables("spec")
    unique(tables, "binding", faults)
    faults.extend(_selection(tables))
    faults.extend(_defaults(tables, root))
    faults.extend(_taken_twice(tables))
    return tuple((_binding(table, faults), table) for table in tables)


def _binding(table: Table, faults: list[Fault]) -> Binding:
    return Binding(
        name=table.text("name"),
        rule_set=table.text("ruleSet"),
        place=table.place,
        variant=table.maybe_text("variant"),
        sort=table.maybe_text("sort"),
        when=expression(table, "when", faults),
        tenants=table.texts("tenants"),
        params=params(table),
        param_places=param_places(table),
    )


def _selectors(table: Table) -> list[str]:
    return [key for key in SELECTORS if key in table.entries]


def _selection(tables: Iterable[Table]) -> Iterable[Fault]:
    """A binding is selected in one way."""
    for table in tables:
        chosen = _selectors(table)
        if len(chosen) > 1:
            message = f"a binding has one of variant, sort and when, found {' and '.join(chosen)}"
            yield Fault(table.place_of_key(chosen[1]), message)


def _defaults(tables: Iterable[Table], root: Table) -> Iterable[Fault]:
    """Exactly one binding stands for everything else, for all tenants."""
    defaults = [table for table in tables if not _selectors(table)]
    if not defaults and "spec" in root.entries:
        yield Fault(
            root.place_of("spec"),
            "no default: one binding must have neither variant, sort nor when",
        )
    for table in defaults[1:]:
        first = f"`{defaults[0].text('name')}` on line {defaults[0].place.line}"
        yield Fault(
            table.place,
            f"a second default; with neither variant, sort nor when there is {first} already",
        )
    for table in defaults:
        if "tenants" in table.entries:
            yield Fault(table.place_of_key("tenants"), "the default binding is for all tenants")


def _taken_twice(tables: Iterable[Table]) -> Iterable[Fault]:
    """Per variant or sort each tenant, and all others together, have at most one binding."""
    taken: dict[tuple[str, str, str | None], Table] = {}
    for table in tables:
        chosen = next(
            ((key, table.text(key)) for key in ("variant", "sort") if table.maybe_text(key)), None
        )
        if chosen is None:
            continue
        for tenant, place in _tenants(table):
            first = taken.setdefault((*chosen, tenant), table)
            if first is not table:
                whom = "without tenants" if tenant is None else f"for the tenant `{tenant}`"
                other = f"`{first.text('name')}` on line {first.place.line}"
                yield Fault(place, f"{chosen[0]} `{chosen[1]}` is bound {whom} by {other} already")


def _tenants(table: Table) -> Iterable[tuple[str | None, Place]]:
    if "tenants" not in table.entries:
        return [(None, next(table.place_of(key) for key in SELECTORS if key in table.entries))]
    return [(tenant.text, tenant.place) for tenant in table.scalars("tenants")]
