"""Submissions to tau2's leaderboard: percentages per domain, some of them absent; no endpoint is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.engine.benchmark import UNKNOWN, BenchmarkRun, Series
from assay.engine.document import Refusal, ReportedRun, Subject
from assay.importers import cells, json_fields, scores
from assay.importers.cells import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from assay.importers.json_fields import Object

MANY_DOMAINS = 64
PASSES = {f"pass_{k}": f"pass^{k}" for k in range(1, 5)}


def read_submission(item: Object, source: str) -> tuple[tuple[ReportedRun, ...], tuple[Refusal, ...]]:
    """Read every figure that is stated; a submission is revised in place, so its figures have no run of their own."""
    methodology = _part(item, "methodology")
    domains = json_fields.an_object("results", item.get("results"))
    if len(domains) > MANY_DOMAINS:
        raise RefusedError("results", f"{len(domains)} items", f"an object of at most {MANY_DOMAINS}")
    version, judge, run_at = _version(item, methodology), _judge(methodology), _day(item, methodology)
    rows: list[ReportedRun] = []
    refused: list[Refusal] = []
    for where, series, value in _figures(domains, version, judge):
        try:
            score = scores.score(series.metric, json_fields.number_text(series.metric, value), series.unit)
            cells.named("suite", series.suite, scores.SUITE)
            cells.named("version", series.version, scores.VERSION)
        except RefusedError as error:
            refused.append(Refusal(where, str(error)))
        else:
            rows.append(ReportedRun(where, Subject("submission"), BenchmarkRun("", source, series, score, run_at)))
    if not rows and not refused:
        raise RefusedError("results", "null everywhere", "an object with a score")
    return tuple(rows), tuple(refused)


def _figures(domains: Object, version: str, judge: str) -> Iterator[tuple[str, Series, object]]:
    """Yield what is not null; how knowledge is retrieved makes another test of a domain."""
    for domain, stated in domains.items():
        if stated is None:
            continue
        results = json_fields.an_object(f"results.{domain[:100]}", stated)
        retrieval = results.get("retrieval_config")
        mark = "" if retrieval is None else f"+retrieval={json_fields.text('retrieval_config', retrieval)}"
        for name, metric in PASSES.items():
            if results.get(name) is not None:
                series = Series(f"tau2/{domain}", version + mark, judge, metric, "percent")
                yield f"results.{domain[:100]}.{name}", series, results[name]


def _part(item: Object, name: str) -> Object:
    value = item.get(name)
    return {} if value is None else json_fields.an_object(name, value)


def _version(item: Object, methodology: Object) -> str:
    """Name the benchmark's version, and what was changed of it; who left questions out has no score."""
    verification = _part(methodology, "verification")
    if json_fields.flag(verification, "omitted_questions"):
        raise RefusedError("methodology.verification.omitted_questions", "true", "false: the run is incomplete")
    stated = methodology.get("tau2_bench_version")
    version = UNKNOWN if stated is None else json_fields.text("tau2_bench_version", stated).removeprefix("v")
    kind = item.get("submission_type")
    if kind not in {None, "standard"}:
        version += f"+{json_fields.text('submission_type', kind)}"
    if json_fields.flag(verification, "modified_prompts"):
        version += "+modified_prompts"
    return version


def _judge(methodology: Object) -> str:
    simulator = methodology.get("user_simulator")
    return (
        UNKNOWN if simulator is None else cells.title("user_simulator", json_fields.text("user_simulator", simulator))
    )


def _day(item: Object, methodology: Object) -> datetime:
    stated = methodology.get("evaluation_date")
    name, value = ("submission_date", item.get("submission_date")) if stated is None else ("evaluation_date", stated)
    return scores.day(name, json_fields.text(name, value))
