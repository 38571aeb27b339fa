"""Build tokens: what a launch page carries so that the build it asks for is not counted against the visitor's rate.

A token is BinderHub's JSON Web Token (HS256): ``aud`` is ``<provider>/<spec>``, ``origin`` the host that the page came
from, ``exp`` when it ends. Its key is derived from the service's secret, so that every replica reads every token. The
``jti`` is ours: it lets a token be used a few times (a page that reconnects) and no more (somebody who replays it).
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import jwt

from launcher.refusal import RefusedError
from launcher.site_config import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.security.keys import Keys

GOOD_FOR = 3600
"""Seconds that a page may stay open before it asks."""
USES = Rate(requests=10, seconds=GOOD_FOR)
"""How often one token may be shown."""


class BuildTokens:
    """Makes build tokens, and checks them."""

    def __init__(self, keys: Keys) -> None:
        self._key = keys.key("build-token")

    def issue(self, provider: str, spec: str, origin: str, now: float) -> str:
        """Return a token for one repository and one origin (a host, as :func:`origin_of` has it)."""
        claims = {
            "exp": int(now) + GOOD_FOR,
            "aud": _audience(provider, spec),
            "origin": origin,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def check(self, token: str, provider: str, spec: str, origin: str) -> str:
        """Return the token's id; raise :class:`RefusedError` (403, BinderHub's words) for one that is not for this."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                audience=_audience(provider, spec),
                options={"require": ["exp", "aud", "jti"]},
            )
        except jwt.InvalidTokenError as error:
            raise invalid() from error
        if claims.get("origin") != origin:
            raise invalid()
        return str(claims["jti"])


def invalid() -> RefusedError:
    """Return the refusal of a token: for another repository or origin, too old, used too often, or not ours."""
    return RefusedError("Invalid build token", 403)


def origin_of(headers: Mapping[str, str]) -> str:
    """Return the host that a request comes from: of its ``Origin``, else of its ``Host``."""
    origin = headers.get("Origin")
    return urlsplit(origin).netloc if origin is not None else headers.get("Host", "")


def _audience(provider: str, spec: str) -> str:
    return f"{provider}/{spec.rstrip('/')}"
