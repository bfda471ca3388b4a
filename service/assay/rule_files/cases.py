"""Read test files (`kind: RuleSetTest`) into cases, and check plans against them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from assay.engine.decide.plan import Plan
from assay.engine.errors import InvalidField
from assay.engine.policy.faults import Fault, PolicyFaults
from assay.engine.policy.rule_set import Place
from assay.engine.world.catalog import Model
from assay.engine.world.clock import EPOCH
from assay.engine.world.declarations import build
from assay.engine.world.request import Request
from assay.engine.world.world import World
from assay.rule_files.fixtures import Fixtures, fixtures, moment, named_model, stated_values
from assay.rule_files.nodes import MappingEntry, Table, find
from assay.rule_files.read import read_form
from assay.rule_files.rules import check_unique_names
from assay.rule_files.schemas import unknown_word_message


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a plan must be, by the fixtures' keys; `None` for a part that a case does not state."""

    attempts: tuple[str, ...] | None = None
    attempts_in_any_order: tuple[str, ...] | None = None
    first_attempt: str | None = None
    excluded: Mapping[str, frozenset[str]] | None = None
    excluded_at_least: Mapping[str, frozenset[str]] = field(default_factory=dict)
    abstained: Mapping[str, frozenset[str]] = field(default_factory=dict)
    availability: str | None = None

    @property
    def complete(self) -> bool:
        """Return whether an endpoint that neither serves nor is named is a failure."""
        return not (
            self.attempts is None and self.attempts_in_any_order is None and self.excluded is None
        )


def _read_expectation(table: Table, present: Iterable[str], faults: list[Fault]) -> Expectation:
    """Read the `expected` block of a case, which may name endpoints of the case only."""
    known = list(present)
    faults.extend(
        Fault(place, unknown_word_message("endpoint of this case", key, known))
        for key, place in _named(table)
        if key not in known
    )
    if "attempts" in table.entries and "attemptsInAnyOrder" in table.entries:
        message = "a case has attempts or attemptsInAnyOrder, not both"
        faults.append(Fault(table.place_of_key("attemptsInAnyOrder"), message))
    return Expectation(
        attempts=table.texts("attempts") if "attempts" in table.entries else None,
        attempts_in_any_order=table.texts("attemptsInAnyOrder")
        if "attemptsInAnyOrder" in table.entries
        else None,
        first_attempt=table.maybe_text("firstAttempt"),
        excluded=_sets(table.table("excluded")) if "excluded" in table.entries else None,
        excluded_at_least=_sets(table.table("excludedAtLeast")),
        abstained=_sets(table.table("abstained")),
        availability=_stated(table, "availability"),
    )


def find_differences(expected: Expectation, plan: Plan, keys: Mapping[str, str]) -> Iterator[str]:
    """Yield each difference of a plan in one line; `keys` maps endpoint ids to fixture keys."""
    attempts = [keys.get(a.endpoint_id, a.endpoint_id) for a in plan.attempts]
    if expected.attempts is not None and list(expected.attempts) != attempts:
        yield f"expected attempts {_listed(expected.attempts)}, got {_listed(attempts)}"
    any_order = expected.attempts_in_any_order
    if any_order is not None and sorted(any_order) != sorted(attempts):
        wanted, got = _listed(sorted(any_order)), _listed(sorted(attempts))
        yield f"expected attempts {wanted} in any order, got {got}"
    if expected.first_attempt is not None and attempts[:1] != [expected.first_attempt]:
        first = attempts[0] if attempts else "none"
        yield f"expected first attempt {expected.first_attempt}, got {first}"
    yield from _exclusions(expected, plan, keys, frozenset(attempts))
    abstained = _findings(plan, keys, abstained=True)
    for key, rules in expected.abstained.items():
        if abstained.get(key, frozenset()) != rules:
            got = _set(abstained.get(key))
            yield f"expected rules {_listed(sorted(rules))} to abstain for {key}, got {got}"
    if expected.availability is not None and expected.availability != plan.availability:
        wanted, got = (each or "none" for each in (expected.availability, plan.availability))
        yield f"expected availability {wanted}, got {got}"


