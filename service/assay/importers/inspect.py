"""Inspect AI logs, `.eval` (zip) or JSON: every score of a run that came to its end, whatever the task.

OpenBench, which runs LiveMCPBench, writes these. Which endpoint was measured stands in the log only where OpenRouter
was asked (`openrouter/…`) and the run was pinned to a provider; see `Subject`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from assay.engine.benchmark import BenchmarkRun, Series
from assay.engine.canonical import canonical
from assay.engine.document import BenchmarkDocument, Refusal, ReportedRun, Subject
from assay.engine.errors import BadData, quoted
from assay.importers import cells, json_fields, scores
from assay.importers.archive import is_zip, member
from assay.importers.cells import TENANT, RefusedError
from assay.importers.inspect_judge import JUDGES, judge_of
from assay.importers.json_text import read_object
from assay.importers.packing import digest, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assay.importers.json_fields import Object

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
    except (BadData, RefusedError) as error:
        return BenchmarkDocument(digest(data), refused=(Refusal("log", str(error)),))
    return BenchmarkDocument(
        digest(data),
        tuple(ReportedRun(where, subject, score) for where, score in found if isinstance(score, BenchmarkRun)),
        tuple(Refusal(where, score) for where, score in found if isinstance(score, str)),
    )


def _run(log: Object, source: str) -> Run:
    if log.get("version") != VERSION:
        raise RefusedError("version", json_fields.shown(log.get("version")), f"{VERSION}, the form that is known")
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
        suite=cells.named("eval.task", json_fields.text("eval.task", eval_.get("task")), scores.SUITE),
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
        raise RefusedError("status", status, "success: the run did not come to its end")
    if log.get("invalidated"):
        raise RefusedError("invalidated", "true", "false: who ran it took it back")


def _count(results: Object, name: str) -> int:
    value = json_fields.whole(results, name)
    if value is None:
        raise RefusedError(f"results.{name}", "null", "a whole number")
    return value


def _part(item: Object, name: str) -> Object:
    value = item.get(name)
    return {} if value is None else json_fields.an_object(name, value)


def _version(eval_: Object, config: Object) -> str:
    """Tell runs apart that did not ask the same: by the task's version, its arguments and how much of it was run."""
    if config.get("sample_id") is not None:
        raise RefusedError("eval.config.sample_id", "a choice of samples", "absent: the score is not of the suite")
    version = json_fields.number_text("eval.task_version", eval_.get("task_version", 0))
    limit = config.get("limit")
    if limit is not None:
        span = json_fields.a_list("eval.config.limit", limit, 2) if isinstance(limit, list) else [limit]
        version += "+limit=" + "-".join(json_fields.number_text("eval.config.limit", each) for each in span)
    stated = _part(eval_, "task_args_passed" if "task_args_passed" in eval_ else "task_args")
    arguments = {name: value for name, value in stated.items() if name not in JUDGES}
    if arguments:
        version += f"+arguments={_fingerprint(arguments)}"
    return cells.named("eval.task_version", version, scores.VERSION)


def _fingerprint(arguments: Object) -> str:
    try:
        return hashlib.sha256(canonical(arguments)).hexdigest()[:8]
    except ValueError as error:  # NaN, or half a surrogate pair
        raise RefusedError("eval.task_args", "an object", "JSON that can be written") from error


def _run_id(eval_: Object) -> str:
    """Name the run; logs from before 2025 have no id of their own."""
    names = ("eval_id",) if eval_.get("eval_id") is not None else ("run_id", "task_id")
    parts = (json_fields.text(f"eval.{name}", eval_.get(name)) for name in names)
    return cells.named("eval.eval_id", "/".join(parts), TENANT)


def _ended_at(log: Object, eval_: Object) -> datetime:
    ended = _part(log, "stats").get("completed_at") or None
    field, value = ("eval.created", eval_.get("created")) if ended is None else ("stats.completed_at", ended)
    return cells.moment(field, json_fields.text(field, value))


