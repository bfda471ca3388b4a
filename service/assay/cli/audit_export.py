"""`assay audit export`: write decisions to a file for DuckDB, ClickHouse, Spark or a script."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from assay.cli.audit_options import ALL_DECISIONS, Selection, open_auditor
from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, counted, print_json, utc
from assay.decision_log.export import WRITERS, export


def export_command(
    *,
    output: Annotated[
        Path, Parameter(help="File to write; an existing file is replaced when all is written.")
    ],
    format_: Annotated[
        Literal["parquet", "jsonl"], Parameter(name="--format", help="Format of the file.")
    ] = "parquet",
    selection: Selection = ALL_DECISIONS,
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
    query = selection.query()
    with open_auditor(url) as auditor:
        count = export(counted(auditor.records(query), "exporting"), output, WRITERS[format_])
    if json:
        times = {"since": utc(query.begin), "until": utc(query.until)}
        print_json({"decisions": count, "file": str(output), **times})
    else:
        console.print(f"exported {count} decisions to {output}")
