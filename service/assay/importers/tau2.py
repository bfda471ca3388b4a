"""tau2-bench: results of a run, in one file or with a directory `simulations/`, and submissions.

A run's score is pass^k: the mean over its tasks of C(successes, k) / C(trials, k). A success is a
reward of 1; simulations that ended in an infrastructure error are left out. None of the forms names
the host of the model, so the operator names the endpoint. The user simulator is stored as the
judge, since it influences scores as a judge does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from math import comb

from assay.engine.errors import BadData, quoted
from assay.engine.world.measurements import UNKNOWN, BenchmarkRun, Series
from assay.importers import cells, json_fields, scores
from assay.importers.cells import InvalidItemError
from assay.importers.documents import (
    BenchmarkDocument,
    EndpointMention,
    Rejection,
    Rejections,
    ReportedRun,
)
from assay.importers.json_fields import Object, read_object
from assay.importers.packing import digest, unpacked

_MANY_DOMAINS = 64
_PASSES = {f"pass_{k}": f"pass^{k}" for k in range(1, 5)}


def _read_submission(
    item: Object, source: str
) -> tuple[tuple[ReportedRun, ...], tuple[Rejection, ...]]:
    """Read every score; a submission is revised in place, so its scores have no run id."""
    methodology = json_fields.part(item, "methodology")
    domains = json_fields.an_object("results", item.get("results"))
    if len(domains) > _MANY_DOMAINS:
        raise InvalidItemError(
            "results", f"{len(domains)} items", f"an object of at most {_MANY_DOMAINS}"
        )
    version = _version(item, methodology)
    judge = json_fields.title(methodology, "user_simulator")
    stated = methodology.get("evaluation_date")
    name = "submission_date" if stated is None else "evaluation_date"
    day = item.get("submission_date") if stated is None else stated
    run_at = scores.day(name, json_fields.text(name, day))
    subject = EndpointMention("submission")
    rows: list[ReportedRun] = []
    rejected = Rejections()
    for where, series, value in _figures(domains, version, UNKNOWN if judge is None else judge):
        with rejected.at(where):
            text = json_fields.number_text(series.metric, value)
            score = scores.score(series.metric, text, series.unit)
            scores.SUITE("suite", series.suite)
            scores.VERSION("version", series.version)
            run = BenchmarkRun("", source, series, score, run_at)
            rows.append(ReportedRun(where, subject, run))
    if not rows and not rejected:
        raise InvalidItemError("results", "null everywhere", "an object with a score")
    return tuple(rows), tuple(rejected)


def _figures(domains: Object, version: str, judge: str) -> Iterator[tuple[str, Series, object]]:
    """Yield the scores that are not null; another retrieval makes another test of a domain."""
    for domain, stated in domains.items():
        if stated is None:
            continue
        results = json_fields.an_object(f"results.{domain[:100]}", stated)
        marked = version
        if (retrieval := results.get("retrieval_config")) is not None:
            marked += f"+retrieval={json_fields.text('retrieval_config', retrieval)}"
        for name, metric in _PASSES.items():
            if results.get(name) is not None:
                series = Series(f"tau2/{domain}", marked, judge, metric, "percent")
                yield f"results.{domain[:100]}.{name}", series, results[name]


def _version(item: Object, methodology: Object) -> str:
    """Return the benchmark's version and its changes; reject a run that left questions out."""
    verification = json_fields.part(methodology, "verification")
    if json_fields.flag(verification, "omitted_questions"):
        raise InvalidItemError(
            "methodology.verification.omitted_questions", "true", "false: the run is incomplete"
        )
    version, stated = UNKNOWN, methodology.get("tau2_bench_version")
    if stated is not None:
        version = json_fields.text("tau2_bench_version", stated).removeprefix("v")
    kind = item.get("submission_type")
    if kind not in {None, "standard"}:
        version += f"+{json_fields.text('submission_type', kind)}"
    if json_fields.flag(verification, "modified_prompts"):
        version += "+modified_prompts"
    return version


_MANY_SIMULATIONS = 1_000_000
_LEFT_OUT = "infrastructure_error"


@dataclass(frozen=True, slots=True)
class Simulation:
    """One trial of one task; without a reward if its outcome is unknown."""

    id: str
    task: str
    trial: int
    reward: float | None


