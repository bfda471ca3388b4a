"""`assay forward`: what it rejects before it listens, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.commands import assay, assert_rejected
from tests.support.processes import environment
from tests.support.scripted_forwarding import providers_file
from tests.support.waiting import DEADLINE_SECONDS


@pytest.fixture
def providers(tmp_path: Path) -> Path:
    return providers_file(tmp_path, 1, 1)


def forward(providers: Path, *more: object) -> list[object]:
    return [
        "forward",
        "--server",
        "127.0.0.1:1",
        "--providers",
        providers,
        "--spool",
        providers.parent / "spool",
        *more,
    ]


def test_an_address_off_loopback_needs_a_clients_file(
    providers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "k")
    assert_rejected(assay(*forward(providers, "--http", "0.0.0.0:0")), 1, "0.0.0.0:0", "--clients")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ""])
def test_an_invalid_address_is_rejected(
    providers: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "k")
    assert_rejected(assay(*forward(providers, "--http", address)), 1, "listen")


def test_faults_in_files_exit_as_bad_data(providers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEY", raising=False)
    ran = assay(*forward(providers, "--http", "127.0.0.1:0"))
    assert ran.code == 3
    assert len(ran.err.splitlines()) == providers.read_text().count("keyEnv")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_forwarder_cleanly(providers: Path, number: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "assay.cli",
        *map(str, forward(providers, "--http", "127.0.0.1:0")),
    ]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(KEY="k")
    ) as process:
        assert process.stderr is not None
        assert json.loads(process.stderr.readline())["event"] == "forwarding"
        process.send_signal(number)
        assert process.wait(DEADLINE_SECONDS) == 0
        assert json.loads(process.stderr.read().splitlines()[-1])["event"] == "stopped"
