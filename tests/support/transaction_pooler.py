"""A pooler in transaction mode, such as PgBouncer: transactions share server connections.

It listens on a Unix socket and speaks as much of PostgreSQL's protocol as that takes: messages are
passed on, and a server connection is returned when the server is ready outside a transaction.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

from sqlalchemy import URL, make_url

PORT = 6432
_VERSION = 196608
_REQUESTS = {80877103, 80877104}  # for SSL and GSSAPI encryption
_CANCEL = 80877102


class Gone(Exception):
    """A peer has closed its connection."""


@dataclass(eq=False)
class Server:
    """One connection to the server; `greeting` is what it sent at the start."""

    connection: socket.socket
    greeting: bytes = b""


@dataclass
class Pooler:
    url: URL
    servers: Queue[Server] = field(default_factory=Queue)

    def connect(self) -> None:
        """Add one server connection."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{self.url.query['host']}/.s.PGSQL.{self.url.port or 5432}")
        words = ("user", self.url.username or "", "database", self.url.database or "", "")
        body = struct.pack("!i", _VERSION) + b"\0".join(word.encode() for word in words) + b"\0"
        connection.sendall(struct.pack("!i", len(body) + 4) + body)
        server = Server(connection)
        while True:
            kind, message = read_message(connection)
            assert kind != b"E", message
            server.greeting += message
            if kind == b"Z":
                break
        self.servers.put(server)

    def serve(self, client: socket.socket) -> None:
        """Answer one client until it leaves."""
        with closing(client), suppress(Gone, OSError):
            while True:
                (size,) = struct.unpack("!i", read(client, 4))
                (code,) = struct.unpack_from("!i", read(client, size - 4))
                if code == _CANCEL:
                    return
                if code not in _REQUESTS:
                    break
                client.sendall(b"N")
            server = self.servers.get()
            client.sendall(server.greeting)
            self.servers.put(server)
            while self._transaction(client):
                pass

    def _transaction(self, client: socket.socket) -> bool:
        """Pass messages on until the end of a transaction; return whether the client stays."""
        first = read_message(client)
        if first[0] == b"X":
            return False
        server, unanswered = self.servers.get(), 0
        peers = (client, server.connection)
        pending = [(client, first)]
        while True:
            for source, (kind, message) in pending:
                if source is client and kind == b"X":
                    self.connect()  # in the middle of a transaction: the connection is lost
                    server.connection.close()
                    return False
                (server.connection if source is client else client).sendall(message)
                if source is client:
                    unanswered += kind in {b"Q", b"S"}
                elif kind == b"Z":
                    unanswered -= 1
                    if message.endswith(b"I") and not unanswered:
                        self.servers.put(server)
                        return True
            readable, _, _ = select.select(peers, (), ())
            pending = [(each, read_message(each)) for each in readable]


def read(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            raise Gone
        data += piece
    return data


def read_message(peer: socket.socket) -> tuple[bytes, bytes]:
    """Return the kind of the next message, and all of its bytes."""
    head = read(peer, 5)
    (size,) = struct.unpack("!i", head[1:])
    return head[:1], head + read(peer, size - 4)


@contextmanager
def transaction_pooler(url: str, folder: Path, *, size: int = 2) -> Iterator[str]:
    """Pool connections to a database; yield the URL of the pooler."""
    pooler = Pooler(make_url(url))
    for _ in range(size):
        pooler.connect()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / f".s.PGSQL.{PORT}"))
        listening.listen()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    threading.Thread(target=pooler.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        pooled = pooler.url.set(port=PORT).update_query_dict({"host": str(folder)})
        yield pooled.render_as_string(hide_password=False)
        listening.shutdown(socket.SHUT_RDWR)
    while not pooler.servers.empty():
        pooler.servers.get().connection.close()
