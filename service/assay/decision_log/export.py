"""Exporting decisions to a file, Parquet or JSON lines, with the same columns."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import orjson
from sqlalchemy import Integer

from assay.decision_log.decision_row import ROW_COLUMNS, WORD_KINDS, derive_row
from assay.decision_log.streams import LoggedRecord
from assay.engine.errors import OperatorError, quoted

Write = Callable[[list[dict[str, Any]]], None]
ExportFormat = Callable[[IO[bytes]], AbstractContextManager[Write]]

_PIECE: Final = 5000
_PRIVATE: Final = 0o600
_NUMBERS: Final = frozenset(
    name for name, column in ROW_COLUMNS.items() if isinstance(column.sql_type, Integer)
)
_COLUMNS: Final = tuple(name for name in ROW_COLUMNS if name != "finding_set")


class ExportFailed(OperatorError):
    """The file cannot be written, or a record cannot be read."""


def export(records: Iterable[LoggedRecord], path: Path, format_: ExportFormat) -> int:
    """Write every decision to a file, atomically; return how many."""
    rows, count = map(_row_of, records), 0
    try:
        with _replacing(path) as file, format_(file) as write:
            while piece := list(islice(rows, _PIECE)):
                write(piece)
                count += len(piece)
    except OSError as error:
        raise ExportFailed(f"file {quoted(str(path))}: {error.strerror or error}") from error
    return count


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` at the end, unless there is an error."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, _PRIVATE), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _row_of(logged: LoggedRecord) -> dict[str, Any]:
    """Return the row of a record, derived from its bytes except for its place in the log."""
    try:
        derived, text = derive_row(logged.payload), logged.payload.decode()
    except ValueError as error:
        place = f"record {logged.seq} of stream {logged.stream}"
        raise ExportFailed(f"{place} cannot be read: {error}; run `assay audit verify`") from error
    return {
        "stream": logged.stream,
        "seq": logged.seq,
        **{name: getattr(derived, name) for name in _COLUMNS},
        **{f"{kind}s": list(derived.words.get(kind, ())) for kind in WORD_KINDS},
        "record": text,
    }


@contextmanager
def jsonl(file: IO[bytes]) -> Iterator[Write]:
    """Write one JSON object per line."""

    def write(rows: list[dict[str, Any]]) -> None:
        file.writelines(
            orjson.dumps(row, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE) for row in rows
        )

    yield write


@contextmanager
def parquet(file: IO[bytes]) -> Iterator[Write]:
    """Write Parquet, one row group per piece; times are in microseconds, UTC."""
    import pyarrow as pa  # noqa: PLC0415 - importing takes 0.1 s
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    number, text, words = pa.int64(), pa.string(), pa.list_(pa.string())
    schema = pa.schema(
        [
            ("stream", text),
            ("seq", number),
            *((name, number if name in _NUMBERS else text) for name in _COLUMNS),
            *((f"{kind}s", words) for kind in WORD_KINDS),
            ("record", text),
        ]
    )
    place = schema.get_field_index("decided_at")
    schema = schema.set(place, pa.field("decided_at", pa.timestamp("us", tz="UTC")))
    with pq.ParquetWriter(file, schema, compression="zstd") as into:
        yield lambda rows: into.write_table(pa.Table.from_pylist(rows, schema=schema))


WRITERS: Final[dict[str, ExportFormat]] = {"parquet": parquet, "jsonl": jsonl}
