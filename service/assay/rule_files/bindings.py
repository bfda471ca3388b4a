"""The bindings file's nodes to bindings, and the faults among them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from assay.engine.policy.faults import Fault
from assay.engine.policy.rule_set import Binding, Place
from assay.rule_files.nodes import Table
from assay.rule_files.rules import expression, param_places, params, unique

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
