"""What the launch service asks the hub's spawner to start, signed: the spawner starts nothing else.

The hub's API token alone starts nothing: whoever has it does not have the key. A signed request names one user, one
server and one image by digest, and is good for a few minutes. The token that lets a person into a temporary server is
derived from the request's id with another key, so that it is in no request, no environment and no database.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import jwt

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.security.keys import Keys

GOOD_FOR = 600.0
"""Seconds between signing and starting."""
OPTION = "vouched"
"""The name in the hub's ``user_options`` under which the signed request travels; there is no other option."""
_AUDIENCE = "casabinder-spawner"


class NotVouchedError(CasabinderError):
    """A request to start a server that the launch service did not sign, or not for this user, server or time."""


@dataclass(frozen=True)
class LaunchRequest:
    """One server to start. ``image`` is a name by digest, ``tag`` the reference with the immutable tag; ``memory`` is
    bytes; ``workers`` to begin with, ``most_workers`` to scale to; ``gpus`` are the server's, ``cuda`` the image's
    labels that say what its workers need; ``environment`` has BinderHub's ``BINDER_*``, and never a secret."""

    id: str
    user: str
    server: str
    mode: Literal["anonymous", "login"]
    image: str
    tag: str
    digest: str
    env_id: str
    image_id: str
    repo: str
    ref: str
    commit: str
    cpus: float
    memory: int
    workers: int = 0
    most_workers: int = 0
    gpus: int = 0
    cuda: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


class Voucher:
    """Signs launch requests, and checks them."""

    def __init__(self, keys: Keys) -> None:
        self._key = keys.key("vouch")
        self._token_key = keys.key("server-token")

    def sign(self, request: LaunchRequest, now: float) -> str:
        """Return the request as a JSON Web Token that is good for :data:`GOOD_FOR` seconds."""
        claims = {"aud": _AUDIENCE, "exp": int(now + GOOD_FOR), "launch": asdict(request)}
        return jwt.encode(claims, self._key, algorithm="HS256")

    def verify(self, text: object, user: str, server: str) -> LaunchRequest:
        """Return the request if it is signed, still good, and for this user's server; else raise."""
        if not isinstance(text, str) or not text:
            raise NotVouchedError("only the launch service starts servers here: start it from its page")
        try:
            claims: dict[str, Any] = jwt.decode(
                text, self._key, algorithms=["HS256"], audience=_AUDIENCE, options={"require": ["exp", "aud"]}
            )
            request = LaunchRequest(**claims["launch"])
        except jwt.ExpiredSignatureError as error:
            raise NotVouchedError("the request to start this server is too old: launch it again") from error
        except (jwt.InvalidTokenError, KeyError, TypeError) as error:
            raise NotVouchedError("the request to start this server is not signed by the launch service") from error
        if (request.user, request.server) != (user, server):
            raise NotVouchedError("the request to start this server was made for another one")
        return request

    def token(self, request_id: str) -> str:
        """Return the token that lets into the server that was started for a request (48 hex digits)."""
        return hmac.new(self._token_key, request_id.encode(), hashlib.sha256).hexdigest()[:48]
