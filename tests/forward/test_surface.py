"""Replies besides answers: errors in OpenRouter's envelope, catalog, health, metrics."""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from openrouter.components import ChatStreamChunk, ListEndpointsResponse, Model
from tests.support.misbehaving_provider import KEY
from tests.support.scripted_decider import deciding
from tests.support.scripted_forwarding import PROMPT, ScriptedForwarder, forwarding, providers_file
from tests.support.waiting import eventually

from assay.forward import app, reporting
from assay.forward.settings import Clients, read_providers
from assay.v1 import evidence_pb2 as pb


def asking(**fields: Any) -> str:
    return json.dumps(
        {"model": "lab/good", "messages": [{"role": "user", "content": PROMPT}], **fields}
    )


BAD = (
    ("not JSON", "{", "body"),
    ("a list", "[]", "body"),
    ("no messages", '{"model": "lab/good"}', "messages"),
    ("odd messages", asking(messages={}), "messages"),
    ("odd model", asking(model=7), "model"),
    ("odd models", asking(models="x"), "models"),
    ("odd stream", asking(stream="yes"), "stream"),
    ("odd tools", asking(tools={}), "tools"),
    ("unknown preference", asking(provider={"fastest": True}), "provider"),
    ("odd preference", asking(provider={"only": "x"}), "provider.only"),
    ("a huge number", asking(max_tokens=10**20), "max_tokens"),
    ("half a surrogate pair", asking(session_id="x").replace('"x"', '"\\ud800"'), "body"),
)


