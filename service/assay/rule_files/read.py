"""A policy's files read into rule sets and bindings, with every fault in them and between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from assay.engine.policy.faults import Fault, PolicyFaults
from assay.engine.policy.rule_set import Binding, Parameter, Place, RuleSet
from assay.rule_files.nodes import Scalar, Table
from assay.rule_files.rules import (
    check_unique_names,
    read_expression,
    read_param_places,
    read_params,
    read_rule_set,
)
from assay.rule_files.schemas import check_form, check_kind, unknown_word_message
from assay.rule_files.source import read_source

BINDINGS: Final = "bindings.yaml"
_SELECTORS: Final = ("variant", "sort", "when")
_TYPES: Final[dict[type, str]] = {
    bool: "true or false", int: "a whole number", float: "a number with a decimal point",
    str: "text", tuple: "a list",
}  # fmt: skip

_DeclaredParams = Mapping[str, tuple[Parameter, str]]
"""Parameters by name, each with the rule set that declares it."""


@dataclass
class _Reading:
    """What has been read so far; `names` maps each rule set to its file, readable or not."""

    faults: list[Fault] = field(default_factory=list)
    rule_sets: dict[str, tuple[RuleSet, Table]] = field(default_factory=dict)
    bindings: list[tuple[Binding, Table]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)


def read_policy(files: Mapping[str, str]) -> tuple[tuple[RuleSet, ...], tuple[Binding, ...]]:
    """Return the rule sets by file name, and the bindings in their order.

    Raises PolicyFaults with every fault of every file.
    """
    reading = _Reading()
    for file in sorted(files):
        _read_file(file, files[file], reading)
    if BINDINGS not in files:
        message = "bindings.yaml is missing: it says which rule set applies when"
        reading.faults.append(Fault(Place(BINDINGS, 1, 1), message))
    reading.faults.extend(_check_rule_sets(reading))
    reading.faults.extend(_check_bindings(reading))
    if reading.faults:
        raise PolicyFaults(reading.faults)
    rule_sets = tuple(rule_set for rule_set, _ in reading.rule_sets.values())
    return rule_sets, tuple(binding for binding, _ in reading.bindings)


def read_form(file: str, text: str, kind: str, faults: list[Fault]) -> Table | None:
    """Return a file's nodes, checked for form; `None` if it is not of that kind at all."""
    root, found = read_source(file, text)
    faults.extend(found)
    if root is None:
        return None
    wrong = check_kind(root, [kind])
    if wrong is not None:
        if isinstance(root, Table) and root.maybe_text("kind") == "Bindings":
            message = f"bindings belong in {BINDINGS} at the top of the directory, not in {file}"
            wrong = Fault(wrong.place, message)
        faults.append(wrong)
        return None
    faults.extend(check_form(root, kind, found))
    return root if isinstance(root, Table) else None


def _read_file(file: str, text: str, reading: _Reading) -> None:
    kind = "Bindings" if file == BINDINGS else "RuleSet"
    root = read_form(file, text, kind, reading.faults)
    if kind == "Bindings":
        if root:
            reading.bindings.extend(_read_bindings(root, reading.faults))
        return
    name = PurePosixPath(file).stem
    if name in reading.names:
        message = f"the rule set `{name}` is already defined in {reading.names[name]}"
        reading.faults.append(Fault(Place(file, 1, 1), message))
        return
    reading.names[name] = file
    if root:
        reading.rule_sets[name] = (read_rule_set(root, file, reading.faults), root)


# --- between files


def _check_rule_sets(reading: _Reading) -> Iterator[Fault]:
    """Check what rule sets say of each other."""
    for own, root in reading.rule_sets.values():
        place = root.table("spec").place_of("extends")
        if own.extends is not None and own.extends not in reading.names:
            message = unknown_word_message("rule set", own.extends, sorted(reading.names))
            yield Fault(place, message)
        met, end = _find_chain(own.name, reading)
        if end == own.name and own.name == min(met):
            way = " → ".join([*met, own.name])
            yield Fault(place, f"rule sets extend each other in a circle: {way}")
        if own.extends:
            declared = _find_declared(own.extends, reading)
            yield from _check_types(own.params, own.param_places, declared or {})
        yield from _check_accuracy(
            root.table("spec").table("memory").scalar("accuracy"), _find_declared(own.name, reading)
        )


def _check_bindings(reading: _Reading) -> Iterator[Fault]:
    """Check that each binding's rule set exists and declares the parameters it overrides."""
    for binding, table in reading.bindings:
        owner = binding.rule_set
        if owner and owner not in reading.names:
            message = unknown_word_message("rule set", owner, sorted(reading.names))
            yield Fault(table.place_of("ruleSet"), message)
        declared = _find_declared(owner, reading)
        if declared is None:
            continue
        for name in binding.params.keys() - declared.keys():
            message = unknown_word_message(f"parameter of rule set {owner}", name, declared)
            yield Fault(binding.param_places[name], message)
        yield from _check_types(binding.params, binding.param_places, declared)


