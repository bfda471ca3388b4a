"""Logs of Inspect AI, `.eval` (zip) or JSON: every score of a completed run, of any task.

OpenBench, which runs LiveMCPBench, writes them. A log names the measured endpoint only if the model
was called through OpenRouter (`openrouter/…`) and pinned to a provider; see `EndpointMention`.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from datetime import datetime

from assay.engine.canonical import canonical
from assay.engine.errors import BadData, quoted
from assay.engine.world.measurements import UNKNOWN, BenchmarkRun, Series
from assay.importers import cells, json_fields, scores
from assay.importers.cells import TENANT, InvalidItemError
from assay.importers.documents import (
    BenchmarkDocument,
    EndpointMention,
    Rejection,
    Rejections,
    ReportedRun,
)
from assay.importers.json_fields import Object, read_object
from assay.importers.packing import digest, unpacked

_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
_ENTRY_MAGIC = b"PK\x01\x02"
MANY_ENTRIES = 200_000
_ZSTANDARD = 93  # unknown to Python 3.11's zipfile; Inspect writes it since 0.3.285
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, _ZSTANDARD}
_ENCRYPTED = 0x1
_HEADER = "header.json"
HEADER_LIMIT = 16 * 1024 * 1024
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
    KeyError,
)


def _header(data: bytes) -> bytes:
    """Read the header of a zip file, at most `HEADER_LIMIT` bytes of it; raise BadData."""
    if data.count(_ENTRY_MAGIC) > MANY_ENTRIES:
        raise BadData(f"the zip file holds more than {MANY_ENTRIES} members")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entry = _header_entry(archive)
            if entry.compress_type == _ZSTANDARD:
                content = _zstandard_content(data, entry)
            else:
                with archive.open(entry) as packed:
                    content = packed.read(HEADER_LIMIT + 1)
    except _UNREADABLE as error:
        why = " ".join(str(error).split())[:200] or "cut off"
        raise BadData(f"broken zip file: {why}") from error
    if len(content) > HEADER_LIMIT:
        raise BadData(f"{_HEADER} holds more than {HEADER_LIMIT} bytes")
    return content


def _header_entry(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    found = [entry for entry in archive.infolist() if entry.filename == _HEADER]
    if not found:
        raise BadData(f"the zip file has no {_HEADER}")
    if len(found) > 1:
        raise BadData(f"the zip file has {_HEADER} {len(found)} times")
    (entry,) = found
    if entry.flag_bits & _ENCRYPTED:
        raise BadData(f"{_HEADER} is encrypted")
    if entry.compress_type not in _METHODS:
        why = f"compressed in an unreadable way, zip method {entry.compress_type}"
        raise BadData(f"{_HEADER} is {why}")
    return entry


def _zstandard_content(data: bytes, entry: zipfile.ZipInfo) -> bytes:
    """Return the content of a member, whose packed bytes follow its local header."""
    import pyarrow as pa  # noqa: PLC0415 - a slow import that few files need

    magic, name, extra = _LOCAL_HEADER.unpack_from(data, entry.header_offset)
    start = entry.header_offset + _LOCAL_HEADER.size + name + extra
    packed = data[start : start + entry.compress_size]
    if magic != _ZIP_MAGICS[0] or len(packed) != entry.compress_size:
        raise BadData(f"{quoted(entry.filename)} is cut off")
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        content: bytes = stream.read(HEADER_LIMIT + 1)
    if len(content) <= HEADER_LIMIT and zlib.crc32(content) != entry.CRC:
        raise BadData(f"{quoted(entry.filename)} is damaged: its checksum differs")
    return content


_JUDGES = ("grader_model", "judge_model", "grader", "judge")


def _judge_of(score: Object, eval_: Object) -> str:
    """Return the model that judged a score, by the settings of scorer, task or role; or unknown."""
    scorer = score.get("scorer")
    listed = eval_.get("scorers")
    known = listed if isinstance(listed, list) else []
    named = [each for each in known if isinstance(each, dict) and each.get("name") == scorer]
    own = [each.get("options") for each in named]
    roles = eval_.get("model_roles")
    places = (
        *((part, ("model", *_JUDGES)) for part in (score.get("params"), *own)),
        *((eval_.get(name), _JUDGES) for name in ("task_args", "task_args_passed")),
        (roles, _JUDGES),
    )
    for part, names in places:
        if isinstance(part, dict):
            for name in names:
                if found := _named(part.get(name)):
                    return cells.title("judge", found)
    return UNKNOWN


def _named(value: object) -> str:
    """Return the name of a model, of several, or of the model in a role."""
    if isinstance(value, dict):
        value = value.get("model")
    if isinstance(value, list):
        return " + ".join(each for each in value if isinstance(each, str))
    return value.strip() if isinstance(value, str) else ""


_VERSION = 2
_MANY_SCORES, _MANY_METRICS = 64, 256
_ROUTER = "openrouter/"
_SHARES = ("accuracy", "_accuracy")  # suffixes of metrics that are fractions
_NO_SCORES = ("stderr", "std", "var", "_count")  # suffixes of metrics that are not scores


@dataclass(frozen=True, slots=True)
class _LogRun:
    """What all scores of a log share; `eval_` is its part `eval`."""

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
    """Read one log; one that is not valid, or whose run did not complete, is a rejection."""
    try:
        log = read_object(_header(data) if data.startswith(_ZIP_MAGICS) else unpacked(data))
        run = _run(log, source)
        return BenchmarkDocument(digest(data), *_scores(run, _subject(run.eval_)))
    except (BadData, InvalidItemError) as error:
        return BenchmarkDocument(digest(data), rejected=(Rejection("log", str(error)),))


def _run(log: Object, source: str) -> _LogRun:
    if log.get("version") != _VERSION:
        raise InvalidItemError(
            "version", json_fields.shown(log.get("version")), f"{_VERSION}, the known format"
        )
    status = json_fields.text("status", log.get("status"))
    if status != "success":  # whatever scores it has
        raise InvalidItemError("status", status, "success: the run did not complete")
    if log.get("invalidated"):
        raise InvalidItemError("invalidated", "true", "false: the run was withdrawn")
    eval_ = json_fields.an_object("eval", log.get("eval"))
    results = json_fields.an_object("results", log.get("results"))
    total, done = (_count(results, name) for name in ("total_samples", "completed_samples"))
    scores.completed("results.completed_samples", done, total)
    config = json_fields.part(eval_, "config")
    trials = json_fields.whole(config, "epochs")
    return _LogRun(
        log=log,
        eval_=eval_,
        source=source,
        suite=json_fields.name("eval.task", eval_.get("task"), scores.SUITE),
        version=_version(eval_, config),
        run=_run_id(eval_),
        run_at=_ended_at(log, eval_),
        total=total,
        completed=done,
        trials=None if trials is None else scores.trials("eval.config.epochs", trials),
    )


def _count(results: Object, name: str) -> int:
    value = json_fields.whole(results, name)
    if value is None:
        raise InvalidItemError(f"results.{name}", "null", "a whole number")
    return value


def _version(eval_: Object, config: Object) -> str:
    """Return a version that differs for other tasks: by its own version, limit and arguments."""
    if config.get("sample_id") is not None:
        raise InvalidItemError(
            "eval.config.sample_id",
            "a choice of samples",
            "missing: the score is not of the whole suite",
        )
    version = json_fields.number_text("eval.task_version", eval_.get("task_version", 0))
    limit = config.get("limit")
    if limit is not None:
        field = "eval.config.limit"
        span = json_fields.a_list(field, limit, 2) if isinstance(limit, list) else [limit]
        version += "+limit=" + "-".join(json_fields.number_text(field, each) for each in span)
    passed = "task_args_passed" if "task_args_passed" in eval_ else "task_args"
    stated = json_fields.part(eval_, passed)
    arguments = {name: value for name, value in stated.items() if name not in _JUDGES}
    if arguments:
        try:
            version += f"+arguments={hashlib.sha256(canonical(arguments)).hexdigest()[:8]}"
        except ValueError as error:  # NaN, or a lone surrogate
            raise InvalidItemError("eval.task_args", "an object", "valid JSON") from error
    return scores.VERSION("eval.task_version", version)


def _run_id(eval_: Object) -> str:
    """Return the run's id; logs from before 2025 have none of their own."""
    names = ("eval_id",) if eval_.get("eval_id") is not None else ("run_id", "task_id")
    parts = (json_fields.text(f"eval.{name}", eval_.get(name)) for name in names)
    return TENANT("eval.eval_id", "/".join(parts))


