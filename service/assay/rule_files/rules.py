"""A rule file's nodes read into a rule set, with the faults that no JSON schema can find."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, Final, TypeVar

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.policy.faults import Fault
from assay.engine.policy.rule_set import (
    Expression,
    MemorySpec,
    OrderKey,
    Parameter,
    Place,
    Rule,
    RuleSet,
    Variable,
)
from assay.rule_files.nodes import Scalar, Table, parameter
from assay.rule_files.schemas import describe_node

_Spec = TypeVar("_Spec", EvidenceSpec, MemorySpec)
_DURATION_DIGITS: Final = 5
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def read_rule_set(root: Table, file: str, faults: list[Fault]) -> RuleSet:
    """Return the rule set of a file; a faulty one is read leniently, to find all faults."""
    spec = root.table("spec")
    pool = spec.table("pool")
    cohort_variables, variables = spec.tables("cohortVariables"), spec.tables("variables")
    check_unique_names((*cohort_variables, *variables), "variable", faults)
    check_unique_names(spec.tables("order"), "order key", faults)

    def read_variable(table: Table) -> Variable:
        return Variable(table.text("name"), _read_needed(table, "expression", faults))

    return RuleSet(
        name=_read_name(root, file, faults),
        place=root.place,
        description=root.table("metadata").text("description"),
        extends=spec.maybe_text("extends"),
        mode=spec.text("mode", "enforce"),
        evidence=_read_evidence(spec.table("evidence"), faults) if spec.has("evidence") else None,
        memory=_read_memory(spec.table("memory"), faults) if spec.has("memory") else None,
        params=read_params(spec),
        param_places=read_param_places(spec),
        cohort_variables=tuple(map(read_variable, cohort_variables)),
        variables=tuple(map(read_variable, variables)),
        enter=_read_rules(pool, "enter", faults) if pool.has("enter") else None,
        stay=_read_rules(pool, "stay", faults) if pool.has("stay") else None,
        on_empty=pool.text("onEmpty", "fail"),
        minimum=pool.whole("minimum"),
        request=_read_rules(spec, "request", faults),
        order=tuple(_read_order_key(table, faults) for table in spec.tables("order"))
        if spec.has("order")
        else None,
    )


def read_params(block: Table) -> Mapping[str, Parameter]:
    """Return the `params` of a rule set or binding."""
    values = {name: parameter(entry.value) for name, entry in block.table("params").entries.items()}
    return {name: value for name, value in values.items() if value is not None}


def read_param_places(block: Table) -> Mapping[str, Place]:
    """Return the place of each parameter's value."""
    return {name: entry.value.place for name, entry in block.table("params").entries.items()}


def read_expression(table: Table, key: str, faults: list[Fault]) -> Expression | None:
    """Return CEL text with its place; folded text is rejected, since it has no exact places."""
    found = table.scalar(key)
    if found and found.written is None:
        message = "write an expression on one line or in a `|` block: folded text has no places"
        faults.append(Fault(found.place, message))
    return found.written if found else None


def check_unique_names(tables: Iterable[Table], what: str, faults: list[Fault]) -> None:
    """Report every name that occurred before."""
    seen: dict[str, Scalar] = {}
    for table in tables:
        name = table.scalar("name")
        if name is None:
            continue
        first = seen.setdefault(name.text, name)
        if first is not name:
            before = f"first defined on line {first.place.line}"
            faults.append(Fault(name.place, f"duplicate {what} `{name.text[:60]}`, {before}"))


def _read_name(root: Table, file: str, faults: list[Fault]) -> str:
    """Return the file's stem, which `metadata.name` must repeat."""
    stem, name = PurePosixPath(file).stem, root.table("metadata").scalar("name")
    if name and isinstance(name.value, str) and name.value != stem:
        found = describe_node(name)
        message = f"the file {file} must hold the rule set `{stem}`, found {found}"
        faults.append(Fault(name.place, message))
    return stem