def _exclusions(
    expected: Expectation, plan: Plan, keys: Mapping[str, str], attempted: frozenset[str]
) -> Iterator[str]:
    """Yield differences in the excluded endpoints and their reasons."""
    broken = _findings(plan, keys, abstained=False)
    exact = expected.excluded or {}
    for key, reasons in {**expected.excluded_at_least, **exact}.items():
        got = broken.get(key)
        if key in attempted or got is None:
            state = "attempted" if key in attempted else "not judged"
            yield f"expected {key} to be excluded for {_listed(sorted(reasons))}, it was {state}"
        elif key in exact and got != reasons:
            yield f"expected {key} to be excluded for {_listed(sorted(reasons))}, got {_set(got)}"
        if got is not None and not expected.excluded_at_least.get(key, frozenset()) <= got:
            least = sorted(expected.excluded_at_least[key])
            yield f"expected {key} to be excluded at least for {_listed(least)}, got {_set(got)}"
    if expected.complete:
        for key in sorted(
            broken.keys() - attempted - exact.keys() - expected.excluded_at_least.keys()
        ):
            why = (
                f"excluded for {_set(broken[key])}"
                if broken[key]
                else "neither attempted nor excluded"
            )
            yield f"{key} was {why}, which the case does not expect"


def _findings(plan: Plan, keys: Mapping[str, str], *, abstained: bool) -> dict[str, frozenset[str]]:
    """Return reasons of broken rules, or names of abstaining rules, by endpoint."""
    found: dict[str, frozenset[str]] = {}
    for verdict in plan.verdicts:
        key = keys.get(verdict.endpoint_id, verdict.endpoint_id)
        words = (
            (f.rule for f in verdict.abstained) if abstained else (f.reason for f in verdict.broken)
        )
        found[key] = found.get(key, frozenset()) | frozenset(words)
    return found


def _named(table: Table) -> Iterator[tuple[str, Place]]:
    """Yield every key that an `expected` block names."""
    for name in ("attempts", "attemptsInAnyOrder"):
        yield from ((item.text, item.place) for item in table.scalars(name))
    first = table.scalar("firstAttempt")
    if first:
        yield first.text, first.place
    for name in ("excluded", "excludedAtLeast", "abstained"):
        yield from ((key, entry.key.place) for key, entry in table.table(name).entries.items())


def _sets(table: Table) -> dict[str, frozenset[str]]:
    return {key: frozenset(table.texts(key)) for key in table.entries}


def _stated(table: Table, key: str) -> str | None:
    return table.text(key) if key in table.entries else None


def _listed(words: Iterable[str]) -> str:
    return f"[{', '.join(words)}]"


def _set(words: frozenset[str] | None) -> str:
    return _listed(sorted(words or ()))


MERGED: Final = frozenset({"request", "options"})


@dataclass(frozen=True, slots=True)
class Case:
    """One request in one world at one time, and the expected plan.

    `keys` maps endpoint ids to fixture keys; `skipped` is the reason to skip the case, or `None`.
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
        """Return the seeds to try: the request's own, otherwise `draws` fixed ones."""
        if self.request.seed:
            return (self.request.seed,)
        return tuple(
            hashlib.sha256(f"{self.name}\n{n}".encode()).digest()[:16] for n in range(self.draws)
        )


def read_cases(files: Mapping[str, str]) -> tuple[Case, ...]:
    """Return every case of every test file; raise PolicyFaults with every fault."""
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
    """Return each difference between a plan and what the case expects, in one line."""
    return tuple(find_differences(case.expected, plan, case.keys))


def _suite(spec: Table, file: str, faults: list[Fault]) -> Iterator[Case]:
    """Yield the cases of one file."""
    now = moment(spec.table("options"), "now", EPOCH, faults)
    shared = fixtures(spec.table("fixtures"), now, faults)
    tests = spec.tables("tests")
    check_unique_names(tests, "test", faults)
    for test in tests:
        base = _merge(Table(test.place, _only_options(spec)), test)
        if "cases" not in test.entries:
            yield from _case(base, test.text("name"), file, shared, faults)
            continue
        rows = test.tables("cases")
        check_unique_names(rows, "case", faults)
        for row in rows:
            name = f"{test.text('name')}: {row.text('name')}"
            yield from _case(_merge(base, row), name, file, shared, faults)


