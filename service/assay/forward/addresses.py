"""Which addresses may be connected to: public ones; loopback and private ones where the providers file says so.

Names are resolved once, every address found is checked, and the connection is made to what was checked, so that no
name can come to mean another machine in between. TLS goes on asking for the name.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

PRIVATE: Final = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
    )
)
# IPv6 that carries an IPv4 address inside: it could lead anywhere.
TRANSLATED: Final = tuple(
    ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)


def refused(address: IPv4Address | IPv6Address, *, private: bool) -> bool:
    """Whether an address is not to be connected to."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if any(address in network for network in TRANSLATED):
        return True
    if any(address in network for network in PRIVATE):
        return not private
    return not address.is_global or address.is_multicast


def literal_refused(host: str, *, private: bool) -> bool:
    """Whether a host is an address that is not to be connected to; names are checked once resolved."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        # `127.1` and `2130706433` are addresses to the C library.
        return host.rpartition(".")[2].isdigit() or host.lower().startswith("0x")
    return refused(address, private=private)


class CheckedResolver(AbstractResolver):
    """Resolves names to addresses that may be connected to; a name with any other among its addresses is refused."""

    def __init__(self, private_hosts: frozenset[str]) -> None:
        self._private_hosts = private_hosts
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of a name; raises OSError where one of them is refused."""
        found = await self._inner.resolve(host, port, family)
        private = host in self._private_hosts
        if any(
            refused(ip_address(each["host"].partition("%")[0]), private=private) for each in found
        ):
            raise OSError(None, "the name leads to an address that is not to be connected to")
        return found

    async def close(self) -> None:
        """Let go of the resolver inside."""
        await self._inner.close()