@pytest.mark.parametrize(
    ("body", "field"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_an_invalid_request_is_rejected_with_the_name_of_its_field(
    world: ScriptedForwarder, body: str, field: str
) -> None:
    got = world.post(body.encode())
    assert got.status == 400
    assert got.json["error"]["message"].startswith(f"{field}: ")
    assert got.json["error"]["metadata"]["error_type"] == "invalid_request"
    assert PROMPT not in got.body.decode()


def test_an_unknown_model_is_a_400(world: ScriptedForwarder) -> None:
    got = world.ask("unknown/x")
    assert got.status == 400
    assert got.json["error"]["availability"]["code"] == "model_not_found"
    assert "unknown/x" in got.json["error"]["message"]


def test_a_reply_without_endpoints_gives_the_reasons(world: ScriptedForwarder) -> None:
    got = world.ask("pool/x", models=["pool/y"])
    availability = got.json["error"]["availability"]
    assert (got.status, availability["code"]) == (404, "constraint_filtered")
    assert availability["excluded_by"] == ["ACCURACY", "ignored"]
    assert availability["requested_models"] == ["pool/x", "pool/y"]
    assert got.decision_id


def test_providers_missing_from_the_file_are_skipped(world: ScriptedForwarder) -> None:
    assert world.ask("lab/missing.good").json["provider"] == "good"
    got = world.ask("lab/missing")
    assert (got.status, got.json["error"]["availability"]["code"]) == (404, "no_endpoints")


def test_openrouters_and_openais_clients_can_read_the_models(world: ScriptedForwarder) -> None:
    listed = eventually(lambda: world.request("GET", "/v1/models").json["data"])
    (model,) = listed
    Model.model_validate(model)
    assert (model["id"], model["object"], model["pricing"]["prompt"]) == (
        "lab/good",
        "model",
        "0.0000006",
    )
    endpoints = world.request("GET", "/v1/models/lab/good/endpoints").json["data"]
    ListEndpointsResponse.model_validate(endpoints)
    assert (endpoints["endpoints"][0]["tag"], endpoints["endpoints"][0]["quantization"]) == (
        "good",
        "fp8",
    )
    assert world.request("GET", "/v1/models/lab/none/endpoints").status == 404


def test_openrouters_client_can_read_the_chunks(world: ScriptedForwarder) -> None:
    got = world.ask("lab/good", stream=True, headers={"X-OpenRouter-Metadata": "enabled"})
    *chunks, done = got.events
    for chunk in chunks:
        ChatStreamChunk.model_validate(chunk)
    block = chunks[-1]["openrouter_metadata"]
    assert (block["attempt"], block["strategy"], block["endpoints"]["total"], done) == (
        1,
        "direct",
        2,
        "[DONE]",
    )
    assert block["endpoints"]["excluded"][0]["reasons"] == ["ACCURACY"]


def test_health_and_metrics(world: ScriptedForwarder) -> None:
    assert world.request("GET", "/healthz").json == {"status": "ok"}
    world.ask("lab/s500.good")
    text = world.request("GET", "/metrics").body.decode()
    assert 'assay_forward_attempts_total{end="server_error",provider="s500"}' in text
    assert 'assay_forward_requests_total{status="200"}' in text
    for part in ("catalog", "outcomes", "spool"):
        assert f'assay_forward_healthy{{part="{part}"}} 1.0' in text
    for name in ("sessions", "spool_unwritten_bytes", "set_aside_bytes"):
        assert f"assay_forward_{name} " in text
    assert KEY not in text
    assert PROMPT not in text


def test_too_many_requests_at_once_are_rejected(
    world: ScriptedForwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_MAX_RUNNING", 0)
    got = world.ask("lab/good")
    assert (got.status, got.headers["retry-after"]) == (503, "1")
    assert got.json["error"]["metadata"]["error_type"] == "overloaded"


def test_only_a_failure_that_demotes_is_reported_at_once(
    world: ScriptedForwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_LINGER_SECONDS", 3.0)
    time.sleep(0.5)  # until earlier outcomes are sent
    callers = world.ask("lab/s400").decision_id
    time.sleep(1)
    outcomes = [each for batch in world.decider.batches for each in batch.outcomes]
    assert callers not in {each.decision_id for each in outcomes}
    began = time.monotonic()
    world.seen(world.ask("lab/s500").decision_id)
    assert time.monotonic() - began < 2.9
    assert world.seen(callers)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/responses"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("GET", "/"),
        ("DELETE", "/nothing"),
    ],
)
def test_an_unknown_path_is_a_404_that_names_what_is_served(
    world: ScriptedForwarder, method: str, path: str
) -> None:
    got = world.request(method, path, b"{}" if method == "POST" else None)
    error = got.json["error"]
    assert (got.status, error["code"], error["type"]) == (404, 404, "not_found")
    assert f"{method} '{path}' is not served" in error["message"]
    assert "POST /v1/chat/completions" in error["message"]
    assert got.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", {"POST"}),
        ("OPTIONS", "/v1/chat/completions", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("DELETE", "/v1/models/lab/good", {"GET", "HEAD"}),
        ("POST", "/v1/models/lab/good/endpoints", {"GET", "HEAD"}),
        ("PUT", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_a_path_lacks_is_a_405_that_names_the_others(
    world: ScriptedForwarder, method: str, path: str, allowed: set[str]
) -> None:
    got = world.request(method, path)
    error = got.json["error"]
    assert (got.status, error["code"], error["type"]) == (405, 405, "method_not_allowed")
    assert set(got.headers["allow"].split(", ")) == allowed
    assert got.headers["x-request-id"]


@pytest.mark.parametrize("name", ["lab/good", "lab%2Fgood"])
def test_one_model_can_be_read(world: ScriptedForwarder, name: str) -> None:
    model = world.request("GET", f"/v1/models/{name}").json
    Model.model_validate(model)
    assert (model["id"], model["object"], model["owned_by"]) == ("lab/good", "model", "lab")
    missing = world.request("GET", "/v1/models/lab/none")
    assert (missing.status, missing.json["error"]["type"]) == (404, "model_not_found")


@pytest.mark.parametrize("given", ["", "mine-7", "x" * 257, "é"])
def test_every_answer_has_a_request_id(world: ScriptedForwarder, given: str) -> None:
    headers = {"X-Request-Id": given} if given else {}
    answers = [
        world.request("GET", "/healthz", headers=headers),
        world.request("GET", "/metrics", headers=headers),
        world.request("GET", "/v1/models", headers=headers),
        world.request("GET", "/nothing", headers=headers),
        world.post(b"{", headers),
    ]
    if given in ("", "mine-7"):
        for stream in (False, True):
            answers.append(world.ask("lab/good", stream=stream, headers=headers))
            assert world.decider.asked[-1].request_id == answers[-1].headers["x-request-id"]
    found = [each.headers["x-request-id"] for each in answers]
    assert all(found)
    assert set(found) == {"mine-7"} if given == "mine-7" else len(set(found)) == len(found)


def reply_to(world: ScriptedForwarder, sent: bytes) -> tuple[bytes, bytes]:
    """Send bytes and return head and body of all that comes until the connection ends."""
    parts: list[bytes] = []
    with socket.create_connection(world.address) as connection:
        connection.sendall(sent)
        while part := connection.recv(65_536):
            parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    return head.lower(), body


def test_bytes_that_are_not_http_get_an_error_in_the_envelope(world: ScriptedForwarder) -> None:
    head, body = reply_to(world, b"NONSENSE\r\n\r\n")
    assert head.startswith(b"http/1.1 400 ")
    assert b"x-request-id: " in head
    assert json.loads(body)["error"]["type"] == "invalid_request"


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_of_http_1_0_gets_no_chunk_sizes(
    world: ScriptedForwarder, *, stream: bool
) -> None:
    asked = asking(stream=stream).encode()
    head, body = reply_to(
        world,
        b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n%b" % (len(asked), asked),
    )
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    if stream:
        assert body.startswith((b"data: {", b": ASSAY"))
        assert body.endswith(b"data: [DONE]\n\n")
        assert b"\r\n" not in body
    else:
        assert json.loads(body)["choices"]


def test_a_proxy_is_asked_not_to_hold_streams_back(world: ScriptedForwarder) -> None:
    assert world.ask("lab/good", stream=True).headers["x-accel-buffering"] == "no"
    assert "x-accel-buffering" not in world.ask("lab/good").headers


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(asking().encode())),
        ("GZip", gzip.compress(asking().encode())),
        ("x-gzip", b"".join(map(gzip.compress, (asking().encode()[:9], asking().encode()[9:])))),
        ("deflate", zlib.compress(asking().encode())),
        ("identity", asking().encode()),
        ("", asking().encode()),
    ],
)
def test_a_compressed_body_is_decompressed(
    world: ScriptedForwarder, coding: str, body: bytes
) -> None:
    got = world.post(body, {"Content-Encoding": coding})
    assert got.status == 200
    assert world.provider.seen[-1].body["messages"] == [{"role": "user", "content": PROMPT}]


@pytest.mark.parametrize(
    ("coding", "body", "status", "message"),
    [
        ("zstd", b"x", 415, "Content-Encoding 'zstd' is not supported; send gzip"),
        ("br", b"x", 415, "Content-Encoding 'br' is not supported; send gzip"),
        ("gzip, gzip", b"x", 415, "Content-Encoding 'gzip, gzip' is not supported; send gzip"),
        ("gzip", b"x" * 100, 400, "the body is not compressed as its Content-Encoding says"),
        ("gzip", gzip.compress(b"x" * 100)[:-9], 400, "the compressed body is incomplete"),
        ("gzip", b"", 400, "the compressed body is incomplete"),
        ("gzip", gzip.compress(bytes(100_000_000)), 413, "the body is larger than 32 MiB"),
    ],
    ids=["zstd", "br", "twice", "not compressed", "cut", "nothing", "a bomb"],
)
def test_a_body_that_cannot_be_decompressed_is_rejected(
    world: ScriptedForwarder, coding: str, body: bytes, status: int, message: str
) -> None:
    got = world.post(body, {"Content-Encoding": coding})
    assert (got.status, got.json["error"]["message"]) == (status, message)
    assert got.headers.get("accept-encoding") == ("gzip, deflate" if status == 415 else None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behavior", ["forever", "mute", "endless"])
def test_a_disconnect_cancels_the_request_at_the_provider(
    world: ScriptedForwarder, behavior: str, *, stream: bool
) -> None:
    before = len(world.provider.seen)
    with socket.create_connection(world.address) as connection:
        body = json.dumps({"model": f"lab/{behavior}", "stream": stream, "messages": []}).encode()
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        x = eventually(lambda: world.provider.seen[before:])[0]
    assert x.gone.wait(5)
    (outcome,) = world.seen(world.decision_of(f"lab/{behavior}"))
    assert outcome.result == pb.RESULT_CANCELLED


def test_a_caller_that_stops_reading_is_reported_as_cancelled(world: ScriptedForwarder) -> None:
    """The provider is not at fault: it may not be demoted."""
    body = json.dumps({"model": "lab/flood", "stream": True, "messages": []}).encode()
    with socket.create_connection(world.address) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        decision_id = eventually(lambda: world.decider.decided.get("lab/flood", ""))
        (outcome,) = world.seen(decision_id)
    assert outcome.HasField("first_token_s")
    assert outcome.result == pb.RESULT_CANCELLED


@pytest.fixture(scope="module")
def guarded(
    world: ScriptedForwarder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ScriptedForwarder]:
    """Yield a second forwarder, which requires a key."""
    folder = tmp_path_factory.mktemp("guarded")
    clients = Clients({sha256(b"acme-key").digest(): "acme"})
    providers = read_providers(providers_file(folder, world.provider.port, 1), {"KEY": KEY})
    with forwarding(world.decider_address, providers, folder / "spool", clients) as address:
        yield ScriptedForwarder(
            world.provider, world.decider, address, folder / "spool", world.decider_address
        )


def test_the_key_determines_the_tenant(guarded: ScriptedForwarder) -> None:
    got = guarded.ask("lab/good", headers={"Authorization": "Bearer acme-key"})
    assert got.status == 200
    assert guarded.decider.asked[-1].tenant == "acme"
    (outcome,) = guarded.seen(got.decision_id)
    assert outcome.tenant == "acme"
    assert "acme-key" not in str(guarded.provider.seen[-1].headers)


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": "acme-key"}]
)
def test_requests_without_a_known_key_are_rejected(
    guarded: ScriptedForwarder, headers: dict[str, str]
) -> None:
    asked = len(guarded.decider.asked)
    for got in (
        guarded.ask("lab/good", headers=headers),
        guarded.request("GET", "/v1/models", headers=headers),
        guarded.request("GET", "/v1/models/lab/good", headers=headers),
    ):
        assert got.status == 401
        assert got.headers["www-authenticate"] == 'Bearer realm="assay"'
        assert got.headers["x-request-id"]
        assert got.json["error"]["type"] == "authentication"
    assert len(guarded.decider.asked) == asked


def test_a_late_decider_is_awaited_and_a_missing_one_is_a_503(
    world: ScriptedForwarder, tmp_path: Path
) -> None:
    providers = read_providers(providers_file(tmp_path, world.provider.port, 1), {"KEY": KEY})
    address = f"unix:{tmp_path}/late"
    with forwarding(address, providers, tmp_path / "spool") as where:
        late = ScriptedForwarder(world.provider, world.decider, where, tmp_path / "spool", address)
        assert late.request("GET", "/healthz").status == 503
        began = time.monotonic()
        got = late.ask("lab/good")
        assert time.monotonic() - began < 8
        assert (got.status, got.headers["retry-after"]) == (503, "1")
        error: Any = got.json["error"]
        assert (error["metadata"]["error_type"], error["availability"]["retryable"]) == (
            "decider_unavailable",
            True,
        )
        with deciding(world.decider, address):
            assert late.ask("lab/good").status == 200
            world.decider.refusing = grpc.StatusCode.UNAVAILABLE
            unreported = late.ask("lab/good")
            eventually(lambda: world.decider.refused)
            world.decider.refusing = None
            assert len(late.seen(unreported.decision_id)) == 1


def test_an_attempt_takes_half_of_the_time_if_others_can_follow_and_else_all_of_it(
    world: ScriptedForwarder, tmp_path: Path
) -> None:
    providers = read_providers(providers_file(tmp_path, world.provider.port, 1), {"KEY": KEY})
    hurried = replace(providers, deadline=3.0)
    with forwarding(world.decider_address, hurried, tmp_path / "spool") as where:
        forwarder = ScriptedForwarder(
            world.provider, world.decider, where, tmp_path / "spool", world.decider_address
        )
        assert forwarder.ask("lab/forever.good").json["provider"] == "good"
        began = time.monotonic()
        assert forwarder.ask("lab/forever").status == 503
        assert time.monotonic() - began > 2.5


def test_requests_in_progress_end_before_the_forwarder_does(
    world: ScriptedForwarder, tmp_path: Path
) -> None:
    providers = read_providers(providers_file(tmp_path, world.provider.port, 1), {"KEY": KEY})
    before = len(world.provider.seen)
    with ThreadPoolExecutor(1) as pool:
        with forwarding(world.decider_address, providers, tmp_path / "spool") as where:
            ending = ScriptedForwarder(
                world.provider, world.decider, where, tmp_path / "spool", world.decider_address
            )
            answer = pool.submit(ending.ask, "lab/slow", stream=True)
            eventually(lambda: world.called(before))
        assert answer.result().text == 'Hello "you" there'
    assert not list((tmp_path / "spool").glob("*.outcomes"))
