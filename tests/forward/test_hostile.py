"""Hostile callers and providers: memory stays bounded, errors are clear, others are served."""

from __future__ import annotations

import json
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse, RemoteDisconnected

import pytest
from tests.support.forwarding_chain import Chain, ask, resident_mib, running_chain
from tests.support.simulated_providers import HELLO
from tests.support.waiting import DEADLINE_SECONDS, eventually

from assay.forward.http_limits import REST_SECONDS

MIB = 1 << 20
HUGE = 100 * MIB
IDLE = 10_000
SPARE = 1_000  # other files of this process and of the forwarder
PIECE = b"x" * 65_536
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
BODY = json.dumps({"model": "lab/good", "messages": [HELLO]}).encode()


@pytest.fixture(scope="module")
def chain(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Yield a forwarder for this module alone, since its memory is measured."""
    with running_chain(database, tmp_path_factory.mktemp("hostile"), deadline="20s") as started:
        assert started.ask("lab/good").status == 200
        yield started


@contextmanager
def bounded(chain: Chain, mib: float) -> Iterator[None]:
    """Assert that others are served after the block and that memory grew by less than `mib`."""
    before = resident_mib(chain.process)
    yield
    grown = resident_mib(chain.process) - before
    serves_others(chain)
    assert grown < mib


def serves_others(chain: Chain) -> None:
    answer = chain.ask("lab/good")
    assert answer.status == 200
    assert answer.seconds < 5


def connected(chain: Chain) -> socket.socket:
    host, _, port = chain.http.rpartition(":")
    return socket.create_connection((host, int(port)), DEADLINE_SECONDS)


def answered(connection: socket.socket) -> bytes:
    """Return all bytes until the other side closes."""
    parts: list[bytes] = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def poured(
    chain: Chain, head: bytes, piece: Callable[[bytes], bytes], most: int
) -> tuple[int, int, bytes]:
    """Send until a reply arrives, at most `most` bytes.

    Return the bytes sent, the status (0 if the connection was closed) and the body.
    """
    with connected(chain) as connection:
        connection.sendall(head)
        sent, data = 0, piece(PIECE)
        while sent < most:
            readable, writable, _ = select.select([connection], [connection], [], DEADLINE_SECONDS)
            assert readable or writable
            if readable:
                break
            try:
                sent += connection.send(data)
            except (BrokenPipeError, ConnectionResetError):
                break
        answer = HTTPResponse(connection)
        try:
            answer.begin()
        except (RemoteDisconnected, ConnectionResetError):
            return sent, 0, b""
        return sent, answer.status, answer.read()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("framing", "piece"),
    [
        pytest.param(b"Content-Length: %d\r\n\r\n" % HUGE, bytes, id="of a stated length"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n", chunk, id="in chunks"),
    ],
)
def test_bodies_of_a_hundred_megabytes_are_rejected(
    chain: Chain, framing: bytes, piece: Callable[[bytes], bytes]
) -> None:
    with bounded(chain, 250), ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: poured(chain, HEAD + framing, piece, HUGE), range(4)))

    for sent, status, answer in found:
        assert status == 413
        assert b"32 MiB" in answer
        assert sent < HUGE / 2


def trickle(connection: socket.socket, seconds: float) -> None:
    """Send one byte at a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(b"x")
        select.select([], [], [], 0.05)


@pytest.mark.slow
def test_a_caller_that_sends_slowly_after_its_reply_is_disconnected(chain: Chain) -> None:
    with connected(chain) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % HUGE)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            trickle(connection, DEADLINE_SECONDS)
        assert time.monotonic() - began >= REST_SECONDS - 0.5


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(lambda data: b"X-A: " + data[:200] + b"\r\n", id="one after another"),
        pytest.param(bytes, id="one that does not end"),
    ],
)
def test_endless_headers_are_cut_off(chain: Chain, piece: Callable[[bytes], bytes]) -> None:
    with bounded(chain, 50):
        sent, status, _ = poured(chain, HEAD + b"X-Long: ", piece, HUGE)

    assert sent < 4 * MIB
    assert status in {0, 400, 431}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 20 * MIB, id="nested without end"),
        pytest.param(
            b'{"model":"lab/good","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            id="nested deeply",
        ),
        pytest.param(b'{"model":' + b"9" * 10 * MIB + b"}", id="a number of ten million digits"),
        pytest.param(
            b'{"model":"' + b"x" * 10 * MIB + b'","messages":[]}',
            id="a model of ten million letters",
        ),
        pytest.param(b"\xff\xfe" * 1000, id="not text"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"null", id="null"),
        pytest.param(BODY[:-1], id="cut"),
    ],
)
def test_an_invalid_body_is_rejected_with_a_message(chain: Chain, body: bytes) -> None:
    with bounded(chain, 150):
        answer = ask(chain.http, "POST", "/v1/chat/completions", body)

    assert answer.status == 400
    assert len(answer.error["message"]) < 500


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), id="TLS"),
        pytest.param(bytes(range(256)) * 16, id="noise"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            id="a length below zero",
        ),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n", id="not a chunk"),
        pytest.param(
            HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="two lengths",
        ),
    ],
)
def test_bytes_that_are_not_http_are_rejected(chain: Chain, sent: bytes) -> None:
    with bounded(chain, 20), connected(chain) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = answered(connection)

    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505"))


