"""Databases to start from, and servers to call."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
import pytest
from tests.support.audited_log import EXACTO, PICKY, PLAIN, AuditedLog, create_log
from tests.support.catalogs import DEMO_CATALOGS, KIMI_CSV, NOW, SMALL_CATALOG, SMALL_OBSERVATIONS
from tests.support.commands import assay
from tests.support.processes import AssayProcess, running

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def data() -> Path:
    """Data next to the checkout, which the repository may not contain."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no outside data at {path}")
    return path


@pytest.fixture(scope="session")
def kimi(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the demo's catalog and observations; do not write to it."""
    path = tmp_path_factory.mktemp("kimi") / "assay.db"
    shutil.copyfile(sqlite_template, path)
    url = f"sqlite:///{path}"
    for catalog in DEMO_CATALOGS:
        assert assay("import", "catalog", catalog, "--database", url).code == 0
    assert assay("import", "observations", KIMI_CSV, "--database", url).code == 0
    return url


@pytest.fixture(scope="session")
def observed(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the real observations alone and their endpoints; do not write to it."""
    path = tmp_path_factory.mktemp("observed") / "assay.db"
    shutil.copyfile(sqlite_template, path)
    url = f"sqlite:///{path}"
    assert (
        assay("import", "observations", "--create-endpoints", KIMI_CSV, "--database", url).code == 0
    )
    return url


@pytest.fixture(scope="session")
def small(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with small hand-written models; do not write to it."""
    folder = tmp_path_factory.mktemp("small")
    path = folder / "assay.db"
    shutil.copyfile(sqlite_template, path)
    url = f"sqlite:///{path}"
    (folder / "catalog.csv").write_text(SMALL_CATALOG)
    (folder / "observations.csv").write_text(SMALL_OBSERVATIONS)
    assert assay("import", "catalog", folder / "catalog.csv", "--database", url).code == 0
    assert assay("import", "observations", folder / "observations.csv", "--database", url).code == 0
    return url


def unchanging_server(path: Path) -> AbstractContextManager[AssayProcess]:
    """Serve a database that does not change; it is looked at once a second, not ten times."""
    options = ("--listen", "127.0.0.1:0", "--now", NOW)
    return running("serving", "serve", *options, "--database", f"sqlite:///{path}")


@pytest.fixture(scope="session")
def kimi_server(kimi: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """A channel to a server of the demo's data, on a copy of its own."""
    path = tmp_path_factory.mktemp("served") / "assay.db"
    shutil.copyfile(kimi.removeprefix("sqlite:///"), path)
    with (
        unchanging_server(path) as server,
        server.channel() as channel,
    ):
        yield channel


@pytest.fixture(scope="session")
def small_address(small: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the hand-written models, on a copy of their own."""
    path = tmp_path_factory.mktemp("served") / "assay.db"
    shutil.copyfile(small.removeprefix("sqlite:///"), path)
    with unchanging_server(path) as server:
        yield server.address


@pytest.fixture(scope="session")
def small_server(small_address: str) -> Iterator[grpc.Channel]:
    """A channel to that server."""
    with grpc.insecure_channel(small_address) as channel:
        yield channel


@pytest.fixture
def log(database_url: str, tmp_path: Path) -> AuditedLog:
    """A log without decisions."""
    return create_log(database_url, tmp_path)


@pytest.fixture
def kept(log: AuditedLog) -> AuditedLog:
    """A log with three decisions in one stream."""
    log.decide(EXACTO, PLAIN, PICKY)
    return log
