"""A session goes back to the endpoint that served it last, and callers learn what was changed."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.support.forwarding_chain import Chain
from tests.support.misbehaving_provider import KEY
from tests.support.scripted_forwarding import ScriptedForwarder, forwarding, providers_file

from assay.forward.sessions import SessionMemory
from assay.forward.settings import Clients, read_providers
from assay.v1 import routing_pb2 as pb

METADATA = {"X-OpenRouter-Metadata": "enabled"}


def previous(world: ScriptedForwarder) -> tuple[str, str]:
    asked = world.decider.asked[-1]
    return asked.previous_endpoint_id, asked.previous_decision_id


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["session_id", "prompt_cache_key"])
def test_a_session_names_the_endpoint_and_the_decision_that_served_it_last(
    world: ScriptedForwarder, name: str, *, stream: bool
) -> None:
    fields: dict[str, Any] = {name: f"{name} {stream}"}
    first = world.ask("lab/s500.good", stream=stream, **fields)
    assert previous(world) == ("", "")
    second = world.ask("lab/s500.good", stream=stream, **fields)
    assert previous(world) == ("lab/s500.good@good", first.decision_id)
    world.ask("lab/s500.good:exacto", stream=stream, **fields)
    assert previous(world) == ("lab/s500.good@good", second.decision_id)


def test_a_session_stays_where_it_was_after_a_request_that_failed(
    world: ScriptedForwarder,
) -> None:
    good = world.ask("lab/good", session_id="failing")
    world.ask("lab/s500", session_id="failing")
    world.ask("lab/good", session_id="failing")
    assert previous(world) == ("lab/good@good", good.decision_id)


def test_requests_without_a_session_name_no_previous_endpoint(world: ScriptedForwarder) -> None:
    for _ in range(2):
        world.ask("lab/good")
        assert previous(world) == ("", "")


def test_tenants_do_not_share_sessions(world: ScriptedForwarder, tmp_path: Path) -> None:
    clients = Clients({sha256(name.encode()).digest(): name for name in ("acme", "other")})
    providers = read_providers(providers_file(tmp_path, world.provider.port, 1), {"KEY": KEY})
    with forwarding(world.decider_address, providers, tmp_path / "spool", clients) as address:
        guarded = ScriptedForwarder(
            world.provider, world.decider, address, tmp_path / "spool", world.decider_address
        )
        for tenant, known in (("acme", False), ("other", False), ("acme", True)):
            headers = {"Authorization": f"Bearer {tenant}"}
            assert guarded.ask("lab/good", headers=headers, session_id="s").status == 200
            assert bool(previous(world)[0]) is known


def test_the_sessions_that_were_used_last_are_remembered() -> None:
    memory = SessionMemory(max_sessions=2)
    for name in ("a", "b", "a", "c"):
        question = pb.DecideRequest(model="lab/m", session_id=name)
        memory.recall(question)
        memory.remember(question, f"lab/m@{name}", "d")
    found = []
    for name in ("a", "b", "c"):
        question = pb.DecideRequest(model="lab/m", session_id=name)
        memory.recall(question)
        found.append(question.previous_endpoint_id)
    assert found == ["lab/m@a", "", "lab/m@c"]


def test_a_conversation_stays_at_the_endpoint_that_took_it_over(chain: Chain) -> None:
    chain.providers.play("bad", {"kind": "status", "status": 500})
    try:
        sessions = [f"conversation {number}" for number in range(20)]
        moved = [name for name in sessions if attempts_of(chain, name) == ["bad", "good"]]
    finally:
        chain.providers.play("bad")
    assert moved
    for name in moved:
        assert attempts_of(chain, name) == ["good"]
        later = chain.ask("lab/pair", provider={}, session_id=name, headers=METADATA)
        assert later.metadata["affinity"] == "kept"


def attempts_of(chain: Chain, session: str) -> list[str]:
    """Return the providers that were tried for the next request of a session."""
    answer = chain.ask("lab/pair", provider={}, session_id=session, headers=METADATA)
    return [each["provider"] for each in answer.metadata["attempts"]]


def test_the_metadata_block_names_dropped_parameters_warnings_and_affinity(
    world: ScriptedForwarder,
) -> None:
    warning = {
        "field": "provider.ignore[0]",
        "value": "DeepInfa",
        "reason": "unknown-provider",
        "message": "provider.ignore[0]: 'DeepInfa' means no provider",
        "suggestion": "deepinfra",
    }
    world.decider.warnings = [pb.Warning(**warning)]
    world.decider.affinity = "kept"
    try:
        fields = {"seed": 7, "stop": ["x"], "top_k": None, "max_tokens": 5}
        body = {"model": "lab/good", "messages": [], **fields}
        got = world.post(json.dumps(body).encode(), METADATA)
    finally:
        world.decider.warnings, world.decider.affinity = [], ""
    block = got.json["openrouter_metadata"]
    assert block["warnings"] == [warning]
    assert block["affinity"] == "kept"
    assert [each["dropped_parameters"] for each in block["attempts"]] == [["seed", "stop"]]
    plain = world.ask("lab/other", headers=METADATA).json["openrouter_metadata"]
    assert (plain["warnings"], plain["affinity"]) == ([], None)
    assert "dropped_parameters" not in plain["attempts"][0]
