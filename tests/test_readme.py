"""Every command of the README does what the README says, in the order in which it stands there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assay.demo.questions import DATA

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
LINES = [line.strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = [line.removeprefix("$ ") for line in LINES if line.startswith("$ ")]
SERVE = [c for c in COMMANDS if c.startswith("assay serve")]
MAKE = [c for c in COMMANDS if c.startswith("make ")]
SIMULATE = [c for c in COMMANDS if c.startswith("assay simulate")]
FORWARD = [c for c in COMMANDS if c.startswith("assay forward")]
PLAIN = [c for c in COMMANDS if c not in (*SERVE, *SIMULATE, *FORWARD, *MAKE)]
*OVER_GRPC, OVER_HTTP = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
[PROVIDERS] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
MAKE_BINARY = shutil.which("make")
ASSAY = [sys.executable, "-m", "assay.cli"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of a newcomer: the demo's tables and the rule files, and no database yet."""
    folder = tmp_path_factory.mktemp("desk")
    for table in (*(DATA / "catalog_facts").glob("*.csv"), *(DATA / "observations").glob("*.csv")):
        shutil.copy(table, folder)
    shutil.copytree(ROOT / "policy", folder / "policy")
    return folder


def environment(desk: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(desk),
        "ASSAY_DATABASE": f"sqlite:///{desk / 'assay.db'}",
    }


def test_there_is_something_to_run() -> None:
    assert len(PLAIN) >= 23
    assert SERVE
    assert "make demo" in MAKE


@pytest.fixture(scope="module")
def stocked(desk: Path) -> Path:
    """The desk after all its commands ran, each successfully."""
    for command in PLAIN:
        name, *arguments = shlex.split(command)
        assert name == "assay", command
        done = subprocess.run(
            [*ASSAY, *arguments],
            cwd=desk,
            env=environment(desk),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip(), command
    return desk


def test_commands_run_as_written(stocked: Path) -> None:
    assert (stocked / "assay.db").exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server(stocked: Path) -> Iterator[str]:
    """The README's server, on a port of its own and at the time of the observations."""
    address = f"127.0.0.1:{free_port()}"
    (_, *arguments) = shlex.split(SERVE[0].replace("127.0.0.1:7333", address))
    command = [*ASSAY, *arguments, "--now", "2025-09-23T12:00:00Z"]
    with subprocess.Popen(
        command, env=environment(stocked), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert any("serving" in line for line in process.stderr), (
            "the server ended before it served"
        )
        yield address
        process.terminate()
        process.stderr.read()
        assert process.wait(20) == 0


def test_the_snippets_talk_to_the_server(server: str) -> None:
    code = "\n".join(OVER_GRPC).replace("127.0.0.1:7333", server)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "moonshotai/kimi-k2-0905@novita\n" in done.stdout
    assert "['ACCURACY']" in done.stdout
    assert done.stdout.endswith("1 []\n")


@contextmanager
def listening(command: str, desk: Path) -> Iterator[str]:
    """A server of the README that speaks HTTP; yields where it listens."""
    with subprocess.Popen(
        [*ASSAY, *shlex.split(command)[1:]],
        env=environment(desk),
        cwd=desk,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        log = (json.loads(line) for line in process.stderr)
        told = next((line for line in log if line["event"] in {"simulating", "forwarding"}), None)
        assert told, f"{command} ended before it listened"
        yield told["http"]
        process.terminate()
        process.stderr.read()
        assert process.wait(20) == 0


def test_openais_client_talks_through_the_forwarder(server: str, stocked: Path) -> None:
    simulate = SIMULATE[0].replace("127.0.0.1:7340", "127.0.0.1:0")
    with listening(simulate, stocked) as upstream:
        (stocked / "providers.yaml").write_text(PROVIDERS.replace("127.0.0.1:7340", upstream))
        forward = (
            FORWARD[0].replace("127.0.0.1:7333", server).replace("127.0.0.1:8080", "127.0.0.1:0")
        )
        with listening(forward, stocked) as front:
            code = OVER_HTTP.replace("127.0.0.1:8080", front)
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
    provider, reason = done.stdout.split()
    assert provider in {"moonshotai", "novita", "infinigence"}
    assert reason in {"tool_calls", "stop"}


@pytest.mark.slow
@pytest.mark.skipif(MAKE_BINARY is None, reason="make is not installed")
@pytest.mark.skipif(
    not (ROOT / ".venv" / ".installed").exists(), reason="`make venv` has not run in this checkout"
)
def test_make_demo_shows_who_serves_and_why_the_others_do_not() -> None:
    done = subprocess.run(
        [MAKE_BINARY or "", "demo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "kimi-k2-0905:exacto" in done.stdout
    assert "PROPENSITY" in done.stdout


def test_files_that_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
