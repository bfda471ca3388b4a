"""Inspect AI logs, `.eval` (zip) or JSON: every score of a run that came to its end, whatever the task.

OpenBench, which runs LiveMCPBench, writes these. Which endpoint was measured stands in the log only where OpenRouter
was asked (`openrouter/…`) and the run was pinned to a provider; see `EndpointMention`.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from assay.engine.canonical import canonical
from assay.engine.errors import BadData, quoted
from assay.engine.world.measurements import UNKNOWN, BenchmarkRun, Series
from assay.importers import cells, json_fields, scores
from assay.importers.cells import TENANT, InvalidItemError
from assay.importers.documents import BenchmarkDocument, EndpointMention, Rejection, ReportedRun
from assay.importers.json_fields import Object, read_object
from assay.importers.packing import digest, unpacked

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
ENTRY_MAGIC = b"PK\x01\x02"
MANY_ENTRIES = 200_000
ZSTANDARD = (
    93  # a method that Python 3.11's zipfile does not know; written by Inspect since 0.3.285
)
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, ZSTANDARD}
ENCRYPTED = 0x1
LOCAL_HEADER = struct.Struct("<4s22xHH")
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
    KeyError,
)


def is_zip(data: bytes) -> bool:
    """Whether the bytes begin as a zip file does."""
    return data.startswith(ZIP_MAGICS)


def member(data: bytes, name: str, limit: int) -> bytes:
    """Read the one member of that name; never holds more than `limit` bytes of it. Raises BadData."""
    if data.count(ENTRY_MAGIC) > MANY_ENTRIES:
        raise BadData(f"the zip file holds more than {MANY_ENTRIES} members")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            content = _content(data, archive, _entry(archive, name), limit)
    except UNREADABLE as error:
        raise BadData(
            f"broken zip file: {' '.join(str(error).split())[:200] or 'cut off'}"
        ) from error
    if len(content) > limit:
        raise BadData(f"{name} holds more than {limit} bytes")
    return content


def _entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    found = [entry for entry in archive.infolist() if entry.filename == name]
    if not found:
        raise BadData(f"the zip file has no {name}")
    if len(found) > 1:
        raise BadData(f"the zip file has {name} {len(found)} times")
    (entry,) = found
    if entry.flag_bits & ENCRYPTED:
        raise BadData(f"{name} is encrypted")
    if entry.compress_type not in METHODS:
        raise BadData(
            f"{name} is compressed in an unreadable way, zip method {entry.compress_type}"
        )
    return entry


def _content(data: bytes, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    if entry.compress_type != ZSTANDARD:
        with archive.open(entry) as packed:
            return packed.read(limit + 1)
    content = _unpacked(_packed(data, entry), limit)
    if len(content) <= limit and zlib.crc32(content) != entry.CRC:
        raise BadData(f"{quoted(entry.filename)} is damaged: its checksum differs")
    return content


def _packed(data: bytes, entry: zipfile.ZipInfo) -> bytes:
    """Find the member's own bytes, which the local header stands before."""
    magic, name, extra = LOCAL_HEADER.unpack_from(data, entry.header_offset)
    start = entry.header_offset + LOCAL_HEADER.size + name + extra
    packed = data[start : start + entry.compress_size]
    if magic != ZIP_MAGICS[0] or len(packed) != entry.compress_size:
        raise BadData(f"{quoted(entry.filename)} is cut off")
    return packed


def _unpacked(packed: bytes, limit: int) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - takes a tenth of a second that other files need not pay

    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        found: bytes = stream.read(limit + 1)
    return found


JUDGES = ("grader_model", "judge_model", "grader", "judge")


def judge_of(score: Object, eval_: Object) -> str:
    """Name the model that judged a score: by the scorer's own settings, the task's, or the model's role; or unknown."""
    scorer = score.get("scorer")
    listed = eval_.get("scorers")
    own = (
        [each.get("options") for each in listed if _is(each, scorer)]
        if isinstance(listed, list)
        else []
    )
    roles = eval_.get("model_roles")
    places = (
        *((part, ("model", *JUDGES)) for part in (score.get("params"), *own)),
        *((eval_.get(name), JUDGES) for name in ("task_args", "task_args_passed")),
        (roles, JUDGES),
    )
    for part, names in places:
        if isinstance(part, dict):
            for name in names:
                if found := _named(part.get(name)):
                    return cells.title("judge", found)
    return UNKNOWN


def _is(item: object, scorer: object) -> bool:
    return isinstance(item, dict) and item.get("name") == scorer