def _ended_at(log: Object, eval_: Object) -> datetime:
    ended = json_fields.part(log, "stats").get("completed_at") or None
    field, value = (
        ("eval.created", eval_.get("created")) if ended is None else ("stats.completed_at", ended)
    )
    return cells.moment(field, json_fields.text(field, value))


def _subject(eval_: Object) -> EndpointMention:
    """Return the model and providers that the log names.

    Only logs of calls through OpenRouter use the catalog's names.
    """
    model = json_fields.text("eval.model", eval_.get("model"))
    if not model.startswith(_ROUTER):
        return EndpointMention("eval.model")
    name = cells.MODEL("eval.model", model.removeprefix(_ROUTER))
    return EndpointMention("eval.model_args", name, _pins(json_fields.part(eval_, "model_args")))


def _pins(arguments: Object) -> tuple[str, ...]:
    """Read the providers that were passed to OpenRouter.

    OpenBench passes them as `only`, Inspect as `provider.only`.
    """
    stated = arguments.get("only") or json_fields.part(arguments, "provider").get("only") or []
    field, names = "eval.model_args.only", stated.split(",") if isinstance(stated, str) else stated
    listed = json_fields.a_list(field, names, cells.MANY_WORDS)
    texts = (json_fields.text(field, name).strip() for name in listed)
    return tuple(dict.fromkeys(cells.title(field, text) for text in texts))


