"""`assay audit verify`: whether the log is whole, and where it first is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, JournalDir, Json
from assay.cli.output import console, counted, print_json, print_table
from assay.cli.questions import auditing
from assay.decision_log.verify import StreamReport, read_public_keys
from assay.decision_log.writer import HEADS, KEY
from assay.engine.errors import BadData, CallerError, OperatorError, quoted
from assay.journal.chain import Head
from assay.journal.errors import HeadFileDamaged
from assay.journal.heads import HeadFile
from assay.server.settings import journal_path

BROKEN = 1
HeadFiles = Annotated[
    list[Path] | None,
    Parameter(
        negative="",
        help="Files of signed heads kept outside the database; by default the journal's.",
    ),
]
KeyFiles = Annotated[
    list[Path] | None,
    Parameter(
        negative="",
        help="Ed25519 keys that heads are signed with, PEM, public or private; default: journal's.",
    ),
]


class UnknownStream(CallerError):
    """Nothing is known of a stream of that name."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"--stream: {quoted(stream)} is not in the log")


class HeadsMissing(OperatorError):
    """Without heads from outside, whoever can write to the database could cut the log's tail unseen."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"there is no file of signed heads {quoted(str(path))}; name it by --heads or --journal"
        )


def verify_command(  # noqa: PLR0913 - one option per thing to verify with
    *,
    stream: Annotated[str | None, Parameter(help="Only this stream.")] = None,
    heads: HeadFiles = None,
    key: KeyFiles = None,
    journal: JournalDir = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Check each record against its row, the chain of hashes and the signed heads.

    For each stream, print the first record that is missing, altered, reordered, inserted or
    truncated; exit with 1 if there is any. The chain covers decisions. It does not cover reports,
    outcomes and the records that map pseudonyms to tenants.

    On another host, copy `heads.jsonl` and the public key of every journal that wrote to the log, and
    name them by --heads and --key. `openssl pkey -in signing.key -pubout` writes the public key.

    Example: assay audit verify

    Example: assay audit verify --database postgresql://auditor@db/assay --heads heads.jsonl --key signing.pub
    """
    folder = journal_path(journal)
    outside = [head for path in heads or [folder / HEADS] for head in heads_of(path)]
    keys = read_public_keys(key or [folder / KEY])
    with auditing(url) as auditor:
        reports = list(
            auditor.verify(
                keys, outside, stream or "", watch=lambda rows: counted(rows, "verifying")
            )
        )
    if stream is not None and not reports:
        raise UnknownStream(stream)
    tell(reports, outside, json=json)
    return BROKEN if any(report.fault for report in reports) else 0


def heads_of(path: Path) -> Sequence[Head]:
    """The heads in a file; raises HeadsMissing, and BadData where a line is none."""
    if not path.exists():
        raise HeadsMissing(path)
    try:
        return HeadFile(path).read()
    except HeadFileDamaged as error:
        raise BadData(str(error)) from error


def tell(reports: Sequence[StreamReport], outside: Sequence[Head], *, json: bool) -> None:
    """Say how each stream is."""
    faulty = [report for report in reports if report.fault]
    if json:
        names = ("stream", "checked", "pruned", "fault", "fault_seq", "detail")
        streams = [{name: getattr(report, name) for name in names} for report in reports]
        print_json({"intact": not faulty, "heads_outside": len(outside), "streams": streams})
        return
    checked = sum(report.checked for report in reports)
    console.print(
        f"{checked} records of {len(reports)} streams checked, with {len(outside)} signed heads from outside: "
        + (f"{len(faulty)} streams are not whole" if faulty else "whole and unaltered"),
        markup=False,
    )
    if faulty:
        rows = [(r.stream, r.fault, r.fault_seq, r.detail) for r in faulty]
        print_table("first fault of each stream", ("stream", "fault", "at", ""), rows)
