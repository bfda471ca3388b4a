"""`assay audit export`: decisions into a file that DuckDB, ClickHouse, Spark or a script reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, counted, print_json
from assay.cli.questions import Filter, Since, Until, auditing, question, utc
from assay.decision_log.export import WRITERS, export


def export_command(  # noqa: PLR0913 - one option per part of the question
    *,
    output: Annotated[Path, Parameter(help="File to write; it appears whole or not at all.")],
    format_: Annotated[
        Literal["parquet", "jsonl"], Parameter(name="--format", help="Form of the file.")
    ] = "parquet",
    where: Filter = None,
    since: Since = None,
    until: Until = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Write decisions to a file, oldest first: what they are found by, and the record itself as text.

    `tenant` is the pseudonym there, so that erasing a tenant is not undone by a file.

    Example: assay audit export --format parquet --output decisions.parquet --since 2025-09-01T00:00:00Z

    Example: assay audit export --format jsonl --output exacto.jsonl --filter 'decision.variant == "exacto"'
    """
    asked = question(where, since, until)
    with auditing(url) as auditor:
        count = export(counted(auditor.records(asked), "exporting"), output, WRITERS[format_])
    if json:
        print_json(
            {
                "decisions": count,
                "file": str(output),
                "since": utc(asked.begin),
                "until": utc(asked.until),
            }
        )
    else:
        console.print(f"{count} decisions in {output}", markup=False)