def _subject(eval_: Object) -> Subject:
    """Say which model and providers the log names; only OpenRouter's names are the catalog's."""
    model = json_fields.text("eval.model", eval_.get("model"))
    if not model.startswith(ROUTER):
        return Subject("eval.model")
    name = cells.named("eval.model", model.removeprefix(ROUTER), cells.MODEL)
    return Subject("eval.model_args", name, _pins(_part(eval_, "model_args")))


def _pins(arguments: Object) -> tuple[str, ...]:
    """Read what OpenBench (`only`) or Inspect itself (`provider.only`) handed to OpenRouter."""
    stated = arguments.get("only") or _part(arguments, "provider").get("only") or ()
    names = stated.split(",") if isinstance(stated, str) else stated
    listed = json_fields.a_list("eval.model_args.only", list(names) if names == () else names, cells.MANY_WORDS)
    texts = (json_fields.text("eval.model_args.only", name).strip() for name in listed)
    return tuple(dict.fromkeys(cells.title("eval.model_args.only", text) for text in texts))


def _scores(run: Run) -> Iterator[tuple[str, BenchmarkRun | str]]:
    """Yield every score with its place, or why it cannot be taken."""
    results = json_fields.an_object("results", run.log.get("results"))
    items = json_fields.a_list("results.scores", results.get("scores"), MANY_SCORES)
    if not items:
        raise RefusedError("results.scores", "an empty list", "a list with a score")
    for place, item in enumerate(items):
        where = f"results.scores[{place}]"
        try:
            score = json_fields.an_object("score", item)
            metrics = _metrics(score)
        except RefusedError as error:
            yield where, str(error)
            continue
        for name, metric in metrics.items():
            yield f"{where}.metrics.{quoted(name)[1:-1]}", _score(run, score, name, metric)


def _metrics(score: Object) -> Object:
    """Give what a scorer measured; refuses a score over a part of the samples, where the log tells."""
    scored, unscored = (json_fields.whole(score, name) for name in ("scored_samples", "unscored_samples"))
    if scored is not None and unscored:
        scores.completed("scored_samples", scored, scored + unscored)
    metrics = json_fields.an_object("metrics", score.get("metrics"))
    if len(metrics) > MANY_METRICS:
        raise RefusedError("metrics", f"{len(metrics)} items", f"an object of at most {MANY_METRICS}")
    found = {name: metric for name, metric in metrics.items() if not name.endswith(NO_SCORES)}
    if not found:
        raise RefusedError("metrics", ", ".join(metrics), "an object with a score")
    return found


def _score(run: Run, score: Object, name: str, metric: object) -> BenchmarkRun | str:
    try:
        unit = "fraction" if name.endswith(SHARES) else "number"
        value = json_fields.an_object(name, metric).get("value")
        commit = _part(run.eval_, "revision").get("commit")
        return BenchmarkRun(
            endpoint_id="",
            source=run.source,
            series=Series(run.suite, run.version, judge_of(score, run.eval_), _metric(score, name), unit),
            score=scores.score(name, json_fields.number_text(name, value), unit),
            run_at=run.run_at,
            run=run.run,
            tasks_total=run.total,
            tasks_completed=run.completed,
            trials=run.trials,
            source_revision=None if commit is None else cells.title("eval.revision.commit", _text(commit)),
        )
    except RefusedError as error:
        return str(error)


def _text(commit: object) -> str:
    return json_fields.text("eval.revision.commit", commit)


def _metric(score: Object, name: str) -> str:
    """Name a metric with its scorer, and with the way trials were put together where that is not their mean."""
    scorer, reducer = json_fields.text("name", score.get("name")), score.get("reducer")
    parts = [scorer, name] if reducer in {None, "mean"} else [scorer, name, json_fields.text("reducer", reducer)]
    return cells.named("metric", "_".join("/".join(parts).split()), scores.METRIC)
