"""Simulated providers as a process, and the way behind their stage."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.support.commands import DEADLINE_SECONDS, environment

Json = Mapping[str, Any]
WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string"},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}
HELLO: Json = {"role": "user", "content": "hello"}


@dataclass(frozen=True)
class Simulated:
    """Simulated providers that listen."""

    address: str
    process: subprocess.Popen[str]

    def base_url(self, provider: str) -> str:
        return f"http://{self.address}/{provider}/v1"

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """The status and body of an answer."""
        connection = HTTPConnection(self.address, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def control(self, method: str, path: str, body: object = None) -> Any:
        status, answer = self.ask(method, f"/control/{path}", body)
        assert status == 200, answer
        return json.loads(answer)

    def complete(self, provider: str, **fields: Any) -> tuple[int, bytes]:
        """The answer of one provider."""
        body = {"model": "some", "messages": [HELLO], **fields}
        return self.ask("POST", f"/{provider}/v1/chat/completions", body)

    def play(self, provider: str, *faults: Json, **fields: Any) -> None:
        """Let a provider behave differently from now on: these faults and no others."""
        self.control("PATCH", f"providers/{provider}", {"faults": faults, **fields})

    def seen(self, provider: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.control(
            "GET", f"requests{f'?provider={provider}' if provider else ''}"
        )
        return found

    def forget(self) -> None:
        self.control("DELETE", "requests")


@contextmanager
def simulating(
    *arguments: object, cast: Json | None = None, folder: Path | None = None
) -> Iterator[Simulated]:
    """Start simulated providers on a port of their own; `cast` is written into a file in `folder`."""
    if cast is not None:
        assert folder is not None
        path = folder / "simulated.yaml"
        path.write_text(json.dumps(cast))
        arguments = (*arguments, "--providers", path)
    with started("simulating", "simulate", "--http", "127.0.0.1:0", *arguments) as (process, log):
        yield Simulated(log[0]["http"], process)
    assert [one["event"] for one in log] == ["simulating", "stopped"]


@contextmanager
def started(
    event: str, *arguments: object, **changes: str
) -> Iterator[tuple[subprocess.Popen[str], list[dict[str, Any]]]]:
    """Run a command from when it logs this event to the end; unless killed before, it has to stop as asked."""
    command = [sys.executable, "-m", "assay.cli", *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**changes),
    ) as process:
        assert process.stderr is not None
        try:
            log: list[dict[str, Any]] = []
            while not log or log[-1]["event"] != event:
                line = process.stderr.readline()
                assert line.startswith("{"), (line, log)
                log.append(json.loads(line))
            reader = threading.Thread(target=read_log, args=(process.stderr, log))
            reader.start()
            yield process, log
            if process.poll() is None:
                process.terminate()
                assert process.wait(DEADLINE_SECONDS) == 0
            reader.join(DEADLINE_SECONDS)
            odd = [line for line in log if "event" not in line]
            assert not odd, odd[:40]
        finally:
            process.kill()


def read_log(lines: Iterable[str], log: list[dict[str, Any]]) -> None:
    """Take every further line; one that is no JSON, such as those of a traceback, is a fault told at the end."""
    log.extend(json.loads(line) if line.startswith("{") else {"not JSON": line} for line in lines)


def events(body: bytes) -> list[Any]:
    """The JSON values of a stream's events; it has to be done at the end."""
    *told, done, rest = body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(one.removeprefix("data: ")) for one in told]
