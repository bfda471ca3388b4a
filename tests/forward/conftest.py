"""One chain for many tests: starting it takes seconds, and each test says how its providers behave."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # with importlib's import mode pytest does not put the repository on the path
    sys.path.append(str(ROOT))

from tests.forward.chain import Chain, chained, lab  # noqa: E402 - needs the path above


@pytest.fixture(scope="session")
def database(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The catalog of all these tests; not to be written to."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copyfile(sqlite_template, folder / "assay.db")
    return lab(folder, folder / "assay.db")


@pytest.fixture(scope="module")
def chain(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Providers, forwarder and decider; every outcome is written down."""
    with chained(database, tmp_path_factory.mktemp("chain"), deadline="20s", keepAlive="200ms") as started:
        yield started
