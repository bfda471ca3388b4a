"""Addresses that providers may have: public ones, and private ones if providers.yaml says so.

A name is resolved once, every address is checked, and the connection goes to a checked address. So
a name cannot resolve to another machine between check and connection. TLS still verifies the name.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_PRIVATE: Final = tuple(map(ip_network, (
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128",
    "fc00::/7",
)))  # fmt: skip
# IPv6 with an IPv4 address inside can lead anywhere.
_TRANSLATED: Final = tuple(
    map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
)


def is_forbidden(address: IPv4Address | IPv6Address, *, private: bool) -> bool:
    """Return whether a provider, private or not, must not have this address."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if any(address in network for network in _TRANSLATED):
        return True
    if any(address in network for network in _PRIVATE):
        return not private
    return not address.is_global or address.is_multicast


def is_forbidden_literal(host: str, *, private: bool) -> bool:
    """Return whether a host is a forbidden address; names are checked when they are resolved."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        # The C library takes `127.1`, `2130706433` and `0x7f000001` for addresses.
        return host.rpartition(".")[2].isdigit() or host.lower().startswith("0x")
    return is_forbidden(address, private=private)


class CheckedResolver(AbstractResolver):
    """Resolves names, and rejects a name if any of its addresses is forbidden."""

    def __init__(self, private_hosts: frozenset[str]) -> None:
        self._private_hosts = private_hosts
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return every address of a name; raise OSError if one of them is forbidden."""
        found = await self._resolver.resolve(host, port, family)
        private = host in self._private_hosts
        for each in found:
            if is_forbidden(ip_address(each["host"].partition("%")[0]), private=private):
                raise OSError(None, "the name resolves to an address that is not allowed")
        return found

    async def close(self) -> None:
        """Close the resolver inside."""
        await self._resolver.close()
