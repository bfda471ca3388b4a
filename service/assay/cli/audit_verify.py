"""`assay audit verify`: check that the decision log is complete and unaltered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.audit_options import open_auditor
from assay.cli.options import DatabaseUrl, JournalDir, Json
from assay.cli.output import console, counted, print_json, print_table
from assay.decision_log.verify import StreamReport, read_public_keys
from assay.decision_log.writer import HEADS, KEY
from assay.engine.errors import BadData, CallerError, OperatorError, quoted
from assay.journal.chain import Head
from assay.journal.errors import HeadFileDamaged
from assay.journal.heads import HeadFile
from assay.server.settings import journal_path

_FAULTY = 1
HeadFiles = Annotated[
    list[Path] | None,
    Parameter(
        help="Files of signed heads from outside the database; default: the journal's.",
    ),
]
KeyFiles = Annotated[
    list[Path] | None,
    Parameter(
        help="Ed25519 keys of the signed heads, PEM, public or private; default: the journal's.",
    ),
]


class UnknownStream(CallerError):
    """The log has no stream with this name."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"--stream: {quoted(stream)} is not in the log")


class HeadsMissing(OperatorError):
    """There are no heads from outside the database, so a truncated log would look complete."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"signed heads: {quoted(str(path))} does not exist; give --heads or --journal"
        )


def verify_command(  # noqa: PLR0913 - one parameter per option
    *,
    stream: Annotated[str | None, Parameter(help="Check only this stream.")] = None,
    heads: HeadFiles = None,
    key: KeyFiles = None,
    journal: JournalDir = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Check each record against its row, the hash chain and the signed heads.

    For each stream, print the first record that is missing, altered, reordered, inserted or
    truncated. The chain covers decisions. It does not cover outcomes, and the records that map
    pseudonyms to tenants.

    On another host, copy `heads.jsonl` and the public key of every journal that wrote to the log,
    and name them with --heads and --key. `openssl pkey -in signing.key -pubout` writes the public
    key.

    Exit codes: 0 complete and unaltered; 1 a stream has a fault, or the check failed; 2 invalid
    usage; 3 a file of heads is damaged.

    Example: assay audit verify

    Example: assay audit verify --database postgresql://auditor@db/assay --heads heads.jsonl
    --key signing.pub
    """
    folder = journal_path(journal)
    outside = [head for path in heads or [folder / HEADS] for head in _read_heads(path)]
    keys = read_public_keys(key or [folder / KEY])
    with open_auditor(url) as auditor:
        checked = auditor.verify(
            keys, outside, stream or "", watch=lambda rows: counted(rows, "verifying")
        )
        reports = list(checked)
    if stream is not None and not reports:
        raise UnknownStream(stream)
    _print_reports(reports, outside, json=json)
    return _FAULTY if any(report.fault for report in reports) else 0


def _read_heads(path: Path) -> Sequence[Head]:
    """Read a file of signed heads; raise HeadsMissing, and BadData if a line is damaged."""
    if not path.exists():
        raise HeadsMissing(path)
    try:
        return HeadFile(path).read()
    except HeadFileDamaged as error:
        raise BadData(str(error)) from error


def _print_reports(reports: Sequence[StreamReport], outside: Sequence[Head], *, json: bool) -> None:
    faulty = [report for report in reports if report.fault]
    if json:
        names = ("stream", "checked", "pruned", "fault", "fault_seq", "detail")
        streams = [{name: getattr(report, name) for name in names} for report in reports]
        print_json({"intact": not faulty, "heads_outside": len(outside), "streams": streams})
        return
    checked = sum(report.checked for report in reports)
    result = f"{len(faulty)} streams have a fault" if faulty else "complete and unaltered"
    console.print(
        f"{checked} records of {len(reports)} streams checked "
        f"with {len(outside)} signed heads from outside the database: {result}",
    )
    if faulty:
        rows = [(r.stream, r.fault, r.fault_seq, r.detail) for r in faulty]
        print_table("first fault of each stream", ("stream", "fault", "at", ""), rows)
