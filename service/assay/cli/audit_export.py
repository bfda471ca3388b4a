"""`assay audit export`: write decisions to a file for DuckDB, ClickHouse, Spark or a script."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from assay.cli.audit_options import Filter, Since, Until, open_auditor, parse_query
from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, counted, print_json, utc
from assay.decision_log.export import WRITERS, export


def export_command(  # noqa: PLR0913 - one parameter per option
    *,
    output: Annotated[
        Path, Parameter(help="File to write; an existing file is replaced when all is written.")
    ],
    format_: Annotated[
        Literal["parquet", "jsonl"], Parameter(name="--format", help="Format of the file.")
    ] = "parquet",
    where: Filter = None,
    since: Since = None,
    until: Until = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Write logged decisions to a Parquet or JSON Lines file, oldest first.

    A row has the fields that filters use, and the record as JSON text. `tenant` is a pseudonym:
    erasing a tenant also covers exported files.

    Exit codes: 0 exported; 1 the database or the file failed; 2 invalid usage.

    Example: assay audit export --format parquet --output decisions.parquet
    --since 2025-09-01T00:00:00Z

    Example: assay audit export --format jsonl --output exacto.jsonl
    --filter 'decision.variant == "exacto"'
    """
    query = parse_query(where, since, until)
    with open_auditor(url) as auditor:
        count = export(counted(auditor.records(query), "exporting"), output, WRITERS[format_])
    if json:
        print_json(
            {
                "decisions": count,
                "file": str(output),
                "since": utc(query.begin),
                "until": utc(query.until),
            }
        )
    else:
        console.print(f"exported {count} decisions to {output}", markup=False)
