"""Networks of a site and of clients, and the address of the client behind the proxies that the site trusts."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address


class Networks:
    """A list of networks (``10.0.0.0/8``) and addresses; raises :class:`CasabinderError` for what is neither."""

    def __init__(self, stated: Sequence[str]) -> None:
        try:
            self._networks: list[IPv4Network | IPv6Network] = [ip_network(text, strict=False) for text in stated]
        except ValueError as error:
            raise CasabinderError(f"site.yaml: service: {error}") from error

    def has(self, address: str) -> bool:
        """Say whether an address is in one of the networks; what is no address is in none."""
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def trusts(self, peer: str) -> bool:
        """Say whether a peer is a trusted proxy. A socket in the file system (no address) is not."""
        return self.has(peer)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the client's address: the last of ``X-Forwarded-For`` that no trusted proxy has, else the peer.

        Only what trusted proxies added counts: the header of anybody else is his own invention.
        """
        chain = [text.strip() for line in forwarded for text in line.split(",")]
        client = peer
        while chain and self.has(client):
            stated = _parse(chain.pop())
            if stated is None:
                break
            client = str(stated)
        return client


def network_of(address: str) -> str:
    """Return what a visitor at an address is counted by: the address, or the /64 of an IPv6 one, since whoever has one
    address of it has them all. What is no address stays as it is."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed), 64), strict=False))
    return str(parsed or address)


@lru_cache(maxsize=1024)
def _parse(address: str) -> IPv4Address | IPv6Address | None:
    """Return an address, or ``None``; an IPv4 address inside an IPv6 one is the IPv4 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