def _gathered(
    item: Object, files: Iterable[tuple[str, bytes]] | None, tasks: Sequence[str], trials: int
) -> tuple[list[Simulation], Rejections]:
    """Read every simulation.

    A simulation that is not valid is rejected alone; a repeated trial rejects the whole file.
    """
    if files is None and "simulations" not in item and "simulation_index" in item:
        why = "the simulations themselves are missing, import their directory"
        raise BadData(f"simulation_index: {why}")
    rows = _listed(item, "simulations") if files is None else _files(files)
    found: dict[tuple[str, int], Simulation] = {}
    rejected = Rejections()
    known = frozenset(tasks)
    for where, row in rows:
        with rejected.at(where):
            simulation = _simulation(row, known, trials)
            first = found.setdefault((simulation.task, simulation.trial), simulation)
            if first is not simulation:
                trial = f"task {quoted(simulation.task)} has its trial {simulation.trial}"
                raise BadData(f"{where}: {trial} twice")
    if files is not None and item.get("simulation_index") is not None:
        _check_index(_listed(item, "simulation_index"), {each.id: each for each in found.values()})
    return list(found.values()), rejected


def _files(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, object]]:
    """Read one file after the other: each may be large, and little of it is needed."""
    for name, content in files:
        try:
            row = read_object(content)
        except BadData as error:
            raise BadData(f"simulations/{name}: {error}") from error
        if row.get("id") != name.removesuffix(".json"):
            raise BadData(f"simulations/{name}: holds the simulation {quoted(row.get('id'))}")
        yield f"simulations/{name}", row


def _listed(item: Object, name: str) -> Iterator[tuple[str, object]]:
    rows = json_fields.a_list(name, item.get(name), _MANY_SIMULATIONS)
    return ((f"{name}[{place}]", row) for place, row in enumerate(rows))


def _simulation(value: object, tasks: frozenset[str], trials: int) -> Simulation:
    row = json_fields.an_object("simulation", value)
    task = json_fields.number_text("task_id", row.get("task_id"))
    if task not in tasks:
        raise InvalidItemError("task_id", task, "one of the run's tasks")
    trial = json_fields.whole(row, "trial") or 0
    if trial >= trials:
        raise InvalidItemError("trial", trial, f"below num_trials, {trials}")
    return Simulation(json_fields.text("id", row.get("id", "")), task, trial, _reward(row))


def _reward(row: Object) -> float | None:
    if row.get("termination_reason") == _LEFT_OUT:
        return None
    stated = row.get("reward_info")
    holder = row if stated is None else json_fields.an_object("reward_info", stated)
    reward = holder.get("reward")
    if reward is None:
        return None
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not math.isfinite(reward):
        raise InvalidItemError("reward", json_fields.shown(reward), "a number")
    return float(reward)


def _check_index(index: Iterable[tuple[str, object]], found: dict[str, Simulation]) -> None:
    """Reject a directory whose index names other simulations than it holds, or another reward."""
    names = []
    for where, value in index:
        row = json_fields.an_object(where, value)
        names.append(name := json_fields.text("id", row.get("id")))
        simulation = found.get(name)
        if simulation is None:
            raise BadData(f"{where}: simulations/ has no valid file of {quoted(name)}")
        if row.get("reward") is not None and _reward(row) != simulation.reward:
            raise BadData(f"{where}: the reward of {quoted(name)} differs in its own file")
    if extra := found.keys() - set(names):
        raise BadData(f"simulation_index: {quoted(min(extra))} is not listed")


_SUBMISSION = "model_organization"  # a key of submissions that results lack
_ROUTER = "openrouter/"
_MANY_TASKS = 100_000
_SUCCESS = 1 - 1e-6
_SHORT = 12
_LONGEST_TIME = len("2025-08-10T02:44:06.511475")


@dataclass(frozen=True, slots=True)
class _Setting:
    """What all scores of a results file share."""

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
    """Read a results file or a submission; what is not valid is a rejection.

    `simulations` are the files of the directory form by name, if there is one.
    """
    try:
        item = read_object(unpacked(data))
        if _SUBMISSION in item:
            return BenchmarkDocument(digest(data), *_read_submission(item, source))
        return BenchmarkDocument(digest(data), *_results(item, simulations, source))
    except (BadData, InvalidItemError) as error:
        return BenchmarkDocument(digest(data), rejected=(Rejection("file", str(error)),))


