"""The importer of Inspect AI logs: scores of completed runs, in every file form."""

from __future__ import annotations

import copy
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assay.engine.world.measurements import BenchmarkRun, Series
from assay.importers.documents import BenchmarkDocument, EndpointMention, Rejection
from assay.importers.inspect import HEADER_LIMIT, MANY_ENTRIES, read_inspect

LOGS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "inspect_logs"
GOOD: dict[str, Any] = {
    "version": 2,
    "status": "success",
    "eval": {
        "eval_id": "run1",
        "created": "2026-07-01T10:00:00+00:00",
        "task": "livemcpbench",
        "task_version": 0,
        "task_args": {"grader_model": "openai/gpt-4.1"},
        "model": "openrouter/lab/one",
        "model_args": {"only": "acme", "allow_fallbacks": False},
        "config": {"epochs": 2},
        "revision": {"type": "git", "commit": "0123abc"},
        "scorers": [{"name": "scorer", "options": {}}],
    },
    "results": {
        "total_samples": 20,
        "completed_samples": 20,
        "scores": [
            {
                "name": "scorer",
                "scorer": "scorer",
                "params": {},
                "metrics": {
                    "accuracy": {"value": 0.9},
                    "stderr": {"value": 0.1},
                    "total_count": {"value": 20},
                    "Office_accuracy": {"value": 1},
                },
            }
        ],
    },
    "stats": {
        "started_at": "2026-07-01T10:00:01+00:00",
        "completed_at": "2026-07-01T12:30:00+02:00",
    },
}
SERIES = Series("livemcpbench", "0", "openai/gpt-4.1", "scorer/accuracy", "fraction")


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the valid log with another value at a dotted path; `...` removes the key."""
    log = copy.deepcopy(GOOD)
    part: Any = log
    *parents, last = path.split(".")
    for name in parents:
        part = part[int(name) if name.isdigit() else name]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return log


def read(log: object) -> BenchmarkDocument:
    return read_inspect(json.dumps(log).encode())


def zipped(
    content: bytes, *, name: str = "header.json", method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("_journal/start.json", "{}")
        archive.writestr(name, content)
        archive.writestr("summaries.json", "[]")
    return packed.getvalue()


def zstandard(content: bytes, *, size: int | None = None, checksum: int | None = None) -> bytes:
    """Return a zip file as Inspect writes it since 0.3.285: its only member uses method 93."""
    name, body = b"header.json", bytes(pa.compress(content, "zstd", asbytes=True))
    crc = zlib.crc32(content) if checksum is None else checksum
    sizes = struct.pack("<III", crc, len(body) if size is None else size, len(content))
    local = (
        struct.pack("<4sHHHHH", b"PK\x03\x04", 63, 0, 93, 0, 0)
        + sizes
        + struct.pack("<HH", len(name), 0)
        + name
    )
    entry = struct.pack("<4sHHHHHH", b"PK\x01\x02", 63, 63, 0, 93, 0, 0) + sizes
    entry += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
    end = struct.pack(
        "<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), len(local) + len(body), 0
    )
    return b"".join((local, body, entry, end))


JSON = json.dumps(GOOD).encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(JSON, id="JSON"),
        pytest.param(b"\xef\xbb\xbf" + JSON, id="JSON with a byte order mark"),
        pytest.param(gzip.compress(JSON), id="JSON in gzip"),
        pytest.param(zipped(JSON), id="eval, deflated"),
        pytest.param(zipped(JSON, method=zipfile.ZIP_STORED), id="eval, stored"),
        pytest.param(zstandard(JSON), id="eval, Zstandard"),
    ],
)
def test_every_file_form_gives_the_same_document(data: bytes) -> None:
    document = read_inspect(data)
    assert document.rejected == ()
    accuracy, office = document.rows
    assert accuracy.where == "results.scores[0].metrics.accuracy"
    assert (
        accuracy.subject
        == office.subject
        == EndpointMention("eval.model_args", "lab/one", ("acme",))
    )
    assert accuracy.run == BenchmarkRun(
        endpoint_id="",
        source="inspect",
        series=SERIES,
        score=0.9,
        run_at=datetime(2026, 7, 1, 10, 30, tzinfo=UTC),
        run="run1",
        tasks_total=20,
        tasks_completed=20,
        trials=2,
        source_revision="0123abc",
    )
    assert (office.run.series.metric, office.run.score) == ("scorer/Office_accuracy", 1.0)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        pytest.param(
            "status", "cancelled", "status: 'cancelled' is not success", id="cancelled with a score"
        ),
        pytest.param(
            "status", "started", "status: 'started' is not success", id="still running, or killed"
        ),
        pytest.param("status", "error", "status: 'error' is not success", id="failed"),
        pytest.param("status", None, "status: 'null' is not text", id="no status"),
        pytest.param("invalidated", True, "invalidated: 'true' is not false", id="a withdrawn run"),
        pytest.param("version", 1, "version: 1 is not 2", id="an older format"),
        pytest.param("results", None, "results: 'null' is not an object", id="no results"),
        pytest.param(
            "results.scores", [], "results.scores: 'an empty list' is not", id="no scores"
        ),
        pytest.param(
            "results.completed_samples", 18, "18 is not at least 95 % of 20 tasks", id="incomplete"
        ),
        pytest.param(
            "results.completed_samples",
            21,
            "21 is not at most all 20 tasks",
            id="more than all samples",
        ),
        pytest.param(
            "results.completed_samples", -1, "completed_samples: '-1' is not a whole", id="negative"
        ),
        pytest.param(
            "results.completed_samples",
            ...,
            "completed_samples: 'null' is not a whole",
            id="not counted",
        ),
        pytest.param(
            "results.total_samples", 2**63, "total_samples: '9223372036854775808' is not", id="2^63"
        ),
        pytest.param("results.total_samples", 0, "is not at most all 0 tasks", id="no samples"),
        pytest.param(
            "eval.task", "a@b", "eval.task: 'a@b' is not a plain suite name", id="a suite with @"
        ),
        pytest.param(
            "eval.task_version",
            "1 2",
            "eval.task_version: '1 2' is not a plain version",
            id="no version",
        ),
        pytest.param(
            "eval.config.sample_id",
            ["t1"],
            "sample_id: 'a choice of samples' is not",
            id="hand-picked",
        ),
        pytest.param(
            "eval.config.epochs", 0, "eval.config.epochs: 0 is not from 1", id="no epochs"
        ),
        pytest.param(
            "eval.model", "openrouter/one", "eval.model: 'one' is not a model id", id="no model"
        ),
        pytest.param(
            "eval.model_args.only", 7, "eval.model_args.only: 7 is not a list", id="no providers"
        ),
        pytest.param(
            "stats.completed_at",
            "2026-07-01T10:00:00",
            "is not an ISO time with a zone",
            id="no zone",
        ),
        pytest.param("eval.eval_id", "a b", "eval.eval_id: 'a b' is not", id="no id"),
        pytest.param("eval", [], "eval: 'a list' is not an object", id="no eval"),
    ],
)
def test_an_incomplete_or_invalid_run_is_rejected(path: str, value: object, reason: str) -> None:
    document = read(changed(path, value))
    (rejection,) = document.rejected
    assert (document.rows, rejection.where) == ((), "log")
    assert reason in rejection.reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(
            81.1, "accuracy: '81.1' is not a fraction from 0 to 1", id="percent among fractions"
        ),
        pytest.param(-0.1, "accuracy: '-0.1' is not a fraction", id="negative"),
        pytest.param(float("nan"), "accuracy: 'nan' is not a fraction", id="NaN"),
        pytest.param(float("inf"), "accuracy: 'inf' is not a fraction", id="infinite"),
        pytest.param("TBD", "accuracy: 'TBD' is not a fraction", id="TBD"),
        pytest.param(None, "accuracy: 'null' is not a number", id="null"),
        pytest.param(True, "accuracy: 'true' is not a number", id="a boolean"),
        pytest.param("1e999", "accuracy: '1e999' is not a fraction", id="beyond all doubles"),
    ],
)
def test_a_score_out_of_range_is_rejected_alone(value: object, reason: str) -> None:
    document = read(changed("results.scores.0.metrics.accuracy.value", value))
    assert [row.run.series.metric for row in document.rows] == ["scorer/Office_accuracy"]
    assert document.rejected[0].where == "results.scores[0].metrics.accuracy"
    assert reason in document.rejected[0].reason


def test_a_scorer_that_skipped_samples_is_rejected_alone() -> None:
    log = changed("results.scores.0.unscored_samples", 3)
    log["results"]["scores"][0]["scored_samples"] = 17
    log["results"]["scores"].append(
        GOOD["results"]["scores"][0] | {"name": "other", "scorer": "other"}
    )
    document = read(log)
    assert document.rejected == (
        Rejection(
            "results.scores[0]",
            "scored_samples: 17 is not at least 95 % of 20 tasks: the run is incomplete",
        ),
    )
    assert {row.run.series.metric for row in document.rows} == {
        "other/accuracy",
        "other/Office_accuracy",
    }


@pytest.mark.parametrize(
    ("path", "value", "series"),
    [
        pytest.param("eval.config.limit", 10, {"version": "0+limit=10"}, id="a part of the suite"),
        pytest.param(
            "eval.config.limit", [10, 20], {"version": "0+limit=10-20"}, id="another part"
        ),
        pytest.param("eval.task_version", "2-B", {"version": "2-B"}, id="a version in words"),
        pytest.param(
            "eval.task_args_passed",
            {"grader_model": "x"},
            {"version": "0"},
            id="the judge is not part of the version",
        ),
        pytest.param(
            "results.scores.0.reducer",
            "pass_at_2",
            {"metric": "scorer/accuracy/pass_at_2"},
            id="reducer",
        ),
        pytest.param("results.scores.0.reducer", "mean", {}, id="the mean is not named"),
        pytest.param(
            "results.scores.0.name", "a b", {"metric": "a_b/accuracy"}, id="a scorer of two words"
        ),
        pytest.param(
            "results.scores.0.params", {"model": "o3"}, {"judge": "o3"}, id="the scorer's own judge"
        ),
        pytest.param(
            "eval.scorers.0.options",
            {"model": "o3"},
            {"judge": "o3"},
            id="the judge by the list of scorers",
        ),
        pytest.param(
            "eval.scorers.0.options", {"model": ["a", "b"]}, {"judge": "a + b"}, id="two judges"
        ),
        pytest.param("eval.task_args", {}, {"judge": "unknown"}, id="no judge is stated"),
    ],
)
def test_settings_of_the_run_determine_the_series(
    path: str, value: object, series: dict[str, str]
) -> None:
    found = read(changed(path, value)).rows[0].run.series
    assert {name: getattr(found, name) for name in series} == series
    assert (found == SERIES) is (not {k: v for k, v in series.items() if getattr(SERIES, k) != v})


def test_other_arguments_are_another_version() -> None:
    versions = {
        read(changed("eval.task_args", {"grader_model": "x", **more})).rows[0].run.series.version
        for more in ({}, {"subset": "hard"}, {"subset": "easy"})
    }
    assert len(versions) == 3


def test_a_role_can_be_the_judge() -> None:
    log = changed("eval.task_args", {})
    log["eval"]["model_roles"] = {"grader": {"model": "o3"}}
    assert read(log).rows[0].run.series.judge == "o3"


def test_a_metric_that_is_no_share_is_a_number() -> None:
    (row,) = read(changed("results.scores.0.metrics", {"mean": {"value": -7.5}})).rows
    assert (row.run.series.unit, row.run.score) == ("number", -7.5)


@pytest.mark.parametrize(
    ("model", "arguments", "expected"),
    [
        pytest.param(
            "openrouter/lab/one", {"only": "acme/fp8"}, ("lab/one", ("acme/fp8",)), id="a tag"
        ),
        pytest.param(
            "openrouter/lab/one", {"only": ["acme"]}, ("lab/one", ("acme",)), id="a list of one"
        ),
        pytest.param(
            "openrouter/lab/one", {"only": "a, b"}, ("lab/one", ("a", "b")), id="two providers"
        ),
        pytest.param(
            "openrouter/lab/one",
            {"provider": {"only": ["acme"]}},
            ("lab/one", ("acme",)),
            id="a pin in Inspect's form",
        ),
        pytest.param(
            "openrouter/lab/one", {"order": ["acme"]}, ("lab/one", ()), id="an order does not pin"
        ),
        pytest.param("openrouter/lab/one", {}, ("lab/one", ()), id="no pin"),
        pytest.param(
            "openai/gpt-4o", {"only": "acme"}, (None, ()), id="not called through OpenRouter"
        ),
    ],
)
def test_a_log_names_the_endpoint_only_through_openrouter_with_a_pin(
    model: str, arguments: object, expected: tuple[object, ...]
) -> None:
    log = changed("eval.model", model)
    log["eval"]["model_args"] = arguments
    subject = read(log).rows[0].subject
    assert (subject.model, subject.pins) == expected


def test_a_log_without_an_id_is_identified_by_run_and_task() -> None:
    log = changed("eval.eval_id", ...)
    log["eval"] |= {"run_id": "r", "task_id": "t"}
    assert read(log).rows[0].run.run == "r/t"


def other_method(data: bytes, method: int) -> bytes:
    """Claim another compression in both headers of the only member."""
    local, entry = data.index(b"PK\x03\x04") + 8, data.index(b"PK\x01\x02") + 10
    changed_ = bytearray(data)
    changed_[local : local + 2] = changed_[entry : entry + 2] = struct.pack("<H", method)
    return bytes(changed_)


def alone(content: bytes, name: str = "header.json") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def encrypted(data: bytes) -> bytes:
    changed_ = bytearray(data)
    changed_[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed_)


def twice(content: bytes) -> bytes:
    return zipped(content).replace(b"summaries.json", b"header.json\0\0\0")


BOMB = bytes(4 * HEADER_LIMIT)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(
            lambda: alone(BOMB), f"header.json holds more than {HEADER_LIMIT} bytes", id="zip bomb"
        ),
        pytest.param(
            lambda: zstandard(BOMB), f"holds more than {HEADER_LIMIT} bytes", id="Zstandard bomb"
        ),
        pytest.param(
            lambda: alone(JSON, "../header.json"),
            "the zip file has no header.json",
            id="path trick",
        ),
        pytest.param(
            lambda: alone(JSON, "/header.json"),
            "the zip file has no header.json",
            id="absolute path",
        ),
        pytest.param(
            lambda: alone(JSON, "_journal/start.json"),
            "has no header.json",
            id="a run that was killed",
        ),
        pytest.param(lambda: twice(JSON), "the zip file has header.json 2 times", id="two headers"),
        pytest.param(lambda: encrypted(alone(JSON)), "header.json is encrypted", id="encrypted"),
        pytest.param(
            lambda: other_method(alone(JSON), 12), "unreadable way, zip method 12", id="bzip2"
        ),
        pytest.param(
            lambda: other_method(alone(JSON), 99),
            "unreadable way, zip method 99",
            id="unknown method",
        ),
        pytest.param(
            lambda: other_method(alone(JSON), 93),
            "broken zip file",
            id="another compression than claimed",
        ),
        pytest.param(
            lambda: zstandard(JSON, checksum=1),
            "is damaged: its checksum differs",
            id="bits flipped",
        ),
        pytest.param(
            lambda: zstandard(JSON, size=10**6), "'header.json' is cut off", id="Zstandard cut off"
        ),
        pytest.param(lambda: zipped(JSON)[:-30], "broken zip file", id="truncated"),
        pytest.param(lambda: zipped(JSON)[:40], "broken zip file", id="cut off at the start"),
        pytest.param(
            lambda: b"PK\x03\x04" + b"PK\x01\x02" * (MANY_ENTRIES + 1),
            "more than 200000 members",
            id="swarm",
        ),
        pytest.param(
            lambda: b"PK\x05\x06" + bytes(18), "the zip file has no header.json", id="an empty zip"
        ),
        pytest.param(lambda: alone(b"{"), "not JSON", id="a header that is cut off"),
        pytest.param(lambda: b"[]", "not a JSON object", id="a list"),
        pytest.param(lambda: b"", "the file is empty", id="nothing"),
        pytest.param(
            lambda: b'{"a":' * 100_000, "not JSON: too deeply nested", id="deeply nested objects"
        ),
        pytest.param(
            lambda: b"[" * 100_000, "not JSON: too deeply nested", id="deeply nested lists"
        ),
        pytest.param(lambda: b'{"version": ' + b"1" * 5000 + b"}", "not JSON: ", id="5,000 digits"),
        pytest.param(lambda: b'{"version": "\xff"}', "not JSON: ", id="not UTF-8"),
        pytest.param(
            lambda: JSON.replace(b'"status"', b'"status": "cancelled", "status"'),
            "key 'status' occurs twice",
            id="a key twice",
        ),
    ],
)
def test_hostile_bytes_are_rejected_with_the_reason(data: Callable[[], bytes], reason: str) -> None:
    document = read_inspect(data())
    (rejection,) = document.rejected
    assert document.rows == ()
    assert reason in rejection.reason
    assert rejection.reason.isprintable()
    assert len(rejection.reason) < 500


PINNED_GROQ = EndpointMention("eval.model_args", "openai/gpt-oss-120b", ("groq",))
PINNED_DEEPINFRA = EndpointMention("eval.model_args", "z-ai/glm-4.6", ("deepinfra/fp4",))
UNPINNED = EndpointMention("eval.model")


@pytest.mark.skipif(not LOGS.is_dir(), reason="the shared data set is missing")
@pytest.mark.parametrize(
    ("name", "metric", "score", "subject"),
    [
        ("generated_ok_eval_0.3.140.eval", "livemcpbench_scorer/accuracy", 0.9, PINNED_GROQ),
        ("generated_ok_eval_0.3.285.eval", "livemcpbench_scorer/accuracy", 0.9, PINNED_GROQ),
        ("generated_ok_json_0.3.140.json", "livemcpbench_scorer/accuracy", 0.8, PINNED_DEEPINFRA),
        ("upstream_log_formats.eval", "match/accuracy", 0.0, UNPINNED),
        ("upstream_log_formats.json", "match/accuracy", 0.0, UNPINNED),
        ("upstream_popularity_scored.eval", "match/accuracy", 0.8, UNPINNED),
    ],
)
def test_the_scores_of_real_logs_are_read(
    name: str, metric: str, score: float, subject: EndpointMention
) -> None:
    document = read_inspect((LOGS / name).read_bytes())
    assert document.rejected == ()
    assert {row.run.series.metric: row.run.score for row in document.rows}[metric] == score
    assert {row.subject for row in document.rows} == {subject}


@pytest.mark.skipif(not LOGS.is_dir(), reason="the shared data set is missing")
def test_a_real_log_of_a_cancelled_run_is_rejected_despite_its_accuracy() -> None:
    document = read_inspect((LOGS / "upstream_popularity_cancelled.json").read_bytes())
    assert document.rows == ()
    assert document.rejected == (
        Rejection("log", "status: 'cancelled' is not success: the run did not complete"),
    )