def _named(value: object) -> str:
    """Spell a model, several of them, or a role that a model plays."""
    if isinstance(value, dict):
        value = value.get("model")
    if isinstance(value, list):
        return " + ".join(each for each in value if isinstance(each, str))
    return value.strip() if isinstance(value, str) else ""


VERSION = 2
HEADER = "header.json"
HEADER_LIMIT = 16 * 1024 * 1024
MANY_SCORES, MANY_METRICS = 64, 256
ROUTER = "openrouter/"
SHARES = ("accuracy", "_accuracy")  # how names of metrics that are fractions end
NO_SCORES = ("stderr", "std", "var", "_count")  # how names of metrics that are no scores end


@dataclass(frozen=True, slots=True)
class Run:
    """What all scores of a log have in common; `log` and `eval_` are the log itself and its part `eval`."""

    log: Object
    eval_: Object
    source: str
    suite: str
    version: str
    run: str
    run_at: datetime
    total: int
    completed: int
    trials: int | None


def read_inspect(data: bytes, *, source: str = "inspect") -> BenchmarkDocument:
    """Read one log; a log that cannot be read, or whose run did not come to its end, is a refusal."""
    try:
        log = read_object(member(data, HEADER, HEADER_LIMIT) if is_zip(data) else unpacked(data))
        run = _run(log, source)
        subject, found = _subject(run.eval_), list(_scores(run))
    except (BadData, InvalidItemError) as error:
        return BenchmarkDocument(digest(data), rejected=(Rejection("log", str(error)),))
    return BenchmarkDocument(
        digest(data),
        tuple(
            ReportedRun(where, subject, score)
            for where, score in found
            if isinstance(score, BenchmarkRun)
        ),
        tuple(Rejection(where, score) for where, score in found if isinstance(score, str)),
    )


def _run(log: Object, source: str) -> Run:
    if log.get("version") != VERSION:
        raise InvalidItemError(
            "version", json_fields.shown(log.get("version")), f"{VERSION}, the form that is known"
        )
    _check_ended(log)
    eval_ = json_fields.an_object("eval", log.get("eval"))
    results = json_fields.an_object("results", log.get("results"))
    total, done = (_count(results, name) for name in ("total_samples", "completed_samples"))
    scores.completed("results.completed_samples", done, total)
    config = _part(eval_, "config")
    trials = json_fields.whole(config, "epochs")
    return Run(
        log=log,
        eval_=eval_,
        source=source,
        suite=cells.named(
            "eval.task", json_fields.text("eval.task", eval_.get("task")), scores.SUITE
        ),
        version=_version(eval_, config),
        run=_run_id(eval_),
        run_at=_ended_at(log, eval_),
        total=total,
        completed=done,
        trials=None if trials is None else scores.trials("eval.config.epochs", trials),
    )


def _check_ended(log: Object) -> None:
    """Refuse what Inspect itself does not call a success, whatever scores stand in it."""
    status = json_fields.text("status", log.get("status"))
    if status != "success":
        raise InvalidItemError("status", status, "success: the run did not come to its end")
    if log.get("invalidated"):
        raise InvalidItemError("invalidated", "true", "false: who ran it took it back")


def _count(results: Object, name: str) -> int:
    value = json_fields.whole(results, name)
    if value is None:
        raise InvalidItemError(f"results.{name}", "null", "a whole number")
    return value


def _part(item: Object, name: str) -> Object:
    value = item.get(name)
    return {} if value is None else json_fields.an_object(name, value)


def _version(eval_: Object, config: Object) -> str:
    """Tell runs apart that did not ask the same: by the task's version, its arguments and how much of it was run."""
    if config.get("sample_id") is not None:
        raise InvalidItemError(
            "eval.config.sample_id", "a choice of samples", "absent: the score is not of the suite"
        )
    version = json_fields.number_text("eval.task_version", eval_.get("task_version", 0))
    limit = config.get("limit")
    if limit is not None:
        span = (
            json_fields.a_list("eval.config.limit", limit, 2)
            if isinstance(limit, list)
            else [limit]
        )
        version += "+limit=" + "-".join(
            json_fields.number_text("eval.config.limit", each) for each in span
        )
    stated = _part(eval_, "task_args_passed" if "task_args_passed" in eval_ else "task_args")
    arguments = {name: value for name, value in stated.items() if name not in JUDGES}
    if arguments:
        version += f"+arguments={_fingerprint(arguments)}"
    return cells.named("eval.task_version", version, scores.VERSION)


def _fingerprint(arguments: Object) -> str:
    try:
        return hashlib.sha256(canonical(arguments)).hexdigest()[:8]
    except ValueError as error:  # NaN, or half a surrogate pair
        raise InvalidItemError("eval.task_args", "an object", "JSON that can be written") from error


