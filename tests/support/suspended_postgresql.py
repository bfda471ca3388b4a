"""A PostgreSQL server whose processes are stopped: connections are open, answers never come."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url


@contextmanager
def suspended_postgresql(url: str) -> Iterator[None]:
    """Stop the server and all its backends within the context."""
    socket = make_url(url).query["host"]
    server = int((Path(str(socket)) / "postmaster.pid").read_text().splitlines()[0])
    stopped = [server]
    os.kill(server, signal.SIGSTOP)  # first, so that it starts no further process
    for pid in _children(server):
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def _children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == parent:
            found.append(int(status.parent.name))
    return found
