"""`assay policy`: check, test and list rule files, and print their reference."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

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
    Path | None, Parameter(help="Directory of rule files; by default the shipped ones.")
]
BAD_POLICY = 3
FAILED = 1


def check_command(directory: Directory = None, *, json: Json = False) -> int:
    """Check every rule file and its cases, and report all faults with file, line and column.

    Exit codes: 0 no faults; 3 faults.

    Example: assay policy check ./policy
    """
    path = policy_path(directory)
    source, tests = read_directory(path), read_tests(path)
    try:
        checked = compile_source(source)
        read_cases(tests)
    except PolicyFaults as error:
        _show_faults(error, {**source.files, **tests}, json=json)
        return BAD_POLICY
    if json:
        print_json({"digest": checked.digest, "rule_sets": list(checked.rule_sets), "faults": []})
    else:
        console.print(
            f"{len(checked.rule_sets)} rule sets, {len(checked.bindings)} bindings: no faults"
        )
        console.print(f"digest {checked.digest}")
    return 0


def _show_faults(error: PolicyFaults, files: Mapping[str, str], *, json: bool) -> None:
    """Show every fault with its position, and for people with its line."""
    if json:
        names = ("file", "line", "column")
        faults = [
            {**{name: getattr(fault.place, name) for name in names}, "message": fault.message}
            for fault in error.faults
        ]
        print_json({"faults": faults})
        return
    for fault in error.faults:
        errors.print(render_fault(fault, files))
    number = len(error.faults)
    errors.print("1 fault" if number == 1 else f"{number} faults")


def run_cases(
    directory: Directory = None,
    *,
    only: Annotated[
        str | None, Parameter(help="Run only cases whose name contains this text.")
    ] = None,
    json: Json = False,
) -> int:
    """Run the test cases in the `*_test.yaml` files of the directory.

    Exit codes: 0 all passed; 1 a case failed, or none ran; 3 the files have faults.

    Example: assay policy test ./policy --only exacto
    """
    path = policy_path(directory)
    source, tests = read_directory(path), read_tests(path)
    try:
        checked, cases = compile_source(source), read_cases(tests)
    except PolicyFaults as error:
        _show_faults(error, {**source.files, **tests}, json=json)
        return BAD_POLICY
    chosen = [c for c in cases if only is None or only in f"{c.file}: {c.name}"]
    started = time.perf_counter()
    results = [(case, () if case.skipped else run_case(case, checked)) for case in chosen]
    return _report(results, time.perf_counter() - started, json=json)


def run_case(case: Case, policy: Policy) -> tuple[str, ...]:
    """Judge and plan as of the case's time with each seed; return every mismatch once."""
    members = dict.fromkeys(policy.bindings, case.members)
    snapshot = judge(case.world_under(policy), policy, case.now, members).snapshot
    mismatches: dict[str, None] = {}
    try:
        for seed in case.seeds():
            made = plan(case.request, snapshot, Moment(case.now, seed, case.health))
            mismatches |= dict.fromkeys(check_case(case, made))
    except AssayError as error:
        return (f"the request was rejected: {error}",)
    return tuple(mismatches)


def _report(results: list[tuple[Case, tuple[str, ...]]], seconds: float, *, json: bool) -> int:
    """Show each case's result; return 1 if any failed or none ran."""
    failed = [(case, mismatches) for case, mismatches in results if mismatches]
    skipped = [case for case, _ in results if case.skipped]
    if json:
        cases = [
            {
                "file": case.file,
                "case": case.name,
                "skipped": case.skipped,
                "passed": not mismatches and not case.skipped,
                "mismatches": list(mismatches),
            }
            for case, mismatches in results
        ]
        print_json(cases)
    else:
        for case, mismatches in failed:
            console.print("failed ", style="red", end="")
            console.print(f"{case.place.file}:{case.place.line}: {case.name}")
            for mismatch in mismatches:
                console.print(f"    {mismatch}")
        counts = f"{len(results) - len(failed) - len(skipped)} passed, {len(failed)} failed"
        console.print(f"{counts}, {len(skipped)} skipped in {seconds:.2f} s")
    return FAILED if failed or len(skipped) == len(results) else 0


def list_command(
    directory: Directory = None, *, url: DatabaseUrl = None, json: Json = False
) -> int:
    """Show the database's active revision, and the bindings in the directory.

    Exit codes: 0 shown, even if the directory has faults; 1 the database failed.

    Example: assay policy list --database sqlite:///assay.db
    """
    with open_current_database(url, create=False) as database:
        newest = latest_policy(database)
    path = policy_path(directory)
    source = read_directory(path)
    compiled, faults = None, 0
    try:
        compiled = compile_source(source)
    except PolicyFaults as error:
        faults = len(error.faults)
    active = newest is not None and newest.digest == source.digest
    if json:
        state = "faulty" if faults else "active" if active else "inactive"
        directory_json = {
            "path": str(path), "digest": source.digest, "state": state, "faults": faults
        }  # fmt: skip
        rule_sets, bindings = (compiled.rule_sets, compiled.bindings) if compiled else ({}, {})
        print_json(
            {
                "in_force": newest and {"number": newest.number, "digest": newest.digest},
                "directory": directory_json,
                "rule_sets": [each.name for each in rule_sets.values()],
                "bindings": [each.name for each in bindings.values()],
            }
        )
        return 0
    revision = f"revision {newest.number}, {newest.digest[:12]}" if newest else "none yet"
    console.print(f"active: {revision}")
    state = f"invalid, {faults} faults" if faults else "active" if active else "not active"
    console.print(f"{path}: {source.digest[:12]}, {state}")
    if compiled:
        columns = ("binding", "for", "rule set", "pool", "own order")
        rows = [
            (
                bound.name,
                _selector(bound.binding),
                bound.rules.name,
                "yes" if bound.enter else "",
                "yes" if bound.owns_order else "",
            )
            for bound in compiled.bindings.values()
        ]
        print_table("bindings", columns, rows)
    return 0


def _selector(binding: Binding) -> str:
    """Describe the requests that a binding applies to."""
    if binding.variant:
        words = f":{binding.variant}"
    elif binding.sort:
        words = f"sort {binding.sort}"
    else:
        words = binding.when.text if binding.when else "everything else"
    return f"{words} for {', '.join(binding.tenants)}" if binding.tenants else words


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
