"""Where to listen: `HOST:PORT` on loopback, or `unix:PATH`."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path

from assay.engine.errors import OperatorError, quoted

MAX_PORT = 65535


class BadAddress(OperatorError):
    """A listen address that is not one."""

    def __init__(self, address: str) -> None:
        super().__init__(f"listen: {quoted(address)} is not HOST:PORT or unix:PATH")
        self.address = address


class PlaintextRefused(OperatorError):
    """An address that others could reach, without encryption."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"listen: {quoted(address)} is not a loopback address; plaintext is served on 127.0.0.1, [::1], localhost "
            "or unix:PATH only"
        )
        self.address = address


class CannotListen(OperatorError):
    """An address that the machine does not give us."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"listen: cannot listen on {quoted(address)}: {why}")
        self.address = address


def checked(address: str) -> str:
    """The address as given, if plaintext may be served there."""
    if address.startswith("unix:"):
        return unix_checked(address)
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
        raise BadAddress(address)
    if not is_loopback(host.removeprefix("[").removesuffix("]")):
        raise PlaintextRefused(address)
    return address


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it; names other than localhost could mean anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unix_checked(address: str) -> str:
    """Refuse a socket that another server answers on: gRPC would take it over without a word."""
    path = Path(address.removeprefix("unix:"))
    if not path.name:
        raise BadAddress(address)
    if path.is_socket() and is_answered(path):
        raise CannotListen(address, "another server listens there")
    if path.exists() and not path.is_socket():
        raise CannotListen(address, "a file is there that is no socket")
    return address


def is_answered(path: Path) -> bool:
    """Whether someone accepts connections."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
