"""`assay policy …`: check, test and list rule files, and print their reference."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, errors, print_json, print_table
from assay.engine.decide.plan import Moment, plan
from assay.engine.errors import AssayError
from assay.engine.policy.faults import PolicyFaults
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import Binding
from assay.engine.pool.judge import judge
from assay.rule_files.cases import Case, check_case, read_cases
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory, read_tests
from assay.rule_files.reference import reference_data, reference_tables, update_reference
from assay.rule_files.render import render_fault
from assay.server.database import open_current_database
from assay.server.settings import policy_path
from assay.store.policies import latest_policy

Directory = Annotated[
    Path | None, Parameter(help="Directory of rule files; the shipped ones by default.")
]
BAD_POLICY = 3
FAILED = 1

policy = cyclopts.App(name="policy", help="Check, test and list rule files.")


@policy.command(name="check")
def check_command(directory: Directory = None, *, json: Json = False) -> int:
    """Check every rule file and its cases: form, names, types, limits; all faults at once.

    Example: assay policy check ./policy
    """
    path = policy_path(directory)
    source, tests = read_directory(path), read_tests(path)
    try:
        checked = compile_source(source)
        read_cases(tests)
    except PolicyFaults as error:
        show_faults(error, {**source.files, **tests}, json=json)
        return BAD_POLICY
    if json:
        print_json({"digest": checked.digest, "rule_sets": list(checked.rule_sets), "faults": []})
    else:
        console.print(
            f"{len(checked.rule_sets)} rule sets, {len(checked.bindings)} bindings: no faults"
        )
        console.print(f"digest {checked.digest}")
    return 0


def show_faults(error: PolicyFaults, files: Mapping[str, str], *, json: bool) -> None:
    """Every fault with its place, and for people with its line."""
    if json:
        places = [(f.place.file, f.place.line, f.place.column, f.message) for f in error.faults]
        print_json(
            {
                "faults": [
                    dict(zip(("file", "line", "column", "message"), place, strict=True))
                    for place in places
                ]
            }
        )
        return
    for fault in error.faults:
        errors.print(render_fault(fault, files), markup=False)
    errors.print(
        "1 fault" if len(error.faults) == 1 else f"{len(error.faults)} faults", markup=False
    )


@policy.command(name="test")
def run_cases(
    directory: Directory = None,
    *,
    only: Annotated[
        str | None, Parameter(help="Run only cases whose name holds this text.")
    ] = None,
    json: Json = False,
) -> int:
    """Run the cases in `*_test.yaml` beside the rule files.

    Example: assay policy test ./policy --only exacto
    """
    path = policy_path(directory)
    source, tests = read_directory(path), read_tests(path)
    try:
        checked, cases = compile_source(source), read_cases(tests)
    except PolicyFaults as error:
        show_faults(error, {**source.files, **tests}, json=json)
        return BAD_POLICY
    chosen = [c for c in cases if only is None or only in f"{c.file}: {c.name}"]
    started = time.perf_counter()
    results = [(case, () if case.skipped else run_case(case, checked)) for case in chosen]
    return report(results, time.perf_counter() - started, json=json)


def run_case(case: Case, checked: Policy) -> tuple[str, ...]:
    """What differs, under any of the case's seeds, from what it expects; judged and planned as of its own time."""
    members = dict.fromkeys(checked.bindings, case.members)
    snapshot = judge(case.world, checked, case.now, members).snapshot
    try:
        plans = [
            plan(case.request, snapshot, Moment(case.now, seed, case.health))
            for seed in case.seeds()
        ]
    except AssayError as error:
        return (f"the request was refused: {error}",)
    return tuple(dict.fromkeys(mismatch for made in plans for mismatch in check_case(case, made)))


def report(results: list[tuple[Case, tuple[str, ...]]], seconds: float, *, json: bool) -> int:
    """Say how each case went; 1 where any failed or none ran."""
    failed = [(case, wrong) for case, wrong in results if wrong]
    skipped = [case for case, _ in results if case.skipped]
    if json:
        print_json(
            [
                {
                    "file": c.file,
                    "case": c.name,
                    "skipped": c.skipped,
                    "passed": not wrong and not c.skipped,
                    "mismatches": list(wrong),
                }
                for c, wrong in results
            ]
        )
    else:
        for case, wrong in failed:
            console.print("[red]failed[/] ", end="")
            console.print(f"{case.place.file}:{case.place.line}: {case.name}", markup=False)
            for mismatch in wrong:
                console.print(f"    {mismatch}", markup=False)
        passed = len(results) - len(failed) - len(skipped)
        console.print(
            f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped in {seconds:.2f} s",
            markup=False,
        )
    return FAILED if failed or len(skipped) == len(results) else 0


@policy.command(name="list")
def list_command(
    directory: Directory = None, *, url: DatabaseUrl = None, json: Json = False
) -> int:
    """Show the revision in force in the database, and what the directory holds.

    Example: assay policy list --database sqlite:///assay.db
    """
    with open_current_database(url) as database:
        newest = latest_policy(database)
    path = policy_path(directory)
    source = read_directory(path)
    try:
        checked, faults = compile_source(source), 0
    except PolicyFaults as error:
        checked, faults = None, len(error.faults)
    state = (
        "faulty"
        if checked is None
        else "in force"
        if newest and newest.digest == source.digest
        else "not in force"
    )
    if json:
        print_json(
            {
                "in_force": newest and {"number": newest.number, "digest": newest.digest},
                "directory": {
                    "path": str(path),
                    "digest": source.digest,
                    "state": state,
                    "faults": faults,
                },
                "rule_sets": [r.name for r in checked.rule_sets.values()] if checked else [],
                "bindings": [b.name for b in checked.bindings.values()] if checked else [],
            }
        )
        return 0
    in_force = f"revision {newest.number}, {newest.digest[:12]}" if newest else "none yet"
    console.print(f"in force: {in_force}", markup=False)
    console.print(
        f"{path}: {source.digest[:12]}, {state}" + (f", {faults} faults" if faults else ""),
        markup=False,
    )
    if checked:
        print_table(
            "bindings",
            ("binding", "for", "rule set", "pool", "own order"),
            [
                (
                    b.name,
                    selector(b.binding),
                    b.rules.name,
                    "yes" if b.enter else "",
                    "yes" if b.owns_order else "",
                )
                for b in checked.bindings.values()
            ],
        )
    return 0


def selector(binding: Binding) -> str:
    """Whom a binding is for, in words."""
    if binding.variant:
        words = f":{binding.variant}"
    elif binding.sort:
        words = f"sort {binding.sort}"
    else:
        words = binding.when.text if binding.when else "everything else"
    return f"{words} for {', '.join(binding.tenants)}" if binding.tenants else words


@policy.command(name="reference")
def reference_command(
    *,
    update: Annotated[
        Path | None, Parameter(help="Rewrite the generated tables of this page instead.")
    ] = None,
    json: Json = False,
) -> int:
    """Print what rule files may contain: keys, facts, functions, reasons, CEL and limits.

    Example: assay policy reference --update policy/REFERENCE.md
    """
    if update is not None:
        update.write_text(update_reference(update.read_text(encoding="utf-8")), encoding="utf-8")
    elif json:
        print_json(reference_data())
    else:
        for name, table in reference_tables().items():
            print(f"## {name}\n\n{table}")  # noqa: T201 - Markdown, which the console would wrap
    return 0
