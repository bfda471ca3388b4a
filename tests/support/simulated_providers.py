"""Simulated providers as a process, and their control routes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.support.processes import running
from tests.support.waiting import DEADLINE_SECONDS

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
class SimulatedProviders:
    """Simulated providers and their address."""

    address: str
    process: subprocess.Popen[str]

    def base_url(self, provider: str) -> str:
        return f"http://{self.address}/{provider}/v1"

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Return the status and body of an answer."""
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
        """Return the status and body of the answer of one provider."""
        body = {"model": "some", "messages": [HELLO], **fields}
        return self.ask("POST", f"/{provider}/v1/chat/completions", body)

    def play(self, provider: str, *faults: Json, **fields: Any) -> None:
        """Change the behavior of a provider: these faults and no others."""
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
) -> Iterator[SimulatedProviders]:
    """Run simulated providers on a free port; `cast` is written into a file in `folder`."""
    if cast is not None:
        assert folder is not None
        path = folder / "simulated.yaml"
        path.write_text(json.dumps(cast))
        arguments = (*arguments, "--providers", path)
    with running("simulating", "simulate", "--http", "127.0.0.1:0", *arguments) as started:
        yield SimulatedProviders(started.http, started.process)
    assert [line["event"] for line in started.log] == ["simulating", "stopped"]


def events(body: bytes) -> list[Any]:
    """Return the JSON values of a stream's events; the stream must end with `[DONE]`."""
    *parts, done, rest = body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(one.removeprefix("data: ")) for one in parts]
