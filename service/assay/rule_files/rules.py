"""A rule file's nodes to a rule set, with the faults that no schema can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Final

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
from assay.rule_files.schemas import shown

DIGITS: Final = 5  # of a length of time: 99,999 days are enough
UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def rule_set(root: Table, file: str, faults: list[Fault]) -> RuleSet:
    """The rule set of a file; leniently read where it is faulty, so that every fault is found."""
    name, spec = named_as_file(root, file, faults), root.table("spec")
    pool = spec.table("pool")
    unique((*spec.tables("cohortVariables"), *spec.tables("variables")), "variable", faults)
    return RuleSet(
        name=name,
        place=root.place,
        description=root.table("metadata").text("description"),
        extends=spec.maybe_text("extends"),
        mode=spec.text("mode", "enforce"),
        evidence=evidence(spec.table("evidence"), faults) if "evidence" in spec.entries else None,
        memory=memory(spec.table("memory"), faults) if "memory" in spec.entries else None,
        params=params(spec),
        param_places=param_places(spec),
        cohort_variables=tuple(variable(t, faults) for t in spec.tables("cohortVariables")),
        variables=tuple(variable(t, faults) for t in spec.tables("variables")),
        enter=rules(pool, "enter", faults) if "enter" in pool.entries else None,
        stay=rules(pool, "stay", faults) if "stay" in pool.entries else None,
        on_empty=pool.text("onEmpty", "fail"),
        minimum=pool.whole("minimum"),
        request=rules(spec, "request", faults),
        order=order(spec, faults) if "order" in spec.entries else None,
    )


def named_as_file(root: Table, file: str, faults: list[Fault]) -> str:
    """The file's stem, which `metadata.name` must repeat."""
    metadata, stem = root.table("metadata"), PurePosixPath(file).stem
    name = metadata.scalar("name")
    if name and isinstance(name.value, str) and name.value != stem:
        faults.append(
            Fault(
                name.place, f"the file {file} must hold the rule set `{stem}`, found {shown(name)}"
            )
        )
    return stem


def evidence(block: Table, faults: list[Fault]) -> EvidenceSpec:
    """The evidence block; what it leaves out keeps its default."""
    default = EvidenceSpec()
    spec = EvidenceSpec(
        max_age=duration(block, "maxAge", default.max_age),
        half_life_target=float(block.number("halfLifeTarget") or default.half_life_target),
        half_life_min=duration(block, "halfLifeMin", default.half_life_min),
        half_life_max=duration(block, "halfLifeMax", default.half_life_max),
        design_effect=float(block.number("designEffect") or default.design_effect),
    )
    if spec.half_life_min > spec.half_life_max:
        name = "halfLifeMin" if "halfLifeMin" in block.entries else "halfLifeMax"
        message = (
            f"halfLifeMin ({spec.half_life_min}) is longer than halfLifeMax ({spec.half_life_max})"
        )
        faults.append(Fault(block.place_of(name), message))
    return spec


def memory(block: Table, faults: list[Fault]) -> MemorySpec:
    """The memory block; what it leaves out keeps its default."""
    default = MemorySpec()
    spec = MemorySpec(
        hold=duration(block, "hold", default.hold),
        hold_max=duration(block, "holdMax", default.hold_max),
        backoff=amount(block, "backoff", default.backoff),
        slow_failures=block.whole("slowFailures") or default.slow_failures,
        slow_evictions=block.whole("slowEvictions") or default.slow_evictions,
        accuracy=block.maybe_text("accuracy"),
        change_odds=amount(block, "changeOdds", default.change_odds),
        cusum_limit=amount(block, "cusumLimit", default.cusum_limit),
        cusum_cap=amount(block, "cusumCap", default.cusum_cap),
        keep_after_eviction=amount(block, "keepAfterEviction", default.keep_after_eviction),
    )
    if spec.hold > spec.hold_max:
        name = "hold" if "hold" in block.entries else "holdMax"
        faults.append(
            Fault(
                block.place_of(name), f"hold ({spec.hold}) is longer than holdMax ({spec.hold_max})"
            )
        )
    return spec


