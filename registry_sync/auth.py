"""Logs in to registries: challenges (``WWW-Authenticate``) are answered with Basic credentials or Bearer tokens.

The flow is Docker's, since the distribution specification leaves it open
(https://distribution.github.io/distribution/spec/auth/token/): the registry answers 401 with a realm, a service and a
scope; the realm hands out a token for a set of scopes; the token lives for a minute or more. Tokens are cached per set
of scopes, so that the layers of an image cost one token. Secrets appear in no ``repr``, log or exception message.
"""

from __future__ import annotations

import base64
import string
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from registry_sync.errors import RegistryAuthError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from registry_sync.credentials import Credentials

CLIENT_ID = "casabinder"
DEFAULT_TOKEN_SECONDS = 60.0

_TOKEN_CHARACTERS = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
_TOKEN68_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._~+/")


@dataclass(frozen=True)
class Challenge:
    """One challenge of a ``WWW-Authenticate`` header: a lower-case scheme and its parameters (lower-case keys)."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read a ``WWW-Authenticate`` value (RFC 9110, 11.6.1); what is malformed is skipped, nothing is raised.

    A comma separates parameters, challenges, or nothing at all (inside quotes), so the header is walked once, token by
    token: a token followed by ``=`` is a parameter of the current challenge, any other starts a new challenge.

        >>> parse_challenges('Bearer realm="https://a/t",scope="repository:x:pull,push"')[0].parameters["scope"]
        'repository:x:pull,push'
    """
    challenges: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(header):
        start = position
        position = _span(header, position, _TOKEN_CHARACTERS)
        if position == start:
            position += 1  # a comma, a space, or a character that has no business here
            continue
        word = header[start:position].lower()
        after = _skip_spaces(header, position)
        if after < len(header) and header[after] == "=" and challenges:
            value, position = _value(header, _skip_spaces(header, after + 1))
            challenges[-1][1].setdefault(word, value)
        else:
            challenges.append((word, {}))
            position = _skip_token68(header, after)
    return tuple(Challenge(scheme, parameters) for scheme, parameters in challenges)


