"""Commands that run until they are stopped (`serve`, `forward`, `simulate`), each as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from tests.support.catalogs import NOW, ROOT
from tests.support.waiting import DEADLINE_SECONDS

LogLine = dict[str, Any]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a user who has configured nothing, with these changes."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ASSAY_") and name != "XDG_DATA_HOME"
    }
    # With bytecode written once, a process starts in half the time.
    own = {"PYTHONPATH": str(ROOT / "service"), "PYTHONDONTWRITEBYTECODE": ""}
    return {**inherited, **own, **changes}


@dataclass
class AssayProcess:
    """A process of ours, its log, and the line with which it reported that it is ready."""

    process: subprocess.Popen[str]
    log: list[LogLine] = field(default_factory=list)
    ready: LogLine = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where a server answers gRPC."""
        return str(self.ready["listen"][0])

    @property
    def http(self) -> str:
        """Where a forwarder or simulated providers answer HTTP."""
        return str(self.ready["http"])

    @property
    def log_text(self) -> str:
        """The whole log as text, for searches."""
        return "\n".join(json.dumps(line, ensure_ascii=False) for line in self.log)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self.address) as channel:
            yield channel

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


@contextmanager
def running(
    event: str, *arguments: object, folder: Path | None = None, **changes: str
) -> Iterator[AssayProcess]:
    """Run a command in a folder, from the moment it logs `event`.

    A process that is still alive at the end must stop cleanly. `changes` go into its environment.
    """
    command = [sys.executable, "-m", "assay.cli", *map(str, arguments)]
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**changes),
    ) as process:
        assert process.stderr is not None
        started = AssayProcess(process)
        reader = threading.Thread(target=_read_log, args=(process.stderr, started.log))
        try:
            started.ready = _wait_for(event, process.stderr, started.log)
            reader.start()
            yield started
            if process.poll() is None:
                assert started.stop() == 0
        finally:
            process.kill()
            if reader.ident is not None:
                reader.join(DEADLINE_SECONDS)
        odd = [line for line in started.log if "event" not in line]
        assert not odd, odd[:40]


def serving(*arguments: object) -> AbstractContextManager[AssayProcess]:
    """Run `assay serve` on a free port; it looks for changes ten times a second."""
    options = ("--listen", "127.0.0.1:0", "--poll-interval", "0.1")
    return running("serving", "serve", *options, *arguments)


def serving_journal(
    url: str, journal: Path, *arguments: object
) -> AbstractContextManager[AssayProcess]:
    """Run `assay serve` over this database and journal, at the time of the demo's observations."""
    return serving("--now", NOW, "--database", url, "--journal", journal, *arguments)


def _wait_for(event: str, lines: Iterable[str], log: list[LogLine]) -> LogLine:
    for line in lines:
        log.append(_parse(line))
        if log[-1].get("event") == event:
            return log[-1]
    raise AssertionError(f"the process ended before it logged {event!r}: {log}")


def _read_log(lines: Iterable[str], log: list[LogLine]) -> None:
    """Read on, so that the process never blocks on a full pipe."""
    log.extend(map(_parse, lines))


def _parse(line: str) -> LogLine:
    """Parse a line; one that is not JSON, such as a traceback's, fails the test at the end."""
    return json.loads(line) if line.startswith("{") else {"not JSON": line}
