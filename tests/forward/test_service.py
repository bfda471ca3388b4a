"""The forwarder with the real service: demotion, kill -9 under load, no leaked prompts."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.catalogs import NOW
from tests.support.forwarding_chain import (
    KEY,
    METADATA,
    Answer,
    Chain,
    ask,
    dead_port,
    deaf_port,
    forwarding,
    providers_file,
)
from tests.support.processes import AssayProcess, running
from tests.support.searches import files_containing, tables_containing
from tests.support.simulated_providers import HELLO, WEATHER, SimulatedProviders, simulating
from tests.support.waiting import eventually

from assay.store.database import open_database, reading
from assay.store.evidence_tables import outcome

CLIENT_KEY = "sk-canary-of-the-client"
PROMPT = "canary-prompt"
TENANT = "acme"
LOAD = 8
KNOWN = {"Authorization": f"Bearer {CLIENT_KEY}"}


@dataclass(frozen=True)
class House:
    """A forwarder and a service with their own files."""

    folder: Path
    database: str
    providers: SimulatedProviders
    http: str
    log: list[dict[str, Any]]
    service_log: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, model: str, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        body = {"model": model, "messages": [HELLO], "provider": {"sort": "price"}, **fields}
        return ask(self.http, "POST", "/v1/chat/completions", json.dumps(body), headers)

    def service(self) -> AbstractContextManager[AssayProcess]:
        """Run the service on the socket that the forwarder dials."""
        return serving_on_socket(self.folder, self.database)


def serving_on_socket(folder: Path, database: str) -> AbstractContextManager[AssayProcess]:
    options = ("--database", database, "--journal", folder / "journal", "--now", NOW)
    return running("serving", "serve", "--listen", f"unix:{folder / 'assay.sock'}", *options)


@contextmanager
def housed(database: str, folder: Path, *arguments: object, **spec: object) -> Iterator[House]:
    """Run providers and a forwarder; the test starts the service."""
    copied = folder / "assay.db"
    shutil.copyfile(database.removeprefix("sqlite:///"), copied)
    with simulating() as providers, dead_port() as dead, deaf_port() as deaf:
        file = providers_file(folder, providers, dead=dead, deaf=deaf, **spec)
        with forwarding(
            f"unix:{folder / 'assay.sock'}", file, folder / "spool", *arguments
        ) as front:
            yield House(folder, f"sqlite:///{copied}", providers, front.http, front.log)


def reported(url: str) -> Counter[str]:
    """Count the outcomes of each decision in the database."""
    database = open_database(url)
    with reading(database) as connection:
        found = Counter(connection.scalars(select(outcome.c.decision_id)))
    database.dispose()
    return found


@pytest.fixture(scope="module")
def house(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Yield all of it, with client keys required."""
    folder = tmp_path_factory.mktemp("house")
    keys = [{"tenant": TENANT, "sha256": sha256(CLIENT_KEY.encode()).hexdigest()}]
    clients = folder / "clients.yaml"
    clients.write_text(json.dumps({"apiVersion": "assay/v1", "kind": "Clients", "spec": keys}))
    with housed(database, folder, "--clients", clients) as house, house.service() as service:
        yield replace(house, service_log=service.log)


@pytest.mark.parametrize("model", ["lab/dead", "lab/deaf"])
def test_a_dead_provider_is_demoted_for_the_next_requests(house: House, model: str) -> None:
    slow = [house.ask(model, KNOWN) for _ in range(6)]
    eventually(lambda: house.ask(model, KNOWN).seconds, lambda seconds: seconds < 0.25)
    metadata = house.ask(model, {**KNOWN, **METADATA}).metadata

    assert {answer.status for answer in slow} == {200}
    assert max(answer.seconds for answer in slow) < 1.3
    assert [attempt["provider"] for attempt in metadata["attempts"]] == ["good"]


@dataclass
class Load:
    """Continuous requests from several callers."""

    house: House
    answers: list[Answer] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ended.is_set():
            self.answers.append(
                self.house.ask("lab/pair", METADATA, stream=len(self.answers) % 2 == 0)
            )

    @contextmanager
    def put(self) -> Iterator[None]:
        callers = [threading.Thread(target=self.run) for _ in range(LOAD)]
        for caller in callers:
            caller.start()
        try:
            yield
        finally:
            self.ended.set()
            for caller in callers:
                caller.join()

    def served(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == 200]


