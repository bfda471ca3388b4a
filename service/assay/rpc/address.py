"""Listen addresses: `HOST:PORT` on loopback, or `unix:PATH`."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from assay.engine.errors import OperatorError, quoted

MAX_PORT = 65535


class BadAddress(OperatorError):
    """A listen address has neither of the two forms."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"listen: {quoted(address)} is not a valid address; expected HOST:PORT or unix:PATH"
        )


class PlaintextRefused(OperatorError):
    """Other machines could reach the address, without encryption."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"listen: {quoted(address)} is not a loopback address; "
            "plaintext is served on 127.0.0.1, [::1], localhost or unix:PATH only"
        )


class CannotListen(OperatorError):
    """The operating system does not grant the address."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"listen: cannot listen on {quoted(address)}: {why}")


def check_address(address: str) -> str:
    """Return the address unchanged if plaintext may be served there; raises OperatorError."""
    if address.startswith("unix:"):
        _check_socket(address)
        return address
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
        raise BadAddress(address)
    if not is_loopback(host.removeprefix("[").removesuffix("]")):
        raise PlaintextRefused(address)
    return address


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the host; of names, only localhost counts."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_socket(address: str) -> None:
    """Reject a socket that another server answers on: gRPC would silently take it over."""
    path = Path(address.removeprefix("unix:"))
    if not path.name:
        raise BadAddress(address)
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(path))
            raise CannotListen(address, "another server is listening on it")
    elif path.exists():
        raise CannotListen(address, "the path is a file and not a socket")
