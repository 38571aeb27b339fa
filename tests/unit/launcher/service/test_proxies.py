"""Whose address counts: the client's as trusted proxies tell it, never as the client tells it."""

from __future__ import annotations

import pytest

from launcher.service.proxies import Networks, network_of
from registry_sync.errors import CasabinderError

TRUSTED = Networks(("127.0.0.1", "::1", "10.0.0.0/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.9"], "192.0.2.1"),
        ("127.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("127.0.0.1", ["203.0.113.5, 198.51.100.9"], "198.51.100.9"),
        ("127.0.0.1", ["203.0.113.5", "198.51.100.9, 10.1.2.3"], "198.51.100.9"),
        ("127.0.0.1", ["::ffff:198.51.100.9"], "198.51.100.9"),
        ("::ffff:127.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("127.0.0.1", ["<script>"], "127.0.0.1"),
        ("127.0.0.1", ["10.1.2.3"], "10.1.2.3"),
        ("", ["198.51.100.9"], ""),
    ],
)
def test_the_client_behind_trusted_proxies(peer: str, forwarded: list[str], client: str) -> None:
    """The last address that no trusted proxy has."""
    assert TRUSTED.client(peer, forwarded) == client


def test_networks() -> None:
    """What is no network is told at the start."""
    assert Networks(("2001:db8::/32",)).has("2001:db8::7")
    assert not Networks(("2001:db8::/32",)).has("192.0.2.1")
    with pytest.raises(CasabinderError, match=r"site\.yaml: service"):
        Networks(("example.org",))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_the_network_that_a_visitor_is_counted_by(address: str, network: str) -> None:
    """Whoever has an IPv6 address has the 2^64 beside it."""
    assert network_of(address) == network