def test_slow_senders_delay_no_one_and_incomplete_heads_time_out(chain: Chain) -> None:
    with bounded(chain, 50), ExitStack() as stack:
        heads = [stack.enter_context(connected(chain)) for _ in range(200)]
        bodies = [stack.enter_context(connected(chain)) for _ in range(200)]
        for head, body in zip(heads, bodies, strict=True):
            head.sendall(HEAD)
            body.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        began, left = time.monotonic(), set(heads)
        while left:
            serves_others(chain)
            readable, _, _ = select.select(left, [], [], 0.2)
            for connection in readable:
                answer = answered(connection)
                assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
            left -= set(readable)
            for connection in (*left, *bodies):
                drip(connection)
            assert time.monotonic() - began < DEADLINE_SECONDS


def drip(connection: socket.socket) -> None:
    """Send one byte, as a slow sender would."""
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.send(b"x")


def test_half_closed_callers_leave_nothing_behind(chain: Chain) -> None:
    chain.providers.forget()
    with bounded(chain, 20), ExitStack() as stack:
        half = [stack.enter_context(connected(chain)) for _ in range(50)]
        for connection in half:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
            connection.shutdown(socket.SHUT_WR)
        answers = [answered(connection) for connection in half]

    assert all(answer == b"" or answer.startswith(b"HTTP/1.1 200") for answer in answers)
    eventually(lambda: chain.seen("good"), lambda seen: all(one["end"] != "open" for one in seen))


def test_thousands_of_idle_connections_do_not_hinder_others(chain: Chain) -> None:
    """Open 10,000 connections, or as many as the limit of open files allows."""
    count = min(IDLE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE)
    with bounded(chain, 200), ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connected(chain))
        serves_others(chain)
        assert chain.ask("lab/good", stream=True).done
    if count < IDLE:
        pytest.skip(f"{count:,} idle connections passed; the limit of open files allows no more")


@pytest.mark.parametrize(
    "stream", [pytest.param(False, id="plain"), pytest.param(True, id="stream")]
)
def test_endless_answers_are_cut_off(chain: Chain, *, stream: bool) -> None:
    chain.providers.play("bad", {"kind": "endless_line"})
    with bounded(chain, 300), ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: chain.ask("lab/solo", stream=stream), range(4)))

    assert {answer.status for answer in answers} == {503}
    eventually(lambda: chain.seen("bad"), lambda seen: all(one["end"] != "open" for one in seen))


def test_a_caller_that_does_not_read_slows_its_provider_down(chain: Chain) -> None:
    chain.providers.forget()
    chain.providers.play("slow", tokens=100_000)  # more than the buffers of all sockets
    body = json.dumps({"model": "lab/slow", "messages": [HELLO], "stream": True}).encode()
    with bounded(chain, 50), ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(connected(chain))
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        eventually(lambda: chain.seen("slow"), lambda seen: len(seen) == 5)
        for _ in range(3):
            serves_others(chain)
        assert {one["end"] for one in chain.seen("slow")} == {"open"}
    eventually(
        lambda: chain.seen("slow"), lambda seen: {one["end"] for one in seen} == {"cancelled"}
    )


def test_a_redirect_is_never_followed(chain: Chain) -> None:
    chain.providers.forget()
    trap = f"{chain.providers.base_url('trap')}/chat/completions"
    chain.providers.play("bad", {"kind": "redirect", "location": trap})

    assert chain.ask("lab/solo").status == 503
    assert chain.seen("trap") == []
