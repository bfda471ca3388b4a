"""Export: decisions as a file of rows, Parquet or JSON lines, both with the same columns."""

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

Row = dict[str, Any]
Write = Callable[[list[Row]], None]
Writer = Callable[[IO[bytes]], AbstractContextManager[Write]]

PIECE: Final = 5000
_NUMBERS: Final = frozenset(
    name for name, column in ROW_COLUMNS.items() if isinstance(column.sql_type, Integer)
)
_COLUMNS: Final = tuple(name for name in ROW_COLUMNS if name != "finding_set")


class ExportFailed(OperatorError):
    """The file could not be written, or a record in the log not be read."""


def export(records: Iterable[LoggedRecord], path: Path, writer: Writer) -> int:
    """Write every decision to a file that appears whole or not at all; says how many there were."""
    rows, count = map(row_of, records), 0
    try:
        with appearing(path) as file, writer(file) as write:
            while piece := list(islice(rows, PIECE)):
                write(piece)
                count += len(piece)
    except OSError as error:
        raise ExportFailed(f"file {quoted(str(path))}: {error.strerror or error}") from error
    return count


@contextmanager
def appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file beside its place, which takes it when all went well."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def row_of(logged: LoggedRecord) -> Row:
    """A record as a row: all of it is derived from its bytes, save its place in the log."""
    try:
        derived, text = derive_row(logged.payload), logged.payload.decode()
    except ValueError as error:
        place = f"record {logged.seq} of stream {logged.stream}"
        raise ExportFailed(
            f"{place} cannot be read: {error}; `assay audit verify` says more"
        ) from error
    return {
        "stream": logged.stream,
        "seq": logged.seq,
        **{name: getattr(derived, name) for name in _COLUMNS},
        **{f"{kind}s": list(derived.words.get(kind, ())) for kind in WORD_KINDS},
        "record": text,
    }


@contextmanager
def jsonl(file: IO[bytes]) -> Iterator[Write]:
    """One JSON object a line."""

    def write(rows: list[Row]) -> None:
        file.writelines(
            orjson.dumps(row, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE) for row in rows
        )

    yield write


@contextmanager
def parquet(file: IO[bytes]) -> Iterator[Write]:
    """Parquet with one group of rows a piece; times are in microseconds, UTC."""
    import pyarrow as pa  # noqa: PLC0415 - takes a tenth of a second that other commands need not pay
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


WRITERS: Final[dict[str, Writer]] = {"parquet": parquet, "jsonl": jsonl}
