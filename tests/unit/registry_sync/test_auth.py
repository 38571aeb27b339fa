"""Login: reading challenges, choosing answers, caching tokens."""

import base64
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_sync.auth import Authenticator, Challenge, parse_challenges
from registry_sync.credentials import Credentials
from registry_sync.errors import RegistryAuthError, RegistryError

BEARER = 'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull,push"'

tokens = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
challenges = st.builds(Challenge, tokens, st.dictionaries(tokens, values, min_size=1, max_size=4))


def written(challenge: Challenge) -> str:
    """Write a challenge with every value quoted."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in challenge.parameters.values())
    pairs = (f'{key}="{value}"' for key, value in zip(challenge.parameters, quoted, strict=True))
    return f"{challenge.scheme} {', '.join(pairs)}"


@given(st.lists(challenges, max_size=4))
def test_challenges_survive_being_written_and_read(given_challenges: list[Challenge]) -> None:
    header = ", ".join(written(challenge) for challenge in given_challenges)
    assert parse_challenges(header) == tuple(given_challenges)


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_any_header_is_read_without_an_exception(header: str) -> None:
    assert isinstance(parse_challenges(header), tuple)


def test_known_headers() -> None:
    (bearer,) = parse_challenges(BEARER)
    assert bearer.scheme == "bearer"
    assert bearer.parameters["scope"] == "repository:a:pull,push"
    several = parse_challenges('Negotiate abc==, Basic realm="a, b" , Bearer realm=https://x/y?z=1, error=invalid')
    assert [challenge.scheme for challenge in several] == ["negotiate", "basic", "bearer"]
    assert several[1].parameters == {"realm": "a, b"}
    assert several[2].parameters == {"realm": "https://x/y?z=1", "error": "invalid"}
    assert parse_challenges("Negotiate") == (Challenge("negotiate"),)
    assert parse_challenges('Bearer realm="unfinished') == (Challenge("bearer", {"realm": "unfinished"}),)


class TokenServer:
    """Counts the tokens it hands out and keeps what was asked."""

    def __init__(self, **document: object) -> None:
        self.document = document
        self.asked: list[tuple[list[tuple[str, str]], str | None, bool]] = []

    def __call__(
        self, url: str, *, parameters: list[tuple[str, str]], authorization: str | None, form: bool
    ) -> Mapping[str, Any]:
        self.asked.append((parameters, authorization, form))
        return {"token": f"token{len(self.asked)}", "expires_in": 100, **self.document}


class Clock:
    """A clock that is set by hand."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def authenticator(
    server: TokenServer, credentials: Credentials | None = None, clock: Clock | None = None
) -> Authenticator:
    return Authenticator("registry.example", lambda _: credentials, server, clock or Clock())


def test_nothing_is_sent_before_the_registry_asks() -> None:
    assert authenticator(TokenServer()).authorization(["repository:a:pull"]) is None


def test_a_token_serves_until_nine_tenths_of_its_life() -> None:
    server, clock = TokenServer(), Clock()
    auth = authenticator(server, clock=clock)
    assert auth.answer([BEARER], ["repository:a:pull"], None) == "Bearer token1"
    clock.now += 89
    assert auth.authorization(["repository:a:pull"]) == "Bearer token1"
    clock.now += 2
    assert auth.authorization(["repository:a:pull"]) == "Bearer token2"
    assert auth.authorization(["repository:b:pull"]) == "Bearer token3"
    assert server.asked[0][0] == [
        ("service", "registry.example"),
        ("scope", "repository:a:pull"),
        ("scope", "repository:a:pull,push"),
    ]


def test_a_token_issued_earlier_expires_earlier() -> None:
    clock = Clock()
    auth = authenticator(TokenServer(issued_at="1970-01-12T13:45:10Z"), clock=clock)  # 90 s before the clock's time
    auth.answer([BEARER], [], None)
    clock.now += 1
    assert auth.authorization([]) == "Bearer token2"


def test_a_refused_token_is_replaced() -> None:
    auth = authenticator(TokenServer())
    first = auth.answer([BEARER], [], None)
    assert auth.answer([BEARER], [], refused=first) == "Bearer token2"
    assert auth.answer([BEARER], [], refused=first) == "Bearer token2"  # another thread's answer to the same refusal


def test_threads_share_a_token() -> None:
    server = TokenServer()
    auth = authenticator(server)
    threads = [threading.Thread(target=auth.answer, args=([BEARER], ["x"], None)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1


def test_credentials_go_to_the_token_server_in_the_right_form() -> None:
    server = TokenServer()
    authenticator(server, Credentials("anna", "s3cret")).answer([BEARER], [], None)
    assert server.asked[-1][1:] == ("Basic " + base64.b64encode(b"anna:s3cret").decode(), False)
    authenticator(server, Credentials(identity_token="refresh")).answer([BEARER], ["b", "a"], None)
    parameters, authorization, form = server.asked[-1]
    assert (authorization, form) == (None, True)
    assert ("refresh_token", "refresh") in parameters
    assert ("scope", "a b repository:a:pull,push") in parameters
    auth = authenticator(server, Credentials(registry_token="ready"))
    assert auth.answer([BEARER], [], None) == "Bearer ready"
    assert len(server.asked) == 2
    with pytest.raises(RegistryAuthError, match="refused the credentials"):
        auth.answer([BEARER], [], refused="Bearer ready")


def test_basic() -> None:
    auth = authenticator(TokenServer(), Credentials("anna", "s3cret"))
    header = auth.answer(['Basic realm="x"'], [], None)
    assert auth.authorization([]) == header
    with pytest.raises(RegistryAuthError, match="refused the credentials of user 'anna'") as refused:
        auth.answer(['Basic realm="x"'], [], refused=header)
    assert "s3cret" not in str(refused.value)
    with pytest.raises(RegistryAuthError, match=r"docker login registry\.example"):
        authenticator(TokenServer()).answer(['Basic realm="x"'], [], None)


def test_unknown_ways_to_log_in_are_refused() -> None:
    with pytest.raises(RegistryAuthError, match="neither Basic nor Bearer"):
        authenticator(TokenServer()).answer(["Negotiate"], [], None)
    with pytest.raises(RegistryError, match="where to get it"):
        authenticator(TokenServer()).answer(["Bearer"], [], None)


@pytest.mark.parametrize("token", [None, 5, "a b", "line\r\nX-Evil: 1", ""])
def test_a_token_that_is_no_header_value_is_refused(token: object) -> None:
    with pytest.raises(RegistryError, match="no usable token"):
        authenticator(TokenServer(token=token)).answer([BEARER], [], None)
