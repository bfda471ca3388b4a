"""Clients of frameworks, each installed in its own environment: `make clients`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.forwarding_chain import Chain, import_lab_catalog, running_chain

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def chain(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("clients")
    shutil.copyfile(sqlite_template, folder / "assay.db")
    with running_chain(import_lab_catalog(folder, folder / "assay.db"), folder) as started:
        yield started


ODD = ["missing_index", "split_names", "object_arguments", "stop_after_calls", "usage_unasked"]


@pytest.mark.parametrize(
    "quirks",
    [
        pytest.param([], id="plain"),
        pytest.param(["reused_index", "missing_ids"], id="one index and no ids"),
        pytest.param(["reused_index", "split_names", "usage_unasked"], id="one index, split names"),
        pytest.param(ODD, id="other odd shapes"),
    ],
)
@pytest.mark.parametrize("name", ["pydantic-ai", "langchain-openrouter"])
def test_a_framework_chats_streams_and_calls_two_tools_at_once(
    chain: Chain, name: str, quirks: list[str]
) -> None:
    chain.providers.play("good", quirks=quirks, parallel=1.0)
    python = TOP / f".venv-client-{name}" / "bin" / "python"
    script = Path(__file__).with_name(f"with_{name.replace('-', '_')}.py")
    ran = subprocess.run(
        [python, script, chain.base_url, "lab/good"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)

    texts = [result[part] for part in ("chat", "stream", "tools")]
    assert [len(text.split()) for text in texts] == [12, 12, 12]
    assert len(result["asked"]) == 2
    assert len(result["asked_in_stream"]) == 2
