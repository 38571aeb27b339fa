from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from launcher.pools.exposure import contact, docker_exposure, hub_exposure, kubernetes_exposure, label
from launcher.site_config import Hub, Site
from tests.unit.launcher.records import htcondor_pool


@pytest.mark.parametrize(
    ("address", "exposure", "expected"),
    [
        ("127.0.0.1", None, "pod-ip"),
        ("localhost", None, "pod-ip"),
        ("192.0.2.7", None, "host-port"),
        ("192.0.2.7", "pod-ip", "pod-ip"),
    ],
)
def test_containers_get_a_port_unless_the_pool_is_on_loopback(
    address: str, exposure: str | None, expected: str
) -> None:
    pool = htcondor_pool(address=address, exposure=exposure)
    assert docker_exposure(pool) == expected
    assert hub_exposure(Site(pool=pool)) == expected


def test_pods_have_an_address() -> None:
    assert kubernetes_exposure(htcondor_pool()) == "pod-ip"
    assert hub_exposure(Site(pool=htcondor_pool(address="192.0.2.7"), hub=Hub(spawner="kubernetes"))) == "pod-ip"


@pytest.mark.parametrize(
    ("exposure", "address", "expected"),
    [
        ("host-port", "192.0.2.7", "tls://192.0.2.7:30417"),
        ("host-port", "2001:db8::7", "tls://[2001:db8::7]:30417"),
        ("pod-ip", "192.0.2.7", ""),
        ("sni", "192.0.2.7", "tls://a-server.dask.example.org:8786"),
    ],
)
def test_a_contact_address_is_all_that_comes_of_it(exposure: str, address: str, expected: str) -> None:
    pool = htcondor_pool(exposure=exposure, address=address, domain="dask.example.org")
    assert contact(pool, docker_exposure(pool), name="a-server", port=30_417) == expected


def test_the_sites_proxy_may_have_another_port() -> None:
    pool = htcondor_pool(exposure="sni", domain="dask.example.org:443")
    assert contact(pool, "sni", name="x", port=0) == "tls://x.dask.example.org:443"


LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


@given(st.text(max_size=80), st.text(max_size=80))
def test_every_name_is_a_part_of_a_hosts_name_and_no_two_are_the_same(one: str, other: str) -> None:
    for name in (one, other):
        assert re.fullmatch(LABEL, label(name))
        assert label(label(name)) == label(name)
    if one not in (other, label(other)) and other != label(one):
        assert label(one) != label(other)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"exposure": "node-port"}, "exposure"),
        ({"exposure": "host-port"}, "the exposure host-port needs address and collector that containers reach"),
        ({"exposure": "host-port", "address": "192.0.2.7", "collector": "127.0.0.1:9618"}, "not loopback"),
        ({"exposure": "sni"}, "the exposure sni needs domain"),
        ({"ports": "30999-30000"}, "ports 30999-30000 must be FIRST-LAST, from 1024 up to 65535"),
        ({"ports": "1023-2000"}, "must be FIRST-LAST"),
        ({"ports": "60000-70000"}, "must be FIRST-LAST"),
        ({"ports": "any"}, "ports"),
        ({"domain": "-x.example.org"}, "domain"),
    ],
)
def test_a_mistake_is_named(entries: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        htcondor_pool(**entries)


def test_a_range_may_be_one_port() -> None:
    assert htcondor_pool(ports="30000").port_range == range(30_000, 30_001)
    assert len(htcondor_pool().port_range) == 1000