def _span(text: str, position: int, characters: frozenset[str]) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _skip_spaces(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t":
        position += 1
    return position


def _skip_token68(text: str, position: int) -> int:
    """Step over ``abc==`` after a scheme (as in ``Negotiate abc==``); stay where a parameter starts."""
    end = _span(text, position, _TOKEN68_CHARACTERS)
    end = _span(text, end, frozenset("=")) if end > position else position
    rest = _skip_spaces(text, end)
    return end if rest == len(text) or text[rest] == "," else position


def _value(text: str, position: int) -> tuple[str, int]:
    """Read a parameter's value, quoted or not; return it and the position after it."""
    if position < len(text) and text[position] == '"':
        value: list[str] = []
        position += 1
        while position < len(text) and text[position] != '"':
            if text[position] == "\\" and position + 1 < len(text):
                position += 1
            value.append(text[position])
            position += 1
        return "".join(value), position + 1
    end = position
    while end < len(text) and text[end] not in ', \t"':
        end += 1
    return text[position:end], end


class TokenExchange(Protocol):
    """Sends one request to a token server and returns its JSON object; raises :class:`RegistryError` on a fault."""

    def __call__(
        self,
        url: str,
        *,
        parameters: list[tuple[str, str]],
        authorization: str | None,
        form: bool,
    ) -> Mapping[str, Any]:
        """GET with ``parameters`` in the query, or POST them as a form."""


@dataclass(frozen=True)
class _Token:
    authorization: str = field(repr=False)
    expires_at: float


class Authenticator:
    """Gives the ``Authorization`` header for requests to one registry. Thread-safe.

    ``lookup`` is asked for credentials once, when the registry first wants them; ``exchange`` talks to token servers.
    """

    def __init__(
        self,
        registry: str,
        lookup: Callable[[str], Credentials | None],
        exchange: TokenExchange,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._lookup = lookup
        self._exchange = exchange
        self._clock = clock
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._credentials: Credentials | None = None
        self._looked_up = False
        self._tokens: dict[frozenset[str], _Token] = {}
        self._added_scopes: dict[frozenset[str], frozenset[str]] = {}
        self._fetching: dict[frozenset[str], threading.Lock] = {}

    @property
    def user(self) -> str | None:
        """Who we are to the registry, for messages; ``None`` without credentials."""
        return self._credentials.user if self._credentials else None

    def authorization(self, scopes: Iterable[str]) -> str | None:
        """Return the header for requests in ``scopes``, ``None`` until the registry has asked for one."""
        challenge = self._challenge
        if challenge is None:
            return None
        return self._respond(challenge, frozenset(scopes), refused=None)

    def answer(self, headers: Iterable[str], scopes: Iterable[str], refused: str | None) -> str:
        """Return the header that answers a 401 with these ``WWW-Authenticate`` values.

        ``refused`` is the header that was sent with the refused request: a cached token like it is dropped. Raises
        :class:`RegistryAuthError` if there are no credentials, or they are the refused ones.
        """
        offered = {challenge.scheme: challenge for header in headers for challenge in parse_challenges(header)}
        challenge = offered.get("bearer") or offered.get("basic")
        if challenge is None:
            raise RegistryAuthError(f"{self._registry} wants a login, but by neither Basic nor Bearer")
        key = frozenset(scopes)
        with self._lock:
            self._challenge = challenge
            if challenge.parameters.get("scope"):
                self._added_scopes[key] = frozenset(challenge.parameters["scope"].split())
        return self._respond(challenge, key, refused)

    def _respond(self, challenge: Challenge, scopes: frozenset[str], refused: str | None) -> str:
        credentials = self._known_credentials()
        if challenge.scheme == "bearer" and not (credentials and credentials.registry_token):
            return self._bearer(challenge, scopes, credentials, refused)
        if credentials is None:
            raise RegistryAuthError(
                f"{self._registry} wants a login and no credentials for it were found: run "
                f"'docker login {self._registry}' or point DOCKER_CONFIG at a directory with a config.json"
            )
        header = f"Bearer {credentials.registry_token}" if challenge.scheme == "bearer" else _basic(credentials)
        if header == refused:
            raise RegistryAuthError(
                f"{self._registry} refused the credentials of {credentials.user}: check user name, password or token"
            )
        return header

    def _known_credentials(self) -> Credentials | None:
        with self._lock:
            if not self._looked_up:
                self._credentials = self._lookup(self._registry)
                self._looked_up = True
            return self._credentials

    def _bearer(
        self, challenge: Challenge, scopes: frozenset[str], credentials: Credentials | None, refused: str | None
    ) -> str:
        with self._lock:
            fetching = self._fetching.setdefault(scopes, threading.Lock())
        with fetching:  # threads that want the same token wait for one of them to fetch it
            token = self._tokens.get(scopes)
            if token is None or token.authorization == refused or token.expires_at <= self._clock():
                token = self._fetch(challenge, scopes | self._added_scopes.get(scopes, frozenset()), credentials)
                self._tokens[scopes] = token
            return token.authorization

    def _fetch(self, challenge: Challenge, scopes: frozenset[str], credentials: Credentials | None) -> _Token:
        realm = challenge.parameters.get("realm")
        if not realm:
            raise RegistryError(f"{self._registry} asks for a token and does not say where to get it")
        parameters = [("service", challenge.parameters["service"])] if challenge.parameters.get("service") else []
        if credentials and credentials.identity_token:
            parameters += [("grant_type", "refresh_token"), ("client_id", CLIENT_ID)]
            parameters += [("refresh_token", credentials.identity_token), ("scope", " ".join(sorted(scopes)))]
            document = self._exchange(realm, parameters=parameters, authorization=None, form=True)
        else:
            parameters += [("scope", scope) for scope in sorted(scopes)]
            authorization = _basic(credentials) if credentials else None
            document = self._exchange(realm, parameters=parameters, authorization=authorization, form=False)
        text = document.get("token") or document.get("access_token")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text:
            raise RegistryError(f"the token server of {self._registry} sent no usable token")
        return _Token(f"Bearer {text}", self._expiry(document))

    def _expiry(self, document: Mapping[str, Any]) -> float:
        """Return when to stop using a token, a tenth of its life early: requests take time too."""
        now = self._clock()
        lifetime = document.get("expires_in")
        if not isinstance(lifetime, int | float) or lifetime <= 0:
            lifetime = DEFAULT_TOKEN_SECONDS
        issued_at = now
        stated = document.get("issued_at")
        if isinstance(stated, str):
            try:
                issued_at = min(now, datetime.fromisoformat(stated).timestamp())
            except ValueError:
                issued_at = now
        return issued_at + 0.9 * float(lifetime)


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")