def _run_id(eval_: Object) -> str:
    """Name the run; logs from before 2025 have no id of their own."""
    names = ("eval_id",) if eval_.get("eval_id") is not None else ("run_id", "task_id")
    parts = (json_fields.text(f"eval.{name}", eval_.get(name)) for name in names)
    return cells.named("eval.eval_id", "/".join(parts), TENANT)


def _ended_at(log: Object, eval_: Object) -> datetime:
    ended = _part(log, "stats").get("completed_at") or None
    field, value = (
        ("eval.created", eval_.get("created")) if ended is None else ("stats.completed_at", ended)
    )
    return cells.moment(field, json_fields.text(field, value))


def _subject(eval_: Object) -> EndpointMention:
    """Say which model and providers the log names; only OpenRouter's names are the catalog's."""
    model = json_fields.text("eval.model", eval_.get("model"))
    if not model.startswith(ROUTER):
        return EndpointMention("eval.model")
    name = cells.named("eval.model", model.removeprefix(ROUTER), cells.MODEL)
    return EndpointMention("eval.model_args", name, _pins(_part(eval_, "model_args")))


def _pins(arguments: Object) -> tuple[str, ...]:
    """Read what OpenBench (`only`) or Inspect itself (`provider.only`) handed to OpenRouter."""
    stated = arguments.get("only") or _part(arguments, "provider").get("only") or ()
    names = stated.split(",") if isinstance(stated, str) else stated
    listed = json_fields.a_list(
        "eval.model_args.only", list(names) if names == () else names, cells.MANY_WORDS
    )
    texts = (json_fields.text("eval.model_args.only", name).strip() for name in listed)
    return tuple(dict.fromkeys(cells.title("eval.model_args.only", text) for text in texts))


def _scores(run: Run) -> Iterator[tuple[str, BenchmarkRun | str]]:
    """Yield every score with its place, or why it cannot be taken."""
    results = json_fields.an_object("results", run.log.get("results"))
    items = json_fields.a_list("results.scores", results.get("scores"), MANY_SCORES)
    if not items:
        raise InvalidItemError("results.scores", "an empty list", "a list with a score")
    for place, item in enumerate(items):
        where = f"results.scores[{place}]"
        try:
            score = json_fields.an_object("score", item)
            metrics = _metrics(score)
        except InvalidItemError as error:
            yield where, str(error)
            continue
        for name, metric in metrics.items():
            yield f"{where}.metrics.{quoted(name)[1:-1]}", _score(run, score, name, metric)


def _metrics(score: Object) -> Object:
    """Give what a scorer measured; refuses a score over a part of the samples, where the log tells."""
    scored, unscored = (
        json_fields.whole(score, name) for name in ("scored_samples", "unscored_samples")
    )
    if scored is not None and unscored:
        scores.completed("scored_samples", scored, scored + unscored)
    metrics = json_fields.an_object("metrics", score.get("metrics"))
    if len(metrics) > MANY_METRICS:
        raise InvalidItemError(
            "metrics", f"{len(metrics)} items", f"an object of at most {MANY_METRICS}"
        )
    found = {name: metric for name, metric in metrics.items() if not name.endswith(NO_SCORES)}
    if not found:
        raise InvalidItemError("metrics", ", ".join(metrics), "an object with a score")
    return found


def _score(run: Run, score: Object, name: str, metric: object) -> BenchmarkRun | str:
    try:
        unit = "fraction" if name.endswith(SHARES) else "number"
        value = json_fields.an_object(name, metric).get("value")
        commit = _part(run.eval_, "revision").get("commit")
        return BenchmarkRun(
            endpoint_id="",
            source=run.source,
            series=Series(
                run.suite, run.version, judge_of(score, run.eval_), _metric(score, name), unit
            ),
            score=scores.score(name, json_fields.number_text(name, value), unit),
            run_at=run.run_at,
            run=run.run,
            tasks_total=run.total,
            tasks_completed=run.completed,
            trials=run.trials,
            source_revision=None
            if commit is None
            else cells.title("eval.revision.commit", _text(commit)),
        )
    except InvalidItemError as error:
        return str(error)


def _text(commit: object) -> str:
    return json_fields.text("eval.revision.commit", commit)


def _metric(score: Object, name: str) -> str:
    """Name a metric with its scorer, and with the way trials were put together where that is not their mean."""
    scorer, reducer = json_fields.text("name", score.get("name")), score.get("reducer")
    parts = (
        [scorer, name]
        if reducer in {None, "mean"}
        else [scorer, name, json_fields.text("reducer", reducer)]
    )
    return cells.named("metric", "_".join("/".join(parts).split()), scores.METRIC)
