"""What cookies hold is for this service alone."""

from __future__ import annotations

import pytest

from launcher.security.keys import Keys
from launcher.service.sessions import Sessions

SESSIONS = Sessions(Keys(b"k" * 32))


def test_a_document_is_opened_by_any_replica_and_for_its_cookie_only() -> None:
    """The same secret opens it; another cookie, another secret and a changed byte do not."""
    sealed = SESSIONS.seal("one", {"name": "a"})
    assert "name" not in sealed
    assert Sessions(Keys(b"k" * 32)).open("one", sealed, 60) == {"name": "a"}
    assert SESSIONS.open("two", sealed, 60) is None
    assert Sessions(Keys(b"x" * 32)).open("one", sealed, 60) is None
    assert SESSIONS.open("one", sealed[:-8] + "AAAAAAA=", 60) is None
    assert SESSIONS.open("one", sealed, -1) is None


@pytest.mark.parametrize("value", ["", "x", "é", "gAAAA", "\x00"])
def test_nonsense_opens_nothing(value: str) -> None:
    """It is as if there were no cookie."""
    assert SESSIONS.open("one", value, 60) is None


def test_the_xsrf_token_is_the_owners() -> None:
    """It differs between people and between facilities."""
    tokens = {SESSIONS.xsrf("user:a"), SESSIONS.xsrf("visitor:a"), Sessions(Keys(b"x" * 32)).xsrf("user:a")}
    assert len(tokens) == 3
    assert SESSIONS.xsrf("user:a") == SESSIONS.xsrf("user:a")
