"""`assay audit revisions`: list policy revisions, or show what one of them changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import Annotated

from cyclopts import Parameter

from assay.cli.audit_options import open_auditor, require_positive
from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, print_json, print_table, utc
from assay.engine.errors import CallerError
from assay.store.policies import PolicyRevision, load_policy

_DEFAULT_LIMIT = 100
Files = Mapping[str, str]


class UnknownRevision(CallerError):
    """No policy revision has this number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"policy revision {number} does not exist")


def revisions_command(
    number: Annotated[
        int | None, Parameter(help="Number of a revision: show what it changed.")
    ] = None,
    *,
    limit: Annotated[int, Parameter(help="List at most this many, the newest.")] = _DEFAULT_LIMIT,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List the policy revisions, or show what one revision changed.

    Exit codes: 0 shown; 1 the database failed; 2 the number or an option is not valid.

    Example: assay audit revisions

    Example: assay audit revisions 2
    """
    require_positive("--limit", limit)
    with open_auditor(url) as auditor:
        if number is None:
            revisions = auditor.revisions(limit=limit)
            if json:
                print_json([_as_json(revision) for revision in revisions])
            elif revisions:
                rows = [
                    (r.number, utc(r.created_at), r.digest[:12], len(r.files), r.note)
                    for r in revisions
                ]
                columns = ("#", "active since", "digest", "files", "note")
                print_table("policy revisions", columns, rows)
            else:
                console.print("no policy revision exists yet")
            return
        revision = None if number < 1 else load_policy(auditor.database, number)
        if revision is None:
            raise UnknownRevision(number)
        previous = load_policy(auditor.database, number - 1)
    changes = _diff(previous.files if previous else {}, revision.files)
    if json:
        print_json({**_as_json(revision), "diff": "".join(changes)})
        return
    console.print(
        f"revision {revision.number}, digest {revision.digest}, "
        f"active since {utc(revision.created_at)}"
    )
    for line in changes:
        console.print(line, end="")


def _as_json(revision: PolicyRevision) -> dict[str, object]:
    return {
        "number": revision.number,
        "digest": revision.digest,
        "created_at": utc(revision.created_at),
        "files": sorted(revision.files),
        "note": revision.note,
    }


def _diff(before: Files, after: Files) -> Iterator[str]:
    """Yield the lines of a unified diff of all files, in the form of `git diff`."""
    for name in sorted(before.keys() | after.keys()):
        old, new = (files.get(name, "").splitlines(keepends=True) for files in (before, after))
        names = (
            f"a/{name}" if name in before else "/dev/null",
            f"b/{name}" if name in after else "/dev/null",
        )
        for line in unified_diff(old, new, *names):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
