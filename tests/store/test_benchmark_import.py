"""Imports of benchmark scores: endpoints are resolved without guessing, scores are revised."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from assay.engine.errors import InvalidField
from assay.engine.world.catalog import Endpoint, Provider
from assay.engine.world.identity import provisional_ids
from assay.engine.world.measurements import BenchmarkRun, Series
from assay.importers.documents import (
    BenchmarkDocument,
    CatalogDocument,
    EndpointMention,
    ImportCounts,
    ImportReport,
    Rejection,
    ReportedRun,
)
from assay.store.benchmarks import benchmark_run
from assay.store.database import reading
from assay.store.imports.benchmarks import apply_benchmarks
from assay.store.imports.catalog import apply_catalog
from assay.store.tables import import_log
from assay.store.world import load_world, world_revision

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MODEL = "lab/one"
SERIES = Series("livemcpbench", "0", "gpt-4.1", "scorer/accuracy", "fraction")
RUN = BenchmarkRun("", "inspect", SERIES, 0.5, NOON - DAY, "a", 95, 95, 1, "abc")
PINNED = EndpointMention("log", MODEL, ("groq",))


def catalog(
    store: Engine, *tags: str, model: str = MODEL, at: datetime = NOON, **names: str
) -> None:
    offers = provisional_ids(
        [
            Endpoint("", model, tag.partition("/")[0], tag, quantization=f"q{n}")
            for n, tag in enumerate(tags)
        ]
    )
    providers = tuple(Provider(slug, name) for slug, name in names.items())
    apply_catalog(
        store, CatalogDocument(model, f"{at}{tags}", at, providers, endpoints=offers), now=NOON
    )


def take(
    store: Engine,
    *rows: tuple[EndpointMention, BenchmarkRun],
    endpoint: str | None = None,
    now: datetime = NOON,
) -> ImportReport:
    reported = tuple(ReportedRun(f"row {n}", subject, run) for n, (subject, run) in enumerate(rows))
    return apply_benchmarks(
        store, BenchmarkDocument(repr(rows), reported), endpoint=endpoint, now=now
    )


def reasons(report: ImportReport) -> list[str]:
    return [f"{each.where}: {each.reason}" for each in report.rejected]


def revisions(store: Engine) -> list[tuple[int, str, float, datetime, datetime | None]]:
    with reading(store) as connection:
        found = connection.execute(select(benchmark_run).order_by(benchmark_run.c.revision)).all()
    return [
        (each.revision, each.unit, each.score, each.imported_at, each.superseded_at)
        for each in found
    ]


def test_a_score_is_read_back_equal_and_a_repeated_import_changes_nothing(store: Engine) -> None:
    catalog(store, "groq")
    first = take(store, (PINNED, RUN))
    assert first.counts["benchmarks"].added == (f"{MODEL}@groq {SERIES.name} a",)
    assert load_world(store).benchmarks == (replace(RUN, endpoint_id=f"{MODEL}@groq"),)
    before, kept = world_revision(store), revisions(store)
    second = take(store, (PINNED, RUN), now=NOON + DAY)
    assert second.counts["benchmarks"] == ImportCounts(unchanged=1)
    assert (world_revision(store), revisions(store)) == (before, kept)
    with reading(store) as connection:
        logged = connection.execute(
            select(import_log).where(import_log.c.kind == "benchmarks")
        ).all()
    assert [(each.source, each.counts["benchmarks"]["added"]) for each in logged] == [
        ("inspect", 1)
    ]


def test_a_new_score_counts_as_a_change_of_evidence(store: Engine) -> None:
    catalog(store, "groq")
    before = world_revision(store)
    take(store, (PINNED, RUN))
    assert world_revision(store) == replace(before, evidence=before.evidence + 1)


def test_a_score_without_optional_fields_is_stored(store: Engine) -> None:
    catalog(store, "groq")
    bare = BenchmarkRun(
        "", "table", Series("OCRBench", "unknown", "unknown", "score", "percent"), 89.0, NOON
    )
    take(store, (PINNED, bare))
    assert load_world(store).benchmarks == (replace(bare, endpoint_id=f"{MODEL}@groq"),)


# --- resolution of the endpoint ---


@pytest.mark.parametrize(
    ("subject", "meant"),
    [
        pytest.param(
            EndpointMention("", MODEL, ("groq",)), f"{MODEL}@groq", id="a slug with one endpoint"
        ),
        pytest.param(
            EndpointMention("", MODEL, ("Groq Inc",)),
            f"{MODEL}@groq",
            id="a name that a catalog gives",
        ),
        pytest.param(EndpointMention("", MODEL, ("GROQ",)), f"{MODEL}@groq", id="in upper case"),
        pytest.param(
            EndpointMention("", MODEL, ("novita/fp8",)), f"{MODEL}@novita/fp8", id="a tag"
        ),
        pytest.param(
            EndpointMention("", "one", ("groq",)), f"{MODEL}@groq", id="a model without its author"
        ),
        pytest.param(
            EndpointMention("", f"{MODEL}:nitro", ("groq",)),
            f"{MODEL}@groq",
            id="a routing variant of the model",
        ),
        pytest.param(
            EndpointMention("", MODEL, ("novita/fp8",), "Novita AI"),
            f"{MODEL}@novita/fp8",
            id="tag and provider",
        ),
    ],
)
def test_a_pin_that_matches_one_endpoint_identifies_it(
    store: Engine, subject: EndpointMention, meant: str
) -> None:
    catalog(store, "groq", "novita/fp8", "novita/bf16", groq="Groq Inc", novita="Novita AI")
    report = take(store, (subject, RUN))
    assert report.rejected == ()
    assert [run.endpoint_id for run in load_world(store).benchmarks] == [meant]


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        pytest.param(
            EndpointMention("log", MODEL),
            "log: the run is pinned to no provider, so any of them may have",
            id="unpinned",
        ),
        pytest.param(
            EndpointMention("log"), "log: the run is pinned to no provider", id="nothing is known"
        ),
        pytest.param(
            EndpointMention("log", MODEL, ("groq", "novita")),
            "pinned to several providers",
            id="several providers",
        ),
        pytest.param(
            EndpointMention("log", None, ("groq",)), "names no model of a catalog", id="no model"
        ),
        pytest.param(
            EndpointMention("log", "lab/three", ("groq",)),
            "model 'lab/three' is in no catalog",
            id="unknown model",
        ),
        pytest.param(
            EndpointMention("log", "two", ("groq",)),
            "model 'two' may be lab/two, other/two",
            id="one of two models",
        ),
        pytest.param(
            EndpointMention("log", MODEL, ("novita",)),
            f"provider 'novita' means any of {MODEL}@novita/bf16, {MODEL}@novita/fp8: "
            "name the endpoint",
            id="a provider with two endpoints",
        ),
        pytest.param(
            EndpointMention("log", MODEL, ("acme",)),
            f"{MODEL} has no provider 'acme'",
            id="a provider without any",
        ),
        pytest.param(
            EndpointMention("log", MODEL, ("twice",)),
            f"means any of {MODEL}@twice, {MODEL}@twice~2",
            id="a tag twice",
        ),
        pytest.param(
            EndpointMention("line 2", MODEL, ("Acme",), "Acme"),
            "write its slug, or the endpoint's tag",
            id="a row of a table",
        ),
        pytest.param(
            EndpointMention("line 2", MODEL, ("groq",), "novita"),
            "has no provider 'groq'",
            id="tag of another provider",
        ),
    ],
)
def test_a_mention_that_does_not_identify_one_endpoint_is_rejected(
    store: Engine, subject: EndpointMention, reason: str
) -> None:
    catalog(store, "groq", "novita/fp8", "novita/bf16", "twice", "twice")
    catalog(store, "groq", model="lab/two")
    catalog(store, "groq", model="other/two")
    report = take(store, (subject, RUN), (subject, replace(RUN, run="b")))
    (rejection,) = reasons(report)
    assert reason in rejection
    assert load_world(store).benchmarks == ()


def test_a_name_that_two_providers_share_identifies_neither(store: Engine) -> None:
    catalog(store, "groq", "novita", groq="Cloud", novita="Cloud")
    report = take(store, (EndpointMention("log", MODEL, ("Cloud",)), RUN))
    assert f"{MODEL} has no provider 'Cloud'" in reasons(report)[0]


def test_an_endpoint_that_is_gone_still_makes_a_pin_ambiguous(store: Engine) -> None:
    catalog(store, "groq/old", "groq/new")
    catalog(store, "groq/new", at=NOON + DAY)
    assert "means any of" in reasons(take(store, (PINNED, RUN)))[0]


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(EndpointMention("log"), id="nothing is stated"),
        pytest.param(EndpointMention("log", MODEL), id="the model alone"),
        pytest.param(
            EndpointMention("log", MODEL, ("novita",)), id="a provider with two endpoints"
        ),
        pytest.param(
            EndpointMention("log", MODEL, ("groq", "novita")),
            id="several providers, one of them its own",
        ),
    ],
)
def test_the_operator_may_name_the_endpoint_if_the_file_does_not(
    store: Engine, subject: EndpointMention
) -> None:
    catalog(store, "groq", "novita/fp8", "novita/bf16")
    report = take(store, (subject, RUN), endpoint=f"{MODEL}@novita/fp8")
    assert report.rejected == ()
    assert [run.endpoint_id for run in load_world(store).benchmarks] == [f"{MODEL}@novita/fp8"]


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        pytest.param(
            EndpointMention("log", "lab/two"),
            f"the model is 'lab/two', --endpoint is one of {MODEL}",
            id="model",
        ),
        pytest.param(
            PINNED, f"the provider is 'groq', --endpoint is {MODEL}@novita/fp8", id="provider"
        ),
        pytest.param(
            EndpointMention("log", MODEL, ("novita/bf16",)),
            "the provider is 'novita/bf16'",
            id="tag",
        ),
        pytest.param(
            EndpointMention("line 2", MODEL, ("Moonshot",), "Moonshot"),
            "the provider is 'Moonshot'",
            id="an unknown provider",
        ),
    ],
)
def test_a_score_is_rejected_if_the_operator_contradicts_the_file(
    store: Engine, subject: EndpointMention, reason: str
) -> None:
    catalog(store, "groq", "novita/fp8", "novita/bf16")
    report = take(store, (subject, RUN), endpoint=f"{MODEL}@novita/fp8")
    assert reason in reasons(report)[0]
    assert load_world(store).benchmarks == ()


def test_the_operator_cannot_name_an_unlisted_endpoint(store: Engine) -> None:
    catalog(store, "groq")
    with pytest.raises(
        InvalidField, match=r"--endpoint: 'lab/one@grok' is not the id of an endpoint"
    ):
        take(store, (PINNED, RUN), endpoint=f"{MODEL}@grok")


def test_scores_of_an_endpoint_that_is_gone_are_not_in_the_world(store: Engine) -> None:
    catalog(store, "groq", "novita")
    take(store, (PINNED, RUN))
    catalog(store, "novita", at=NOON + DAY)
    assert load_world(store).benchmarks == ()
    catalog(store, "groq", at=NOON + 2 * DAY)
    assert len(load_world(store).benchmarks) == 1


# --- revisions ---


def test_a_correction_supersedes_the_old_score_which_stays_stored(store: Engine) -> None:
    catalog(store, "groq")
    take(store, (PINNED, RUN))
    report = take(store, (PINNED, replace(RUN, score=0.6)), now=NOON + DAY)
    assert len(report.counts["benchmarks"].changed) == 1
    percent = replace(RUN, score=60.0, series=replace(SERIES, unit="percent"))
    take(store, (PINNED, percent), now=NOON + 2 * DAY)
    assert load_world(store).benchmarks == (replace(percent, endpoint_id=f"{MODEL}@groq"),)
    assert revisions(store) == [
        (1, "fraction", 0.5, NOON, NOON + DAY),
        (2, "fraction", 0.6, NOON + DAY, NOON + 2 * DAY),
        (3, "percent", 60.0, NOON + 2 * DAY, None),
    ]


def test_an_older_score_does_not_supersede_a_newer_one(store: Engine) -> None:
    catalog(store, "groq")
    figure = replace(RUN, run="")
    newer = replace(figure, score=0.7, run_at=NOON)
    take(store, (PINNED, figure))
    take(store, (PINNED, newer))
    for _ in range(2):
        report = take(store, (PINNED, figure))
        assert reasons(report) == [
            "row 0: the run is dated 2026-07-03, inspect already has a newer one of 2026-07-04"
        ]
    assert [run.score for run in load_world(store).benchmarks] == [0.7]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"run": "b"}, id="run"),
        pytest.param({"source": "another"}, id="source"),
        pytest.param({"series": replace(SERIES, judge="o3")}, id="judge"),
        pytest.param({"series": replace(SERIES, version="1")}, id="version"),
        pytest.param({"series": replace(SERIES, metric="scorer/f1")}, id="metric"),
        pytest.param({"series": replace(SERIES, suite="tau2/retail")}, id="suite"),
    ],
)
def test_a_score_with_another_key_is_a_run_of_its_own(
    store: Engine, changes: dict[str, object]
) -> None:
    catalog(store, "groq")
    other = replace(RUN, **changes)  # type: ignore[arg-type]  # tests pass any field
    report = take(store, (PINNED, RUN), (PINNED, other))
    assert report.rejected == ()
    assert len(load_world(store).benchmarks) == 2


def test_invalid_scores_are_rejected_and_the_rest_is_stored(store: Engine) -> None:
    catalog(store, "groq")
    to_come = replace(RUN, run="b", run_at=datetime(2099, 1, 1, tzinfo=UTC))
    report = take(
        store,
        (PINNED, RUN),
        (PINNED, replace(RUN, score=0.9)),
        (PINNED, to_come),
        (EndpointMention("log"), RUN),
    )
    assert [each.reason.partition(":")[0] for each in report.rejected] == [
        "the run is pinned to no provider, so any of them may have answered",
        "repeats the run of row 0",
        "the run is dated 2099-01-01, which is in the future",
    ]
    assert [run.score for run in load_world(store).benchmarks] == [0.5]


def test_a_log_without_scores_is_recorded_with_its_rejection(store: Engine) -> None:
    document = BenchmarkDocument(
        "digest", rejected=(Rejection("log", "status: 'cancelled' is not success"),)
    )
    for _ in range(2):
        report = apply_benchmarks(store, document, endpoint=None, now=NOON)
        assert report.rejected == document.rejected
    with reading(store) as connection:
        (logged,) = connection.execute(select(import_log)).all()
    assert (logged.kind, logged.counts["refused"]) == ("benchmarks", 1)
