"""tau2-bench: results of a run, as one file or as `results.json` beside `simulations/`, and leaderboard submissions.

A run's score is pass^k, the mean over its tasks of C(successes, k) / C(trials, k); a success is a reward of 1, and runs
that ended in an infrastructure error are left out. None of the forms says who hosted the model, so the endpoint is the
operator's to name. The user simulator is kept as the judge: it shapes scores as a judge does.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from math import comb
from typing import TYPE_CHECKING

from assay.engine.benchmark import UNKNOWN, BenchmarkRun, Series
from assay.engine.document import BenchmarkDocument, Refusal, ReportedRun, Subject
from assay.engine.errors import BadData
from assay.importers import cells, json_fields, scores
from assay.importers.cells import RefusedError
from assay.importers.json_text import read_object
from assay.importers.packing import digest, unpacked
from assay.importers.tau2_simulations import gathered
from assay.importers.tau2_submission import read_submission

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from assay.importers.json_fields import Object
    from assay.importers.tau2_simulations import Simulation

SUBMISSION = "model_organization"  # a key that submissions have and results have not
ROUTER = "openrouter/"
MANY_TASKS = 100_000
SUCCESS = 1 - 1e-6
SHORT = 12


@dataclass(frozen=True, slots=True)
class Setting:
    """What all figures of a results file have in common."""

    suite: str
    version: str
    judge: str
    trials: int
    tasks: tuple[str, ...]
    run_at: datetime
    run: str


def read_tau2(
    data: bytes, simulations: Iterable[tuple[str, bytes]] | None = None, *, source: str = "tau2"
) -> BenchmarkDocument:
    """Read a results file or a submission; `simulations` are the files of the directory form by name, if it is one.

    What cannot be read is a refusal.
    """
    try:
        item = read_object(unpacked(data))
        read = read_submission(item, source) if SUBMISSION in item else _results(item, simulations, source)
    except (BadData, RefusedError) as error:
        return BenchmarkDocument(digest(data), refused=(Refusal("file", str(error)),))
    return BenchmarkDocument(digest(data), *read)


def _results(
    item: Object, files: Iterable[tuple[str, bytes]] | None, source: str
) -> tuple[tuple[ReportedRun, ...], tuple[Refusal, ...]]:
    if not item.keys() >= {"info", "tasks"}:
        raise BadData("neither tau2 results, which have info and tasks, nor a submission, which has model_organization")
    info = json_fields.an_object("info", item.get("info"))
    setting = _setting(item, info)
    simulations, refused = gathered(item, files, setting.tasks, setting.trials)
    judged = [each for each in simulations if each.reward is not None]
    expected = len(setting.tasks) * setting.trials
    try:
        scores.completed("simulations", len(judged), expected)
    except RefusedError as error:
        return (), (*refused, Refusal("file", str(error)))
    runs = (
        BenchmarkRun(
            endpoint_id="",
            source=source,
            series=Series(setting.suite, setting.version, setting.judge, f"pass^{k}", "fraction"),
            score=score,
            run_at=setting.run_at,
            run=setting.run,
            tasks_total=expected,
            tasks_completed=len(judged),
            trials=setting.trials,
            source_revision=_commit(info),
        )
        for k, score in passes(judged).items()
    )
    subject = _subject(info)
    return tuple(ReportedRun(run.series.metric, subject, run) for run in runs), tuple(refused)


def passes(simulations: Iterable[Simulation]) -> Mapping[int, float]:
    """Work out pass^k, for every k up to the fewest trials that any task has."""
    tasks: dict[str, list[bool]] = defaultdict(list)
    for each in simulations:
        if each.reward is not None:
            tasks[each.task].append(each.reward >= SUCCESS)
    most = min(map(len, tasks.values()), default=0)
    return {
        k: float(sum(Fraction(comb(sum(of), k), comb(len(of), k)) for of in tasks.values()) / len(tasks))
        for k in range(1, most + 1)
    }


def _setting(item: Object, info: Object) -> Setting:
    listed = json_fields.a_list("tasks", item.get("tasks"), MANY_TASKS)
    tasks = tuple(_task_id(json_fields.an_object("task", each).get("id")) for each in listed)
    if len(set(tasks)) < len(tasks):
        raise RefusedError("tasks", "an id that stands twice", "a list of different tasks")
    trials = json_fields.whole(info, "num_trials")
    environment = json_fields.an_object("info.environment_info", info.get("environment_info"))
    domain = json_fields.text("info.environment_info.domain_name", environment.get("domain_name"))
    timestamp = json_fields.text("timestamp", item.get("timestamp"))
    return Setting(
        suite=cells.named("domain_name", f"tau2/{domain}", scores.SUITE),
        version=_version(info, len(tasks)),
        judge=_llm(info, "user_info") or UNKNOWN,
        trials=scores.trials("info.num_trials", trials or 0),
        tasks=tasks,
        run_at=_moment("timestamp", timestamp),
        run=timestamp,
    )


def _task_id(value: object) -> str:
    return json_fields.number_text("task.id", value)


def _version(info: Object, tasks: int) -> str:
    """Tell runs apart that did not ask the same: by commit, tasks, agent and retrieval."""
    version = f"{(_commit(info) or UNKNOWN)[:SHORT]}+tasks={tasks}"
    agent = json_fields.an_object("info.agent_info", info.get("agent_info")).get("implementation")
    marks = {"agent": None if agent == "llm_agent" else agent, "retrieval": info.get("retrieval_config")}
    for name, mark in marks.items():
        if mark is not None:
            version += f"+{name}={json_fields.text(name, mark)}"
    return cells.named("version", version, scores.VERSION)


def _commit(info: Object) -> str | None:
    commit = info.get("git_commit")
    return cells.named("info.git_commit", json_fields.text("info.git_commit", commit), cells.WORD) if commit else None


def _llm(info: Object, name: str) -> str:
    part = json_fields.an_object(f"info.{name}", info.get(name))
    model = part.get("llm")
    return cells.title(f"info.{name}.llm", json_fields.text(f"info.{name}.llm", model)) if model else ""


def _subject(info: Object) -> Subject:
    """Say which model of the catalog was asked, where OpenRouter was; nothing here says who answered."""
    model = _llm(info, "agent_info")
    return Subject("info.agent_info", model.removeprefix(ROUTER) if model.startswith(ROUTER) else None)


def _moment(field: str, text: str) -> datetime:
    """Read a time; tau2 writes its own without a zone, which is taken for UTC."""
    try:
        found = datetime.fromisoformat(text) if len(text) <= len("2025-08-10T02:44:06.511475") else None
    except ValueError:
        found = None
    if found is not None and found.tzinfo is None:
        return found.replace(tzinfo=UTC)
    return cells.moment(field, text)
