from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.pools.ports import candidates, exhausted, free_here, numeric, refused
from registry_sync.errors import CasabinderError

RANGE = range(30_000, 30_004)


@given(st.sets(st.integers(29_990, 30_010)), st.text())
def test_every_port_that_is_not_taken_is_tried_once(taken: set[int], name: str) -> None:
    found = list(candidates(RANGE, taken, name))
    assert sorted(found) == [port for port in RANGE if port not in taken]


def test_servers_that_start_at_once_begin_at_different_ports() -> None:
    wide = range(30_000, 31_000)
    assert len({next(candidates(wide, (), f"server-{number}")) for number in range(100)}) > 80
    assert list(candidates(RANGE, (), "a")) == list(candidates(RANGE, (), "a"))


def test_a_port_is_free_until_somebody_listens() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        assert not free_here("127.0.0.1", port)
    assert free_here("127.0.0.1", port)


def test_the_engine_is_given_addresses_not_names() -> None:
    assert numeric("192.0.2.7") == "192.0.2.7"
    assert numeric("localhost") in ("127.0.0.1", "::1")
    with pytest.raises(CasabinderError, match=r"no\.such\.host\.invalid, which is no address of this machine"):
        numeric("no.such.host.invalid")


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(CasabinderError, match=r"192\.0\.2\.7, which is no address of this machine"):
        free_here("192.0.2.7", 30_000)


BOUND = "driver failed programming external connectivity on endpoint x (4f): Bind for 10.1.2.3:30000 failed: "


@pytest.mark.parametrize(
    ("said", "is_refusal"),
    [
        (f"{BOUND}port is already allocated", True),
        ("Error starting userland proxy: listen tcp4 10.1.2.3:30000: bind: address already in use", True),
        ("Bind for 127.0.0.1:8888 failed: port is already allocated", False),
        ("Bind for 10.1.2.3:300001 failed: port is already allocated", False),
        ("no such image", False),
    ],
)
def test_the_engines_refusal_of_this_port_is_told_from_others(said: str, is_refusal: bool) -> None:
    assert refused(said, "10.1.2.3", 30_000) is is_refusal


def test_an_address_that_the_engine_can_not_have_is_named() -> None:
    said = "Error starting userland proxy: listen tcp4 192.0.2.7:30000: bind: cannot assign requested address"
    with pytest.raises(CasabinderError, match=r"correct `pool\.address`"):
        refused(said, "192.0.2.7", 30_000)


def test_an_exhausted_range_is_one_sentence() -> None:
    assert str(exhausted(RANGE, "10.1.2.3")) == (
        "all ports from 30000 to 30003 of 10.1.2.3, by which workers reach servers, are taken: remove servers that are "
        "no longer needed, or have `pool.ports` in site.yaml widened"
    )
