"""Whatever the bytes, an importer returns a document or says `BadData` in one line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from assay.engine.errors import BadData
from assay.importers.catalog_csv import read_catalog
from assay.importers.observations import read_observations
from assay.importers.openrouter import read_openrouter
from assay.importers.preferences import read_preferences
from assay.importers.tenants import read_tenants

FIXTURES = Path(__file__).parent / "fixtures" / "openrouter"
CATALOG = b"model,provider,tag,prompt_usd_per_mtok,status\nlab/one,acme,acme,0.5,0\nlab/one,acme,b,,-2\n"
OBSERVED = (
    b"model,provider,tag,source,observed_from,observed_to,requests,tool_call_requests,errored_requests\n"
    b"lab/one,acme,acme,probe,2025-09-22T00:00:00Z,2025-09-23T00:00:00Z,100,50,2\n"
)
READERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "openrouter": (read_openrouter, (FIXTURES / "overrides.json").read_bytes()),
    "openrouter packed": (read_openrouter, gzip.compress((FIXTURES / "provider_by_display_name.json").read_bytes())),
    "catalog": (lambda data: read_catalog(data, source="ours"), CATALOG),
    "observations": (read_observations, OBSERVED),
    "preferences": (read_preferences, b"tenant,kind,target,model\nacme,pin,novita,lab/one\nacme,ignore,x,\n"),
    "tenants": (read_tenants, b"- tenant: acme\n  only: [novita]\n  zdr: true\n- {tenant: b, ignore: [x]}\n"),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def survives(reader: Callable[[bytes], object], data: bytes) -> None:
    try:
        reader(data)
    except BadData as error:
        assert "\n" not in str(error)  # noqa: PT017 - only the wording of an error that may or may not come
        assert len(str(error)) < 800  # noqa: PT017 - as above


@pytest.mark.parametrize("form", READERS)
@settings(max_examples=60)
@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes(form: str, data: bytes) -> None:
    survives(READERS[form][0], data)


@pytest.mark.parametrize("form", READERS)
@settings(max_examples=120)
@given(data=st.data())
def test_a_good_file_with_a_hole_or_a_patch(form: str, data: st.DataObject) -> None:
    reader, good = READERS[form]
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 12)))
    patch = data.draw(
        st.binary(max_size=6) | st.sampled_from([b'"', b",", b"\n", b"null", b"-1", b"[" * 3000, b"9" * 400])
    )
    survives(reader, good[:start] + patch + good[end:])


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_snapshot_with_any_value_in_any_place(data: st.DataObject) -> None:
    name = data.draw(
        st.sampled_from(["overrides", "latency_and_throughput", "providers_part", "list_of_unlisted_model"])
    )
    root = json.loads((FIXTURES / f"{name}.json").read_bytes())
    item = root
    while True:
        key = data.draw(st.sampled_from(sorted(item) if isinstance(item, dict) else range(len(item))))
        if not isinstance(item[key], dict | list) or not item[key] or data.draw(st.integers(0, 4)) == 0:
            break
        item = item[key]
    item[key] = data.draw(JSON)
    survives(read_openrouter, json.dumps(root).encode())
