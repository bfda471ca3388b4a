"""Addresses that providers may have, and names that resolve to others."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest

from assay.forward.addresses import CheckedResolver, is_forbidden, is_forbidden_literal


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("93.184.216.34", True, True),
        ("2606:2800:220:1::1", True, True),
        ("127.0.0.1", False, True),
        ("10.1.2.3", False, True),
        ("172.31.0.1", False, True),
        ("192.168.1.1", False, True),
        ("100.64.0.1", False, True),
        ("::1", False, True),
        ("fd00::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("0.0.0.0", False, False),  # noqa: S104 - never listened on
        ("224.0.0.1", False, False),
        ("255.255.255.255", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::7f00:1", False, False),
        ("2002:7f00:1::", False, False),
        ("2001::1", False, False),
        ("ff02::1", False, False),
    ],
)
def test_public_and_private_addresses_are_told_apart(
    address: str, *, public: bool, private: bool
) -> None:
    assert is_forbidden(ip_address(address), private=False) is not public
    assert is_forbidden(ip_address(address), private=True) is not private


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "10.0.0.1", "::1", "1"]
)
def test_other_spellings_of_addresses_are_not_names(host: str) -> None:
    assert is_forbidden_literal(host, private=False)


def test_a_host_name_is_not_an_address() -> None:
    assert not is_forbidden_literal("api.example.com", private=False)


def test_a_name_of_this_machine_is_rejected_unless_the_provider_is_private() -> None:
    async def resolve(private: frozenset[str]) -> list[str]:
        resolver = CheckedResolver(private)
        return [each["host"] for each in await resolver.resolve("localhost", 80, socket.AF_INET)]

    with pytest.raises(OSError, match="not allowed"):
        asyncio.run(resolve(frozenset()))
    assert asyncio.run(resolve(frozenset({"localhost"}))) == ["127.0.0.1"]