def test_a_killed_service_costs_no_outcome_and_needs_no_restart_of_the_forwarder(
    database: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        house = stack.enter_context(housed(database, tmp_path, deadline="2s"))
        house.providers.play("bad", {"kind": "status", "status": 500, "share": 0.2})
        load = Load(house)
        first = stack.enter_context(house.service())
        with load.put():
            eventually(load.served, lambda served: len(served) > 50)
            first.kill()
            eventually(lambda: [answer for answer in load.answers if answer.status == 503])
            killed = len(load.served())
            stack.enter_context(house.service())
            eventually(load.served, lambda served: len(served) > killed + 50)
        # every attempt of every answer: what was accepted is counted, and counted once
        expected = {
            answer.decision_id: len(answer.metadata["attempts"]) for answer in load.served()
        }
        eventually(
            lambda: reported(house.database), lambda found: expected.items() <= found.items()
        )
        eventually(
            lambda: list((tmp_path / "spool").glob("*.outcomes")), lambda waiting: not waiting
        )

    refused = [answer for answer in load.answers if answer.status != 200]
    assert {answer.status for answer in refused} == {503}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert max(answer.seconds for answer in load.answers) < 6


def test_prompts_and_keys_are_stored_nowhere(house: House) -> None:
    texts = send_canaries(house)
    metrics = ask(house.http, "GET", "/metrics").body.decode()
    eventually(
        lambda: list((house.folder / "spool").glob("*.outcomes")), lambda waiting: not waiting
    )
    eventually(lambda: reported(house.database), lambda found: len(found) >= 8)

    for canary in (*texts, PROMPT, KEY, CLIENT_KEY):
        assert files_containing(house.folder, canary, except_suffix=".yaml") == []
        assert tables_in(house.database, canary) == set()
        assert canary not in metrics
        assert canary not in json.dumps([house.log, house.service_log])


def tables_in(url: str, text: str) -> set[str]:
    database = open_database(url)
    found = tables_containing(database, text)
    database.dispose()
    return found


def send_canaries(house: House) -> list[str]:
    """Send good and bad requests with canaries in every field; return the texts of the answers."""
    canary = {"role": "user", "content": PROMPT}
    texts: list[str] = []
    for stream in (False, True):
        for fault in (
            {"kind": "status", "status": 401, "words": f"Incorrect API key provided: {KEY}"},
            {
                "kind": "status",
                "status": 400,
                "words": f"Incorrect API key provided: {KEY}; {PROMPT}",
            },
            {"kind": "malformed"},
            {"kind": "error_event"},
        ):
            house.providers.play("bad", fault)
            answer = house.ask(
                "lab/pair", KNOWN, messages=[canary], user=PROMPT, stop=[PROMPT], stream=stream
            )
            assert KEY.encode() not in answer.body
            if answer.status == 200:
                texts.append(answer.text)
        tool = {**WEATHER, "function": {**WEATHER["function"], "description": PROMPT}}
        answer = house.ask("lab/good", KNOWN, messages=[canary], tools=[tool], stream=stream)
        assert answer.status == 200
    for wrong in (
        f'{{"model": "lab/good", "messages": "{PROMPT}',
        f'{{"model": "{PROMPT}", "messages": []}}',
        PROMPT,
    ):
        assert ask(house.http, "POST", "/v1/chat/completions", wrong, KNOWN).status == 400
    assert (
        ask(
            house.http,
            "POST",
            "/v1/chat/completions",
            PROMPT,
            {"Authorization": f"Bearer {PROMPT}"},
        ).status
        == 401
    )
    return texts


def test_a_name_that_means_no_provider_comes_back_with_a_suggestion(chain: Chain) -> None:
    answer = chain.ask("lab/pair", provider={"ignore": [" GODO"]}, headers=METADATA)
    (warning,) = answer.metadata["warnings"]
    assert answer.status == 200
    assert (warning["field"], warning["suggestion"]) == ("provider.ignore[0]", "good")
    nothing = chain.ask("lab/pair", provider={"only": ["godo"]})
    assert nothing.status == 404
    assert "did you mean good?" in nothing.error["message"]


def test_a_schema_needs_structured_outputs_only_if_parameters_are_required(chain: Chain) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}
    answer = chain.ask("lab/pair", response_format=schema, headers=METADATA)
    assert answer.status == 200
    assert answer.metadata["attempts"][0]["dropped_parameters"] == ["response_format"]
    required = {"require_parameters": True}
    assert chain.ask("lab/pair", response_format=schema, provider=required).status == 404
    either_name = chain.ask("lab/pair", max_completion_tokens=50, provider=required)
    assert either_name.status == 200
