"""Test files (`kind: RuleSetTest`) to cases: a world, a request, and what the plan must be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from assay.engine.decide.plan import Plan
from assay.engine.policy.faults import Fault, PolicyFaults
from assay.engine.policy.rule_set import Place
from assay.engine.world.clock import EPOCH
from assay.engine.world.request import Request
from assay.engine.world.world import World
from assay.rule_files.expectation import Expectation, differences, expectation
from assay.rule_files.fixtures import Fixtures, fixtures, moment
from assay.rule_files.nodes import MappingEntry, Table
from assay.rule_files.read import read_form
from assay.rule_files.requests import read_request
from assay.rule_files.rules import unique
from assay.rule_files.schemas import unknown

MERGED: Final = frozenset({"request", "options"})


@dataclass(frozen=True, slots=True)
class Case:
    """One request in one world at one time, and what is expected of its plan.

    `keys` names the endpoints by their ids; `skipped` says why the case is not to be run, else it is `None`.
    """

    name: str
    file: str
    place: Place
    now: datetime
    world: World
    request: Request
    expected: Expectation
    health: Mapping[str, str] = field(default_factory=dict)
    members: frozenset[str] = frozenset()
    keys: Mapping[str, str] = field(default_factory=dict)
    draws: int = 1
    skipped: str | None = None

    def seeds(self) -> tuple[bytes, ...]:
        """The seeds under each of which the case must hold: the request's own, else `draws` fixed ones."""
        if self.request.seed:
            return (self.request.seed,)
        return tuple(
            hashlib.sha256(f"{self.name}\n{n}".encode()).digest()[:16] for n in range(self.draws)
        )


def read_cases(files: Mapping[str, str]) -> tuple[Case, ...]:
    """Every case of every test file, in order; raises PolicyFaults with every fault of every file."""
    faults: list[Fault] = []
    cases: list[Case] = []
    for file in sorted(files):
        root = read_form(file, files[file], "RuleSetTest", faults)
        if root:
            cases.extend(_suite(root.table("spec"), file, faults))
    if faults:
        raise PolicyFaults(faults)
    return tuple(cases)


def check_case(case: Case, plan: Plan) -> tuple[str, ...]:
    """Every way in which a plan is not what the case expects, one line each."""
    return tuple(differences(case.expected, plan, case.keys))


def _suite(spec: Table, file: str, faults: list[Fault]) -> Iterator[Case]:
    """The cases of one file."""
    now = moment(spec.table("options"), "now", EPOCH, faults)
    shared = fixtures(spec.table("fixtures"), now, faults)
    tests = spec.tables("tests")
    unique(tests, "test", faults)
    for test in tests:
        base = merged(Table(test.place, _only_options(spec)), test)
        if "cases" not in test.entries:
            yield from _case(base, test.text("name"), file, shared, faults)
            continue
        rows = test.tables("cases")
        unique(rows, "case", faults)
        for row in rows:
            name = f"{test.text('name')}: {row.text('name')}"
            yield from _case(merged(base, row), name, file, shared, faults)


def _only_options(spec: Table) -> dict[str, MappingEntry]:
    return {"options": spec.entries["options"]} if "options" in spec.entries else {}


def merged(base: Table, over: Table) -> Table:
    """A test with a row of its table over it: `request` and `options` are merged, all else is replaced."""
    entries = {**base.entries, **over.entries}
    for name in MERGED & base.entries.keys() & over.entries.keys():
        entries[name] = MappingEntry(
            over.entries[name].key, _deep(base.table(name), over.table(name))
        )
    return Table(over.place, entries)


def _deep(base: Table, over: Table) -> Table:
    """One mapping over another, mappings within them likewise."""
    entries = {**base.entries, **over.entries}
    for name in base.sub_tables().keys() & over.sub_tables().keys():
        entries[name] = MappingEntry(
            over.entries[name].key, _deep(base.table(name), over.table(name))
        )
    return Table(over.place, entries)


def _case(
    table: Table, name: str, file: str, shared: Fixtures, faults: list[Fault]
) -> Iterator[Case]:
    """The case that a table states; none where its request is faulty, which then has been reported."""
    present = _keys(table, "endpoints", shared.endpoints, faults)
    made = _keys(table, "observations", shared.observations, faults)
    members = (
        _keys(table, "members", shared.endpoints, faults) if "members" in table.entries else ()
    )
    health = {key: table.table("health").text(key) for key in table.table("health").entries}
    for key in health.keys() - shared.endpoints.keys():
        message = unknown("endpoint", key, shared.endpoints)
        faults.append(Fault(table.table("health").place_of_key(key), message))
    if "expected" not in table.entries:
        faults.append(Fault(table.place, "key `expected` is missing"))
    expected = expectation(table.table("expected"), present, faults)
    asked = read_request(_request_table(table), shared.models, faults)
    if asked is None:
        return
    ids = {key: shared.endpoints[key].endpoint_id for key in present}
    case = Case(
        name=name,
        file=file,
        place=table.place,
        now=moment(table.table("options"), "now", EPOCH, faults),
        world=shared.world(present, made),
        request=asked,
        expected=expected,
        keys={endpoint_id: key for key, endpoint_id in ids.items()},
    )
    yield replace(
        case,
        health={ids[key]: why for key, why in health.items() if key in ids},
        members=frozenset(ids[key] for key in members if key in ids),
        draws=table.table("options").whole("draws") or 1,
        skipped=table.text("skipReason", "skipped") if table.flag("skip") else None,
    )


def _request_table(table: Table) -> Table:
    """The request block, or an empty one that stands where the case does."""
    return table.table("request") if "request" in table.entries else Table(table.place)


def _keys(
    table: Table, name: str, known: Mapping[str, object], faults: list[Fault]
) -> tuple[str, ...]:
    """The fixtures that a case names; all where it names none."""
    if name not in table.entries:
        return tuple(known)
    what = "observation" if name == "observations" else "endpoint"
    strangers = (item for item in table.scalars(name) if item.text not in known)
    faults.extend(Fault(item.place, unknown(what, item.text, known)) for item in strangers)
    return tuple(key for key in table.texts(name) if key in known)