def amount(block: Table, key: str, default: float) -> float:
    """A number, whole or not, as a double."""
    found = block.number(key)
    return default if found is None else float(found)


def duration(block: Table, key: str, default: timedelta) -> timedelta:
    """A length of time such as `90d`."""
    text = block.text(key)
    amount, unit = text[:-1], UNITS.get(text[-1:])
    known = unit and amount.isdecimal() and len(amount) <= DIGITS
    return timedelta(**{unit: int(amount)}) if unit and known else default


def params(block: Table) -> Mapping[str, Parameter]:
    """The `params` of a rule set or binding."""
    values = {name: parameter(entry.value) for name, entry in block.table("params").entries.items()}
    return {name: value for name, value in values.items() if value is not None}


def param_places(block: Table) -> Mapping[str, Place]:
    """Where each parameter's value stands."""
    return {name: entry.value.place for name, entry in block.table("params").entries.items()}


def variable(table: Table, faults: list[Fault]) -> Variable:
    """A named expression."""
    return Variable(table.text("name"), needed(table, "expression", faults))


def rules(block: Table, key: str, faults: list[Fault]) -> tuple[Rule, ...]:
    """A list of rules."""
    tables = block.tables(key)
    unique(tables, "rule", faults)
    return tuple(rule(table, faults) for table in tables)


def rule(table: Table, faults: list[Fault]) -> Rule:
    """One rule."""
    return Rule(
        name=table.text("name"),
        expression=needed(table, "expression", faults),
        reason=table.text("reason"),
        place=table.place,
        when=expression(table, "when", faults),
        message=table.text("message").rstrip(),
        message_expression=expression(table, "messageExpression", faults),
        on_missing=table.text("onMissing", "exclude"),
        action=table.text("action", "exclude"),
    )


def order(block: Table, faults: list[Fault]) -> tuple[OrderKey, ...]:
    """The keys of an order."""
    tables = block.tables("order")
    unique(tables, "order key", faults)
    return tuple(order_key(table, faults) for table in tables)


def order_key(table: Table, faults: list[Fault]) -> OrderKey:
    """One key; what would silently do nothing is a fault."""
    if "expression" in table.entries and "weight" in table.entries:
        message = "an order key has an expression to sort by or a weight to draw by, not both"
        faults.append(Fault(table.place_of_key("weight"), message))
    elif "weight" in table.entries and "direction" in table.entries:
        faults.append(
            Fault(table.place_of_key("direction"), "a key that draws by weight has no direction")
        )
    elif "expression" not in table.entries and "weight" not in table.entries:
        for key in ("when", "direction", "acrossModels"):
            if key in table.entries:
                message = f"`{key}` needs an expression beside it: a key that is only named is inherited as it is"
                faults.append(Fault(table.place_of_key(key), message))
    return OrderKey(
        name=table.text("name"),
        place=table.place,
        when=expression(table, "when", faults),
        expression=expression(table, "expression", faults),
        weight=expression(table, "weight", faults),
        direction=table.text("direction", "ascending"),
        across_models=table.flag("acrossModels"),
    )


def expression(table: Table, key: str, faults: list[Fault]) -> Expression | None:
    """CEL text with its place; folded text is refused, because places in it would lie."""
    found = table.scalar(key)
    if found and found.written is None:
        message = "an expression stands on one line or in a `|` block; in folded text no place could be told"
        faults.append(Fault(found.place, message))
    return found.written if found else None


def needed(table: Table, key: str, faults: list[Fault]) -> Expression:
    """As `expression`; the empty one stands in where a fault has been reported."""
    return expression(table, key, faults) or Expression("", table.place)


def unique(tables: Iterable[Table], what: str, faults: list[Fault]) -> None:
    """Report every name that was taken before."""
    seen: dict[str, Scalar] = {}
    for table in tables:
        name = table.scalar("name")
        if name is None:
            continue
        first = seen.setdefault(name.text, name)
        if first is not name:
            message = (
                f"duplicate {what} `{name.text[:60]}`, first defined on line {first.place.line}"
            )
            faults.append(Fault(name.place, message))
