"""Read test files (`kind: RuleSetTest`) into cases, and check plans against them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from assay.engine.decide.plan import Plan
from assay.engine.errors import InvalidField
from assay.engine.policy.faults import Fault, PolicyFaults
from assay.engine.policy.policy import Policy
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
        stated = (self.attempts, self.attempts_in_any_order, self.excluded)
        return any(part is not None for part in stated)


def _read_expectation(table: Table, present: Iterable[str], faults: list[Fault]) -> Expectation:
    """Read the `expected` block of a case, which may name endpoints of the case only."""
    known = list(present)
    for key, place in _named(table):
        if key not in known:
            message = unknown_word_message("endpoint of this case", key, known)
            faults.append(Fault(place, message))
    if table.has("attempts") and table.has("attemptsInAnyOrder"):
        message = "a case has attempts or attemptsInAnyOrder, not both"
        faults.append(Fault(table.place_of_key("attemptsInAnyOrder"), message))
    return Expectation(
        attempts=table.maybe_texts("attempts"),
        attempts_in_any_order=table.maybe_texts("attemptsInAnyOrder"),
        first_attempt=table.maybe_text("firstAttempt"),
        excluded=_sets(table.table("excluded")) if table.has("excluded") else None,
        excluded_at_least=_sets(table.table("excludedAtLeast")),
        abstained=_sets(table.table("abstained")),
        availability=table.text("availability") if table.has("availability") else None,
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
    exact, at_least = expected.excluded or {}, expected.excluded_at_least
    for key, reasons in {**at_least, **exact}.items():
        got, wanted = broken.get(key), f"expected {key} to be excluded"
        if key in attempted or got is None:
            state = "attempted" if key in attempted else "not judged"
            yield f"{wanted} for {_listed(sorted(reasons))}, it was {state}"
        elif key in exact and got != reasons:
            yield f"{wanted} for {_listed(sorted(reasons))}, got {_set(got)}"
        if got is not None and not at_least.get(key, frozenset()) <= got:
            yield f"{wanted} at least for {_set(at_least[key])}, got {_set(got)}"
    if expected.complete:
        for key in sorted(broken.keys() - attempted - exact.keys() - at_least.keys()):
            excluded = f"excluded for {_set(broken[key])}"
            why = excluded if broken[key] else "neither attempted nor excluded"
            yield f"{key} was {why}, which the case does not expect"


def _findings(plan: Plan, keys: Mapping[str, str], *, abstained: bool) -> dict[str, frozenset[str]]:
    """Return reasons of broken rules, or names of abstaining rules, by endpoint."""
    found: dict[str, frozenset[str]] = {}
    for verdict in plan.verdicts:
        key = keys.get(verdict.endpoint_id, verdict.endpoint_id)
        words = {f.rule for f in verdict.abstained}
        if not abstained:
            words = {f.reason for f in verdict.broken}
        found[key] = found.get(key, frozenset()) | words
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


def _listed(words: Iterable[str]) -> str:
    return f"[{', '.join(words)}]"


def _set(words: frozenset[str] | None) -> str:
    return _listed(sorted(words or ()))


_MERGED: Final = frozenset({"request", "options"})
"""The parts of a test that its rows state key by key; all else a row states as a whole."""


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

    def world_under(self, policy: Policy) -> World:
        """Return the world, with the same traffic for each of the policy's ways of folding it."""
        return replace(self.world, traffic=dict.fromkeys(policy.folds, self.world.traffic[""]))

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
    options = {key: entry for key, entry in spec.entries.items() if key == "options"}
    tests = spec.tables("tests")
    check_unique_names(tests, "test", faults)
    for test in tests:
        base = _merge(Table(test.place, options), test, _MERGED)
        if not test.has("cases"):
            yield from _case(base, test.text("name"), file, shared, faults)
            continue
        rows = test.tables("cases")
        check_unique_names(rows, "case", faults)
        for row in rows:
            name = f"{test.text('name')}: {row.text('name')}"
            yield from _case(_merge(base, row, _MERGED), name, file, shared, faults)


def _merge(base: Table, over: Table, names: AbstractSet[str] | None = None) -> Table:
    """Merge one mapping into another: the named sub-mappings by key, by default all of them."""
    entries = {**base.entries, **over.entries}
    if names is None:
        names = base.sub_tables().keys() & over.sub_tables().keys()
    for name in names & base.entries.keys() & over.entries.keys():
        merged = _merge(base.table(name), over.table(name))
        entries[name] = MappingEntry(over.entries[name].key, merged)
    return Table(over.place, entries)


def _case(
    table: Table, name: str, file: str, shared: Fixtures, faults: list[Fault]
) -> Iterator[Case]:
    """Yield the case of a table, unless its request is faulty, which is reported."""
    present = _keys(table, "endpoints", shared.endpoints, faults)
    made = _keys(table, "observations", shared.observations, faults)
    members = _keys(table, "members", shared.endpoints, faults) if table.has("members") else ()
    health = table.table("health")
    for key in health.entries.keys() - shared.endpoints.keys():
        message = unknown_word_message("endpoint", key, shared.endpoints)
        faults.append(Fault(health.place_of_key(key), message))
    if not table.has("expected"):
        faults.append(Fault(table.place, "key `expected` is missing"))
    expected = _read_expectation(table.table("expected"), present, faults)
    stated = table.table("request") if table.has("request") else Table(table.place)
    request = _read_request(stated, shared.models, faults)
    if request is None:
        return
    ids = {key: shared.endpoints[key].endpoint_id for key in present}
    yield Case(
        name=name,
        file=file,
        place=table.place,
        now=moment(table.table("options"), "now", EPOCH, faults),
        world=shared.world(present, made),
        request=request,
        expected=expected,
        keys={endpoint_id: key for key, endpoint_id in ids.items()},
        health={ids[key]: health.text(key) for key in health.entries if key in ids},
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
    sort = table.table("provider").table("sort")  # empty if it is a word
    for preference, key in (("provider.sort", "by"), ("provider.partition", "partition")):
        text = sort.maybe_text(key)
        if text is not None:
            values[preference] = text
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


def _keys(
    table: Table, name: str, known: Mapping[str, object], faults: list[Fault]
) -> tuple[str, ...]:
    """Return the fixtures that a case names, by default all."""
    if not table.has(name):
        return tuple(known)
    what = "observation" if name == "observations" else "endpoint"
    strangers = (item for item in table.scalars(name) if item.text not in known)
    faults.extend(
        Fault(item.place, unknown_word_message(what, item.text, known)) for item in strangers
    )
    return tuple(key for key in table.texts(name) if key in known)