def _read_evidence(block: Table, faults: list[Fault]) -> EvidenceSpec:
    spec = _read_spec(block, EvidenceSpec())
    if spec.half_life_min > spec.half_life_max:
        names = ("halfLifeMin", "halfLifeMax")
        faults.append(_swapped(block, names, spec.half_life_min, spec.half_life_max))
    return spec


def _read_memory(block: Table, faults: list[Fault]) -> MemorySpec:
    spec = _read_spec(block, MemorySpec())
    if spec.hold > spec.hold_max:
        faults.append(_swapped(block, ("hold", "holdMax"), spec.hold, spec.hold_max))
    return spec


def _read_spec(block: Table, default: _Spec) -> _Spec:
    """Return the default with what a block states; the keys are the fields' names in camelCase."""
    stated: dict[str, Any] = {}
    for each in fields(default):
        first, *rest = each.name.split("_")
        key = first + "".join(map(str.capitalize, rest))
        match getattr(default, each.name):
            case timedelta():
                stated[each.name] = _read_duration(block, key)
            case float():
                stated[each.name] = block.double(key)
            case int():
                stated[each.name] = block.whole(key) or None
            case _:
                stated[each.name] = block.maybe_text(key)
    return replace(default, **{name: v for name, v in stated.items() if v is not None})


def _swapped(block: Table, names: tuple[str, str], low: timedelta, high: timedelta) -> Fault:
    """Return the fault of a lower bound above the upper one, at the bound that is written."""
    place = block.place_of(names[0] if block.has(names[0]) else names[1])
    return Fault(place, f"{names[0]} ({low}) is longer than {names[1]} ({high})")


def _read_duration(block: Table, key: str) -> timedelta | None:
    """Return a duration such as `90d`; a malformed one has been reported by the schema."""
    text = block.text(key)
    amount, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not amount.isdecimal() or len(amount) > _DURATION_DIGITS:
        return None
    return timedelta(**{unit: int(amount)})


def _read_rules(block: Table, key: str, faults: list[Fault]) -> tuple[Rule, ...]:
    tables = block.tables(key)
    check_unique_names(tables, "rule", faults)
    return tuple(
        Rule(
            name=table.text("name"),
            expression=_read_needed(table, "expression", faults),
            reason=table.text("reason"),
            place=table.place,
            when=read_expression(table, "when", faults),
            message=table.text("message").rstrip(),
            message_expression=read_expression(table, "messageExpression", faults),
            on_missing=table.text("onMissing", "exclude"),
            action=table.text("action", "exclude"),
        )
        for table in tables
    )


def _read_order_key(table: Table, faults: list[Fault]) -> OrderKey:
    """Return one key; a part of it that would have no effect is a fault."""
    if table.has("expression") and table.has("weight"):
        message = "an order key has an expression to sort by or a weight to draw by, not both"
        faults.append(Fault(table.place_of_key("weight"), message))
    elif table.has("weight") and table.has("direction"):
        message = "a key that draws by weight has no direction"
        faults.append(Fault(table.place_of_key("direction"), message))
    elif not table.has("expression") and not table.has("weight"):
        for key in ("when", "direction", "acrossModels"):
            if table.has(key):
                why = "a key with only a name is inherited as it is"
                message = f"`{key}` needs an expression as well: {why}"
                faults.append(Fault(table.place_of_key(key), message))
    return OrderKey(
        name=table.text("name"),
        place=table.place,
        when=read_expression(table, "when", faults),
        expression=read_expression(table, "expression", faults),
        weight=read_expression(table, "weight", faults),
        direction=table.text("direction", "ascending"),
        across_models=table.flag("acrossModels"),
    )


def _read_needed(table: Table, key: str, faults: list[Fault]) -> Expression:
    """Return an expression; an empty one if it is missing, which the schema has reported."""
    return read_expression(table, key, faults) or Expression("", table.place)
