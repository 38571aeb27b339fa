"""Build tokens: for one repository, one origin, one hour, and ours."""

from __future__ import annotations

import time

import jwt
import pytest

from launcher.refusal import RefusedError
from launcher.security.keys import Keys
from launcher.service.build_tokens import GOOD_FOR, BuildTokens, origin_of

KEYS = Keys(b"k" * 32)
SPEC = "https%3A%2F%2Fhost.test%2Frepo/HEAD"


def test_a_token_is_as_binderhub_makes_it() -> None:
    now = time.time()
    token = BuildTokens(KEYS).issue("git", SPEC, "hub.test", now)
    claims = jwt.decode(token, audience=f"git/{SPEC}", options={"verify_signature": False})
    assert claims["aud"] == f"git/{SPEC}"
    assert claims["origin"] == "hub.test"
    assert now < claims["exp"] <= now + GOOD_FOR < now + 7200


def test_every_replica_takes_it_and_knows_it_by_the_same_id() -> None:
    token = BuildTokens(KEYS).issue("git", SPEC, "hub.test", time.time())
    first = BuildTokens(KEYS).check(token, "git", SPEC, "hub.test")
    assert first == BuildTokens(Keys(KEYS.secret)).check(token, "git", f"{SPEC}/", "hub.test")
    assert first != BuildTokens(KEYS).check(BuildTokens(KEYS).issue("git", SPEC, "h", time.time()), "git", SPEC, "h")


@pytest.mark.parametrize(
    ("provider", "spec", "origin"),
    [("gh", SPEC, "hub.test"), ("git", "other/HEAD", "hub.test"), ("git", SPEC, "evil.test"), ("git", SPEC, "")],
)
def test_for_anything_else_it_is_refused(provider: str, spec: str, origin: str) -> None:
    token = BuildTokens(KEYS).issue("git", SPEC, "hub.test", time.time())
    with pytest.raises(RefusedError, match="Invalid build token") as refused:
        BuildTokens(KEYS).check(token, provider, spec, origin)
    assert refused.value.status == 403


def test_foreign_old_unsigned_and_broken_ones_are_refused() -> None:
    claims = {"exp": int(time.time()) + 60, "aud": f"git/{SPEC}", "origin": "hub.test", "jti": "1"}
    key = KEYS.key("build-token")
    wrong = [
        BuildTokens(Keys(b"x" * 32)).issue("git", SPEC, "hub.test", time.time()),
        BuildTokens(KEYS).issue("git", SPEC, "hub.test", time.time() - GOOD_FOR - 1),
        jwt.encode(claims, "", algorithm="none"),
        "a.b.c",
        jwt.encode({name: value for name, value in claims.items() if name != "exp"}, key, algorithm="HS256"),
        jwt.encode({name: value for name, value in claims.items() if name != "jti"}, key, algorithm="HS256"),
        "",
    ]
    for token in wrong:
        with pytest.raises(RefusedError, match="Invalid build token"):
            BuildTokens(KEYS).check(token, "git", SPEC, "hub.test")


def test_the_origin_is_the_other_sites_before_the_host() -> None:
    assert origin_of({"Host": "hub.test:8000"}) == "hub.test:8000"
    assert origin_of({"Host": "hub.test", "Origin": "https://book.test"}) == "book.test"
    assert origin_of({"Host": "hub.test", "Origin": "null"}) == ""
