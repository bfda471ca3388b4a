"""What a case expects of a plan, and where a plan falls short of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from assay.engine.decide.plan import Plan
from assay.engine.policy.faults import Fault
from assay.engine.policy.rule_set import Place
from assay.rule_files.nodes import Table
from assay.rule_files.schemas import unknown


@dataclass(frozen=True, slots=True)
class Expectation:
    """Who is to serve and why the others are not, by the fixtures' keys; `None` where a case does not say."""

    attempts: tuple[str, ...] | None = None
    attempts_in_any_order: tuple[str, ...] | None = None
    first_attempt: str | None = None
    excluded: Mapping[str, frozenset[str]] | None = None
    excluded_at_least: Mapping[str, frozenset[str]] = field(default_factory=dict)
    abstained: Mapping[str, frozenset[str]] = field(default_factory=dict)
    availability: str | None = None

    @property
    def complete(self) -> bool:
        """Whether whoever neither serves nor is named is a failure."""
        return not (
            self.attempts is None and self.attempts_in_any_order is None and self.excluded is None
        )


def expectation(table: Table, present: Iterable[str], faults: list[Fault]) -> Expectation:
    """The `expected` block of a case; whom it names must be among the case's endpoints."""
    known = list(present)
    faults.extend(
        Fault(place, unknown("endpoint of this case", key, known))
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


def differences(expected: Expectation, plan: Plan, keys: Mapping[str, str]) -> Iterator[str]:
    """Every way in which a plan differs, one line each; `keys` names endpoints by their ids."""
    attempts = [keys.get(a.endpoint_id, a.endpoint_id) for a in plan.attempts]
    if expected.attempts is not None and list(expected.attempts) != attempts:
        yield f"expected attempts {_listed(expected.attempts)}, got {_listed(attempts)}"
    any_order = expected.attempts_in_any_order
    if any_order is not None and sorted(any_order) != sorted(attempts):
        yield f"expected attempts {_listed(sorted(any_order))} in any order, got {_listed(sorted(attempts))}"
    if expected.first_attempt is not None and attempts[:1] != [expected.first_attempt]:
        yield f"expected first attempt {expected.first_attempt}, got {attempts[0] if attempts else 'none'}"
    yield from _exclusions(expected, plan, keys, frozenset(attempts))
    abstained = _findings(plan, keys, abstained=True)
    for key, rules in expected.abstained.items():
        if abstained.get(key, frozenset()) != rules:
            yield f"expected rules {_listed(sorted(rules))} to abstain for {key}, got {_set(abstained.get(key))}"
    if expected.availability is not None and expected.availability != plan.availability:
        yield f"expected availability {expected.availability or 'none'}, got {plan.availability or 'none'}"


def _exclusions(
    expected: Expectation, plan: Plan, keys: Mapping[str, str], attempted: frozenset[str]
) -> Iterator[str]:
    """Differences in who is left out, and why."""
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
    """Reasons of broken rules, or names of abstaining ones, by endpoint; several entries of a request unite."""
    found: dict[str, frozenset[str]] = {}
    for verdict in plan.verdicts:
        key = keys.get(verdict.endpoint_id, verdict.endpoint_id)
        words = (
            (f.rule for f in verdict.abstained) if abstained else (f.reason for f in verdict.broken)
        )
        found[key] = found.get(key, frozenset()) | frozenset(words)
    return found


def _named(table: Table) -> Iterator[tuple[str, Place]]:
    """Every key that an `expected` block names."""
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
