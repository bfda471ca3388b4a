"""`assay audit revisions`: which rules came into force when, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import Annotated

from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, print_json, print_table
from assay.cli.questions import at_least_one, auditing, utc
from assay.engine.errors import CallerError
from assay.store.policies import PolicyRevision, load_policy

PAGE = 100
Files = Mapping[str, str]


class UnknownRevision(CallerError):
    """No policy revision of that number was ever in force."""

    def __init__(self, number: int) -> None:
        super().__init__(f"policy revision {number} was never in force")


def revisions_command(
    number: Annotated[int | None, Parameter(help="Show what this revision changed.")] = None,
    *,
    limit: Annotated[int, Parameter(help="At most so many, the newest.")] = PAGE,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List the policy revisions that were in force; with a number, show what it changed.

    Example: assay audit revisions

    Example: assay audit revisions 2
    """
    at_least_one("--limit", limit)
    with auditing(url) as auditor:
        if number is None:
            show_all(auditor.revisions(limit=limit), json=json)
            return
        revision = None if number < 1 else load_policy(auditor.database, number)
        if revision is None:
            raise UnknownRevision(number)
        before = load_policy(auditor.database, number - 1)
    show_change(revision, before.files if before else {}, json=json)


def show_all(revisions: tuple[PolicyRevision, ...], *, json: bool) -> None:
    """Revisions, newest first."""
    if json:
        print_json([as_json(revision) for revision in revisions])
    elif revisions:
        rows = [
            (r.number, utc(r.created_at), r.digest[:12], len(r.files), r.note) for r in revisions
        ]
        print_table("policy revisions", ("#", "in force since", "digest", "files", "note"), rows)
    else:
        console.print("no policy was in force yet")


def show_change(revision: PolicyRevision, before: Files, *, json: bool) -> None:
    """One revision, and what it changed in the one before it."""
    if json:
        print_json({**as_json(revision), "diff": "".join(difference(before, revision.files))})
        return
    console.print(
        f"revision {revision.number}, {revision.digest}, in force since {utc(revision.created_at)}"
    )
    for line in difference(before, revision.files):
        console.print(line, markup=False, end="")


def as_json(revision: PolicyRevision) -> dict[str, object]:
    """A revision for programs."""
    return {
        "number": revision.number,
        "digest": revision.digest,
        "created_at": utc(revision.created_at),
        "files": sorted(revision.files),
        "note": revision.note,
    }


def difference(before: Files, after: Files) -> Iterator[str]:
    """A unified diff of all files, as `diff -u` and `git diff` write them."""
    for name in sorted(before.keys() | after.keys()):
        old, new = (files.get(name, "").splitlines(keepends=True) for files in (before, after))
        names = (
            f"a/{name}" if name in before else "/dev/null",
            f"b/{name}" if name in after else "/dev/null",
        )
        for line in unified_diff(old, new, *names):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
