"""Two kinds of worlds: a forwarder in this process between scripted sides, and a chain of real processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.forwarding_chain import Chain, import_lab_catalog, running_chain
from tests.support.scripted_forwarding import ScriptedForwarder, scripted_forwarder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedForwarder]:
    """One world for the tests of a module; what a model's name lists is its plan."""
    with scripted_forwarder(tmp_path_factory.mktemp("forward")) as world:
        yield world


@pytest.fixture(scope="session")
def database(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The catalog of all chains; not to be written to."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copyfile(sqlite_template, folder / "assay.db")
    return import_lab_catalog(folder, folder / "assay.db")


@pytest.fixture(scope="session")
def chain(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Simulated providers, a forwarder as a process, real decisions; every outcome is written down."""
    with running_chain(
        database, tmp_path_factory.mktemp("chain"), deadline="20s", keepAlive="200ms"
    ) as started:
        yield started
