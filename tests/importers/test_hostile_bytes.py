"""Robustness of importers: any bytes give a document, or `BadData` in one line."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from assay.engine.errors import BadData
from assay.importers.benchmarks import read_benchmarks
from assay.importers.catalog_csv import read_catalog
from assay.importers.inspect import read_inspect
from assay.importers.observations import read_observations
from assay.importers.openrouter import read_openrouter
from assay.importers.preferences import read_preferences
from assay.importers.tau2 import read_tau2
from assay.importers.tenants import read_tenants

FIXTURES = Path(__file__).parent / "fixtures" / "openrouter"
CATALOG = (
    b"model,provider,tag,prompt_usd_per_mtok,status\nlab/one,acme,acme,0.5,0\nlab/one,acme,b,,-2\n"
)
OBSERVED = (
    b"model,provider,tag,source,observed_from,observed_to,"
    b"requests,tool_call_requests,errored_requests\n"
    b"lab/one,acme,acme,probe,2025-09-22T00:00:00Z,2025-09-23T00:00:00Z,100,50,2\n"
)
SCORED = (
    b"model,provider,suite,score,run_at\n"
    b"lab/one,acme,livemcpbench,0.9,2026-07-01\n"
    b"lab/one,b,x,TBD,2026-07-01\n"
)
LOG = (
    b'{"version":2,"status":"success","eval":{"eval_id":"a","created":"2026-07-01T10:00:00Z",'
    b'"task":"t","task_version":0,"task_args":{"judge":"j"},"model":"openrouter/lab/one",'
    b'"model_args":{"only":"acme"},"config":{"epochs":1}},"results":{"total_samples":2,'
    b'"completed_samples":2,"scores":[{"name":"s","metrics":{"accuracy":{"value":0.5}}}]}}'
)
RESULTS = (
    b'{"timestamp":"2026-07-01T10:00:00","info":{"git_commit":"abc","num_trials":1,'
    b'"user_info":{"llm":"u"},"agent_info":{"implementation":"llm_agent","llm":"m"},'
    b'"environment_info":{"domain_name":"d"}},"tasks":[{"id":"1"}],'
    b'"simulations":[{"id":"x","task_id":"1","trial":0,"reward_info":{"reward":1.0}}]}'
)


def packed(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", content)
    return file.getvalue()


READERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "openrouter": (read_openrouter, (FIXTURES / "overrides.json").read_bytes()),
    "openrouter packed": (
        read_openrouter,
        gzip.compress((FIXTURES / "provider_by_display_name.json").read_bytes()),
    ),
    "catalog": (lambda data: read_catalog(data, source="ours"), CATALOG),
    "observations": (read_observations, OBSERVED),
    "benchmarks": (lambda data: read_benchmarks(data, source="ours"), SCORED),
    "inspect": (read_inspect, LOG),
    "inspect packed": (read_inspect, packed(LOG)),
    "tau2": (read_tau2, RESULTS),
    "submission": (
        read_tau2,
        b'{"model_organization":"x","submission_date":"2026-01-01","results":{"a":{"pass_1":9}}}',
    ),
    "preferences": (
        read_preferences,
        b"tenant,kind,target,model\nacme,pin,novita,lab/one\nacme,ignore,x,\n",
    ),
    "tenants": (
        read_tenants,
        b"- tenant: acme\n  only: [novita]\n  zdr: true\n- {tenant: b, ignore: [x]}\n",
    ),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


def survives(reader: Callable[[bytes], object], data: bytes) -> None:
    try:
        reader(data)
    except BadData as error:
        assert "\n" not in str(error)  # noqa: PT017 - the error may not be raised
        assert len(str(error)) < 1100  # noqa: PT017 - as above


@pytest.mark.parametrize("form", READERS)
@settings(max_examples=60)
@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read_or_rejected(form: str, data: bytes) -> None:
    survives(READERS[form][0], data)


@pytest.mark.parametrize("form", READERS)
@settings(max_examples=120)
@given(data=st.data())
def test_a_valid_file_with_altered_bytes_is_read_or_rejected(
    form: str, data: st.DataObject
) -> None:
    reader, good = READERS[form]
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 12)))
    patch = data.draw(
        st.binary(max_size=6)
        | st.sampled_from([b'"', b",", b"\n", b"null", b"-1", b"[" * 3000, b"9" * 400])
    )
    survives(reader, good[:start] + patch + good[end:])


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_snapshot_with_one_replaced_value_is_read_or_rejected(data: st.DataObject) -> None:
    name = data.draw(
        st.sampled_from(
            ["overrides", "latency_and_throughput", "providers_part", "list_of_unlisted_model"]
        )
    )
    root = json.loads((FIXTURES / f"{name}.json").read_bytes())
    replace_something(root, data)
    survives(read_openrouter, json.dumps(root).encode())


@pytest.mark.parametrize("form", ["inspect", "tau2", "submission"])
@settings(max_examples=150)
@given(data=st.data())
def test_a_run_with_one_replaced_value_is_read_or_rejected(form: str, data: st.DataObject) -> None:
    reader, good = READERS[form]
    root = json.loads(good)
    replace_something(root, data)
    survives(reader, json.dumps(root).encode())


def replace_something(root: dict[str, Any], data: st.DataObject) -> None:
    item: Any = root
    while True:
        key = data.draw(
            st.sampled_from(sorted(item) if isinstance(item, dict) else range(len(item)))
        )
        if (
            not isinstance(item[key], dict | list)
            or not item[key]
            or data.draw(st.integers(0, 4)) == 0
        ):
            break
        item = item[key]
    item[key] = data.draw(JSON)
