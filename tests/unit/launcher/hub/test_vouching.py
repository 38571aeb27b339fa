from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import jwt
import pytest

from launcher.hub.vouching import GOOD_FOR, LaunchRequest, NotVouchedError, Voucher
from launcher.security.keys import Keys

KEYS = Keys(bytes(range(32)))
REQUEST = LaunchRequest(
    id="r1",
    user="agc-0a1b2c3d",
    server="",
    mode="anonymous",
    image=f"127.0.0.1:5000/casabinder/agc@sha256:{'d' * 64}",
    tag="127.0.0.1:5000/casabinder/agc:ce8b2e17be0aea65",
    digest=f"sha256:{'d' * 64}",
    env_id="26fca59ae82528b4",
    image_id="ce8b2e17be0aea65",
    repo="https://github.com/team/agc.git",
    ref="main",
    commit="2" * 40,
    cpus=1.5,
    memory=2**30,
    workers=1,
    most_workers=2,
    environment={"BINDER_REQUEST": "v2/gh/team/agc/main"},
)


def signed(key: bytes, now: float, **claims: Any) -> str:
    document = {"aud": "casabinder-spawner", "exp": int(now + 60), "launch": {"id": "r1"}, **claims}
    return jwt.encode({name: value for name, value in document.items() if value is not None}, key, algorithm="HS256")


def test_what_was_signed_comes_back() -> None:
    voucher = Voucher(KEYS)
    assert voucher.verify(voucher.sign(REQUEST, time.time()), REQUEST.user, REQUEST.server) == REQUEST


@pytest.mark.parametrize("nothing", [None, "", 3, {"vouched": "x"}, ["x"]])
def test_no_request_is_refused(nothing: object) -> None:
    with pytest.raises(NotVouchedError, match="only the launch service starts servers here"):
        Voucher(KEYS).verify(nothing, REQUEST.user, "")


@pytest.mark.parametrize(("user", "server"), [("somebody", ""), ("agc-0a1b2c3d", "other")])
def test_it_is_for_one_server_of_one_user(user: str, server: str) -> None:
    voucher = Voucher(KEYS)
    with pytest.raises(NotVouchedError, match="made for another one"):
        voucher.verify(voucher.sign(REQUEST, time.time()), user, server)


def test_it_is_good_for_some_minutes() -> None:
    voucher, now = Voucher(KEYS), time.time()
    voucher.verify(voucher.sign(REQUEST, now - GOOD_FOR + 60), REQUEST.user, "")
    with pytest.raises(NotVouchedError, match="too old: launch it again"):
        voucher.verify(voucher.sign(REQUEST, now - GOOD_FOR - 1), REQUEST.user, "")


def test_other_keys_and_other_purposes_are_refused() -> None:
    voucher, now = Voucher(KEYS), time.time()
    good = voucher.sign(REQUEST, now)
    forged = [
        Voucher(Keys(bytes(32))).sign(REQUEST, now),
        signed(KEYS.key("build-token"), now),
        signed(KEYS.key("vouch"), now, aud="gh/team/agc"),
        signed(KEYS.key("vouch"), now, exp=None),
        signed(KEYS.key("vouch"), now, launch=None),
        signed(KEYS.key("vouch"), now),  # no whole request
        jwt.encode({"aud": "casabinder-spawner", "exp": int(now + 60)}, "", algorithm="none"),
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        "not.a.token",
    ]
    for text in forged:
        with pytest.raises(NotVouchedError, match="not signed by the launch service"):
            voucher.verify(text, REQUEST.user, "")


def test_a_servers_token_follows_from_its_request_and_is_not_in_it() -> None:
    voucher = Voucher(KEYS)
    token = voucher.token(REQUEST.id)
    assert len(token) == 48
    assert token == voucher.token(REQUEST.id)
    assert token not in {voucher.token("r2"), Voucher(Keys(bytes(32))).token(REQUEST.id)}
    assert token not in voucher.sign(replace(REQUEST), time.time())
