"""Two setups: a forwarder in this process between scripted neighbors, and a chain of processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.forwarding_chain import Chain, import_lab_catalog, running_chain
from tests.support.scripted_forwarding import ScriptedForwarder, scripted_forwarder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedForwarder]:
    """Yield one setup per module; the name of a model lists the providers of its plan."""
    with scripted_forwarder(tmp_path_factory.mktemp("forward")) as world:
        yield world


@pytest.fixture(scope="session")
def database(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the database with the catalog of all chains, which tests must not change."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copyfile(sqlite_template, folder / "assay.db")
    return import_lab_catalog(folder, folder / "assay.db")


@pytest.fixture(scope="session")
def chain(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Yield simulated providers, a forwarder as a process, and a real decider."""
    with running_chain(
        database, tmp_path_factory.mktemp("chain"), deadline="20s", keepAlive="200ms"
    ) as started:
        yield started