def _only_options(spec: Table) -> dict[str, MappingEntry]:
    return {"options": spec.entries["options"]} if "options" in spec.entries else {}


def _merge(base: Table, over: Table) -> Table:
    """Merge a row into its test: `request` and `options` by key, all else as a whole."""
    entries = {**base.entries, **over.entries}
    for name in MERGED & base.entries.keys() & over.entries.keys():
        entries[name] = MappingEntry(
            over.entries[name].key, _deep(base.table(name), over.table(name))
        )
    return Table(over.place, entries)


def _deep(base: Table, over: Table) -> Table:
    """Merge one mapping into another, recursively."""
    entries = {**base.entries, **over.entries}
    for name in base.sub_tables().keys() & over.sub_tables().keys():
        entries[name] = MappingEntry(
            over.entries[name].key, _deep(base.table(name), over.table(name))
        )
    return Table(over.place, entries)


def _case(
    table: Table, name: str, file: str, shared: Fixtures, faults: list[Fault]
) -> Iterator[Case]:
    """Yield the case of a table, unless its request is faulty, which is reported."""
    present = _keys(table, "endpoints", shared.endpoints, faults)
    made = _keys(table, "observations", shared.observations, faults)
    members = (
        _keys(table, "members", shared.endpoints, faults) if "members" in table.entries else ()
    )
    health = {key: table.table("health").text(key) for key in table.table("health").entries}
    for key in health.keys() - shared.endpoints.keys():
        message = unknown_word_message("endpoint", key, shared.endpoints)
        faults.append(Fault(table.table("health").place_of_key(key), message))
    if "expected" not in table.entries:
        faults.append(Fault(table.place, "key `expected` is missing"))
    expected = _read_expectation(table.table("expected"), present, faults)
    request = _read_request(_request_table(table), shared.models, faults)
    if request is None:
        return
    ids = {key: shared.endpoints[key].endpoint_id for key in present}
    case = Case(
        name=name,
        file=file,
        place=table.place,
        now=moment(table.table("options"), "now", EPOCH, faults),
        world=shared.world(present, made),
        request=request,
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


def _read_request(table: Table, models: Mapping[str, Model], faults: list[Fault]) -> Request | None:
    """Return the request that a table states, or `None` if it has a fault.

    It need not name its model if the file has only one.
    """
    name = table.text("model", next(iter(models)) if len(models) == 1 else "")
    if not name:
        if models:
            message = f"key `model` is missing: the file has {len(models)} models"
            faults.append(Fault(table.place, message))
        return None
    values = stated_values(Request, table)
    values["model"] = named_model(name, models)
    values["models"] = tuple(named_model(text, models) for text in table.texts("models"))
    values |= _sort_fields(table.table("provider").table("sort"))
    try:
        return build(Request, values)
    except InvalidField as error:
        path = re.sub(r"\[\d+\]", "", error.field).split(".")
        if path == ["provider", "sort"]:
            path.append("by")  # without such a key, `find` returns the place of `sort`
        place = find(table, path).place
        if all(fault.place != place for fault in faults):
            faults.append(Fault(place, str(error)))
        return None


def _sort_fields(table: Table) -> dict[str, object]:
    """Return the fields of a `provider.sort` that is a mapping instead of a word."""
    stated = {"sort": table.maybe_text("by"), "partition": table.maybe_text("partition")}
    return {f"provider.{name}": value for name, value in stated.items() if value is not None}


def _request_table(table: Table) -> Table:
    """Return the request block, or an empty one at the place of the case."""
    return table.table("request") if "request" in table.entries else Table(table.place)


def _keys(
    table: Table, name: str, known: Mapping[str, object], faults: list[Fault]
) -> tuple[str, ...]:
    """Return the fixtures that a case names, by default all."""
    if name not in table.entries:
        return tuple(known)
    what = "observation" if name == "observations" else "endpoint"
    strangers = (item for item in table.scalars(name) if item.text not in known)
    faults.extend(
        Fault(item.place, unknown_word_message(what, item.text, known)) for item in strangers
    )
    return tuple(key for key in table.texts(name) if key in known)