def _results(
    item: Object, files: Iterable[tuple[str, bytes]] | None, source: str
) -> tuple[tuple[ReportedRun, ...], tuple[Rejection, ...]]:
    if not item.keys() >= {"info", "tasks"}:
        raise BadData(
            "not tau2 results (keys info and tasks) nor a submission (key model_organization)"
        )
    info = json_fields.an_object("info", item.get("info"))
    setting = _setting(item, info)
    simulations, rejected = _gathered(item, files, setting.tasks, setting.trials)
    judged = [each for each in simulations if each.reward is not None]
    expected = len(setting.tasks) * setting.trials
    try:
        scores.completed("simulations", len(judged), expected)
    except InvalidItemError as error:
        return (), (*rejected, Rejection("file", str(error)))
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
    return tuple(ReportedRun(run.series.metric, subject, run) for run in runs), tuple(rejected)


def passes(simulations: Iterable[Simulation]) -> Mapping[int, float]:
    """Compute pass^k, for every k up to the fewest trials of any task."""
    tasks: dict[str, list[bool]] = defaultdict(list)
    for each in simulations:
        if each.reward is not None:
            tasks[each.task].append(each.reward >= _SUCCESS)
    most = min(map(len, tasks.values()), default=0)
    return {
        k: float(
            sum(Fraction(comb(sum(of), k), comb(len(of), k)) for of in tasks.values()) / len(tasks)
        )
        for k in range(1, most + 1)
    }


def _setting(item: Object, info: Object) -> _Setting:
    listed = json_fields.a_list("tasks", item.get("tasks"), _MANY_TASKS)
    objects = (json_fields.an_object("task", each) for each in listed)
    tasks = tuple(json_fields.number_text("task.id", each.get("id")) for each in objects)
    if len(set(tasks)) < len(tasks):
        raise InvalidItemError("tasks", "an id that occurs twice", "a list of different tasks")
    trials = json_fields.whole(info, "num_trials")
    environment = json_fields.an_object("info.environment_info", info.get("environment_info"))
    domain = json_fields.text("info.environment_info.domain_name", environment.get("domain_name"))
    timestamp = json_fields.text("timestamp", item.get("timestamp"))
    return _Setting(
        suite=scores.SUITE("domain_name", f"tau2/{domain}"),
        version=_simulations_version(info, len(tasks)),
        judge=_llm(info, "user_info") or UNKNOWN,
        trials=scores.trials("info.num_trials", trials or 0),
        tasks=tasks,
        run_at=_moment("timestamp", timestamp),
        run=timestamp,
    )


def _simulations_version(info: Object, tasks: int) -> str:
    """Return a version that differs for other tests: by commit, tasks, agent and retrieval."""
    version = f"{(_commit(info) or UNKNOWN)[:_SHORT]}+tasks={tasks}"
    agent = json_fields.an_object("info.agent_info", info.get("agent_info")).get("implementation")
    marks = {
        "agent": None if agent == "llm_agent" else agent,
        "retrieval": info.get("retrieval_config"),
    }
    for name, mark in marks.items():
        if mark is not None:
            version += f"+{name}={json_fields.text(name, mark)}"
    return scores.VERSION("version", version)


def _commit(info: Object) -> str | None:
    commit = info.get("git_commit")
    return json_fields.name("info.git_commit", commit, cells.WORD) if commit else None


def _llm(info: Object, name: str) -> str:
    model = json_fields.an_object(f"info.{name}", info.get(name)).get("llm")
    field = f"info.{name}.llm"
    return cells.title(field, json_fields.text(field, model)) if model else ""


def _subject(info: Object) -> EndpointMention:
    """Return the catalog's model, if OpenRouter was called; no field names who answered."""
    model = _llm(info, "agent_info")
    name = model.removeprefix(_ROUTER) if model.startswith(_ROUTER) else None
    return EndpointMention("info.agent_info", name)


def _moment(field: str, text: str) -> datetime:
    """Read a time; tau2 writes its own without a zone, in UTC."""
    try:
        found = datetime.fromisoformat(text) if len(text) <= _LONGEST_TIME else None
    except ValueError:
        found = None
    if found is not None and found.tzinfo is None:
        return found.replace(tzinfo=UTC)
    return cells.moment(field, text)