def _find_chain(name: str, reading: _Reading) -> tuple[list[str], str | None]:
    """Return a rule set and those it extends, nearest first, and the name that ends the chain.

    That name is `None` after a rule set that extends nothing; otherwise it is not readable, or it
    is already in the chain.
    """
    met: list[str] = []
    following: str | None = name
    while following is not None and following in reading.rule_sets and following not in met:
        met.append(following)
        following = reading.rule_sets[following][0].extends
    return met, following


def _find_declared(name: str, reading: _Reading) -> _DeclaredParams | None:
    """Return all parameters of a rule set; `None` if one that it extends could not be read."""
    met, end = _find_chain(name, reading)
    if end is not None:
        return None
    owners = ((link, reading.rule_sets[link][0].params) for link in reversed(met))
    return {key: (value, link) for link, params in owners for key, value in params.items()}


def _check_accuracy(named: Scalar | None, declared: _DeclaredParams | None) -> Iterator[Fault]:
    """Check that `memory.accuracy` names a declared double."""
    if named is None or declared is None:
        return
    if named.text not in declared:
        yield Fault(named.place, unknown_word_message("parameter", named.text, declared))
    elif type(declared[named.text][0]) is not float:
        value, owner = declared[named.text]
        message = f"`{named.text}` must be {_TYPES[float]}, it is {_TYPES[type(value)]} in {owner}"
        yield Fault(named.place, message)


def _check_types(
    params: Mapping[str, Parameter], places: Mapping[str, Place], declared: _DeclaredParams
) -> Iterator[Fault]:
    """Check that parameters have the types with which they were declared."""
    for name, value in params.items():
        if name not in declared or type(value) is type(declared[name][0]):
            continue
        first, owner = declared[name]
        hint = f"; write {value}.0" if (type(value), type(first)) == (int, float) else ""
        message = f"`{name}` is {_TYPES[type(first)]} in {owner}, found {_TYPES[type(value)]}{hint}"
        yield Fault(places[name], message)


# --- bindings


def _read_bindings(root: Table, faults: list[Fault]) -> Iterator[tuple[Binding, Table]]:
    """Yield every binding with its nodes; a faulty one is read leniently, to find all faults."""
    tables = root.tables("spec")
    check_unique_names(tables, "binding", faults)
    faults.extend(_check_selectors(tables, root))
    faults.extend(_check_overlaps(tables))
    for table in tables:
        binding = Binding(
            name=table.text("name"),
            rule_set=table.text("ruleSet"),
            place=table.place,
            variant=table.maybe_text("variant"),
            sort=table.maybe_text("sort"),
            when=read_expression(table, "when", faults),
            tenants=table.texts("tenants"),
            params=read_params(table),
            param_places=read_param_places(table),
        )
        yield binding, table


def _selectors(table: Table) -> list[str]:
    return [key for key in _SELECTORS if table.has(key)]


def _check_selectors(tables: Iterable[Table], root: Table) -> Iterator[Fault]:
    """Check that each binding has one selector, except one default, which is for all tenants."""
    for table in tables:
        chosen = _selectors(table)
        if len(chosen) > 1:
            message = f"a binding has one of variant, sort and when, found {' and '.join(chosen)}"
            yield Fault(table.place_of_key(chosen[1]), message)
    defaults = [table for table in tables if not _selectors(table)]
    if not defaults and root.has("spec"):
        message = "no default: one binding must have neither variant, sort nor when"
        yield Fault(root.place_of("spec"), message)
    for table in defaults[1:]:
        first = f"`{defaults[0].text('name')}` on line {defaults[0].place.line}"
        message = f"a second default: {first} has neither variant, sort nor when already"
        yield Fault(table.place, message)
    for table in defaults:
        if table.has("tenants"):
            yield Fault(table.place_of_key("tenants"), "the default binding is for all tenants")


def _check_overlaps(tables: Iterable[Table]) -> Iterator[Fault]:
    """Check that a variant or sort has at most one binding per tenant, and one for all others."""
    taken: dict[tuple[str, str, str | None], Table] = {}
    for table in tables:
        key = next((key for key in ("variant", "sort") if table.maybe_text(key)), None)
        if key is None:
            continue
        tenants: list[tuple[str | None, Place]] = [(None, table.place_of(_selectors(table)[0]))]
        if table.has("tenants"):
            tenants = [(tenant.text, tenant.place) for tenant in table.scalars("tenants")]
        for tenant, place in tenants:
            first = taken.setdefault((key, table.text(key), tenant), table)
            if first is not table:
                scope = "without tenants" if tenant is None else f"for the tenant `{tenant}`"
                other = f"`{first.text('name')}` on line {first.place.line}"
                message = f"{key} `{table.text(key)}` is already bound {scope} by {other}"
                yield Fault(place, message)
