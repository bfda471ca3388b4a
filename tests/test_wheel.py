"""The wheel alone is enough: it runs in a clean environment and an empty directory."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

TOP = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive as a packager would."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    run([*build, "-t", "sdist"], TOP)
    (archive,) = folder.glob("*.tar.gz")
    run([sys.executable, "-m", "tarfile", "-e", str(archive), str(folder)], folder)
    run([*build, "-t", "wheel"], folder / archive.name.removesuffix(".tar.gz"))
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def assay(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment with the wheel and the locked packages only."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    # A path in a .pth file is searched for packages, but .pth files there are not read: the
    # editable install of this checkout stays out.
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    run(pip, folder)
    return folder / "bin" / "assay"


def run(command: list[str], folder: Path, **environment: str) -> str:
    """Run a command, and return its output; show all of it if it fails."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ASSAY_", "PYTHON"))}
    ran = subprocess.run(
        command,
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def test_the_wheel_carries_rule_files_migrations_and_types(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    shipped = {f"assay/_shipped/{p.relative_to(TOP)}" for p in (TOP / "policy").rglob("*.yaml")}

    assert shipped
    assert shipped <= names
    assert {
        "assay/py.typed",
        "assay/v1/routing_pb2.pyi",
        "assay/_shipped/migrations/env.py",
    } <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_is_one_package(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in ZipFile(wheel).namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"assay"}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--help",), id="help"),
        pytest.param(("policy", "check"), id="the shipped rule files are sound"),
        pytest.param(("demo",), id="the demo needs nothing else"),
    ],
)
def test_a_command_works_from_an_empty_directory(
    assay: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    empty, home = tmp_path / "empty", tmp_path / "home"
    empty.mkdir()
    home.mkdir()

    assert run([str(assay), *arguments], empty, HOME=str(home), XDG_DATA_HOME=str(home))
    assert list(empty.iterdir()) == []


def test_the_installed_package_is_the_one_that_runs(assay: Path, tmp_path: Path) -> None:
    where = run(
        [
            str(assay.with_name("python")),
            "-c",
            "from assay.server.settings import *; print(policy_dir(), migrations_dir())",
        ],
        tmp_path,
    )

    assert [Path(p).is_relative_to(assay.parents[1]) for p in where.split()] == [True, True]
