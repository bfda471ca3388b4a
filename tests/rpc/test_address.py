"""Listen addresses: loopback and Unix sockets only, and no socket in use is replaced."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from assay.rpc.address import BadAddress, CannotListen, PlaintextRefused, check_address


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:0", "127.8.8.8:50051", "[::1]:50051", "localhost:50051", "unix:/missing/x"],
)
def test_loopback_and_unix_addresses_are_accepted(address: str) -> None:
    assert check_address(address) == address


@pytest.mark.parametrize(
    "address", ["0.0.0.0:50051", "[::]:50051", "10.0.0.1:1", "example.org:1", "localhost.evil:1"]
)
def test_other_addresses_are_rejected(address: str) -> None:
    with pytest.raises(PlaintextRefused, match="loopback"):
        check_address(address)


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", ":50051", "127.0.0.1:", "127.0.0.1:65536", "localhost:x", "unix:"]
)
def test_an_invalid_address_is_rejected(address: str) -> None:
    with pytest.raises(BadAddress, match="HOST:PORT"):
        check_address(address)


def test_a_socket_in_use_is_not_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        other.listen()
        with pytest.raises(CannotListen, match="another server"):
            check_address(f"unix:{tmp_path}/s")


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))

    assert check_address(f"unix:{tmp_path}/s") == f"unix:{tmp_path}/s"


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(CannotListen, match="not a socket"):
        check_address(f"unix:{tmp_path}/s")
