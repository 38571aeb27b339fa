"""Which addresses may be asked: lists of patterns, and networks that are not public however they are written."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.repository.addresses import check_lists, checked_addresses, comparable, host_and_port, is_public
from builder.repository.fetching import Fetching
from builder.repository.spec import RepositoryError


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/evil/repo",
        "https://GitHub.com/Evil/Repo.git",
        "http://github.com:80/evil/repo/",
        "https://github.com./evil//repo",
        "https://github.com/x/../%65vil/./repo",
        "ssh://git@github.com/evil/repo",
        "git@github.com:evil/repo.git",
        "github.com:evil/repo",
    ],
)
def test_a_list_can_not_be_got_round_by_spelling(url: str) -> None:
    assert comparable(url) == "github.com/evil/repo"
    for pattern in ("github.com/evil/*", "https://github.com/evil/repo.git", "*/evil/*", "github.com*"):
        with pytest.raises(RepositoryError, match=r"this site does not build github\.com/evil/repo"):
            check_lists(url, Fetching(deny=(pattern,), allow=("*",)))
        check_lists(url, Fetching(allow=(pattern,)))
    with pytest.raises(
        RepositoryError, match=r"builds only repositories of its list, and github\.com/evil/repo is not"
    ):
        check_lists(url, Fetching(allow=("gitlab.cern.ch/*",)))


def test_another_port_is_another_host() -> None:
    assert comparable("https://host:8443/a/b") == "host:8443/a/b"
    assert comparable("zenodo:10.5281/Zenodo.1") == "zenodo:10.5281/zenodo.1"
    assert comparable("/home/me/Repo") == "/home/me/repo"


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *(
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fd00:ec2::254",
            "ff02::1",
        ),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    ],
)
def test_what_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["140.82.121.4", "2606:50c0:8000::153", "::ffff:140.82.121.4", "64:ff9b::8c52:7904"]
)
def test_what_is_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_embedded_address_is_what_it_embeds(address: ipaddress.IPv4Address) -> None:
    mapped = ipaddress.IPv6Address(0xFFFF_0000_0000 | int(address))
    translated = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(address))
    assert is_public(str(mapped)) == is_public(str(translated)) == is_public(str(address))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "localhost.", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "::1", "::ffff:7f00:1"],
)
def test_odd_forms_are_what_they_stand_for(host: str) -> None:
    with pytest.raises(RepositoryError, match="is an address of the local network, and this site does not fetch from"):
        checked_addresses(host, 443, Fetching())
    assert checked_addresses(host, 443, Fetching(private_addresses=True)) == ()


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(2, 1, 6, "", ("140.82.121.4", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answers)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RepositoryError, match="local network"):
        checked_addresses("rebind.example.org", 443, Fetching())
    answers.pop()
    assert checked_addresses("rebind.example.org", 443, Fetching()) == ("140.82.121.4",)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://host/x", ("host", 443)),
        ("http://host:81/x", ("host", 81)),
        ("git@host:x/y", ("host", 22)),
        ("ssh://host:7999/x", ("host", 7999)),
        ("file:///x", ("", 0)),
        ("/x/y", ("", 0)),
    ],
)
def test_where_a_location_is_asked(location: str, expected: tuple[str, int]) -> None:
    assert host_and_port(location) == expected