def _scores(
    run: _LogRun, subject: EndpointMention
) -> tuple[tuple[ReportedRun, ...], tuple[Rejection, ...]]:
    """Read every score, or reject it with its place."""
    results = json_fields.an_object("results", run.log.get("results"))
    items = json_fields.a_list("results.scores", results.get("scores"), _MANY_SCORES)
    if not items:
        raise InvalidItemError("results.scores", "an empty list", "a list with a score")
    rows: list[ReportedRun] = []
    rejected = Rejections()
    for place, item in enumerate(items):
        with rejected.at(f"results.scores[{place}]"):
            score = json_fields.an_object("score", item)
            for name, metric in _metrics(score).items():
                where = f"results.scores[{place}].metrics.{quoted(name)[1:-1]}"
                with rejected.at(where):
                    rows.append(ReportedRun(where, subject, _score(run, score, name, metric)))
    return tuple(rows), tuple(rejected)


def _metrics(score: Object) -> Object:
    """Return the scores of a scorer; reject it if the log shows that it skipped samples."""
    scored, unscored = (
        json_fields.whole(score, name) for name in ("scored_samples", "unscored_samples")
    )
    if scored is not None and unscored:
        scores.completed("scored_samples", scored, scored + unscored)
    metrics = json_fields.an_object("metrics", score.get("metrics"))
    if len(metrics) > _MANY_METRICS:
        raise InvalidItemError(
            "metrics", f"{len(metrics)} items", f"an object of at most {_MANY_METRICS}"
        )
    found = {name: metric for name, metric in metrics.items() if not name.endswith(_NO_SCORES)}
    if not found:
        raise InvalidItemError("metrics", ", ".join(metrics), "an object with a score")
    return found


def _score(run: _LogRun, score: Object, name: str, metric: object) -> BenchmarkRun:
    unit = "fraction" if name.endswith(_SHARES) else "number"
    value = json_fields.an_object(name, metric).get("value")
    commit, field = json_fields.part(run.eval_, "revision").get("commit"), "eval.revision.commit"
    judge = _judge_of(score, run.eval_)
    return BenchmarkRun(
        endpoint_id="",
        source=run.source,
        series=Series(run.suite, run.version, judge, _metric(score, name), unit),
        score=scores.score(name, json_fields.number_text(name, value), unit),
        run_at=run.run_at,
        run=run.run,
        tasks_total=run.total,
        tasks_completed=run.completed,
        trials=run.trials,
        source_revision=None
        if commit is None
        else cells.title(field, json_fields.text(field, commit)),
    )


def _metric(score: Object, name: str) -> str:
    """Return a metric's name with its scorer, and its reducer of trials unless that is the mean."""
    parts, reducer = [json_fields.text("name", score.get("name")), name], score.get("reducer")
    if reducer not in {None, "mean"}:
        parts.append(json_fields.text("reducer", reducer))
    return scores.METRIC("metric", "_".join("/".join(parts).split()))
