"""JupyterHub as the authority on people: whose token is this, and where does one log in?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from tornado.web import HTTPError

from launcher.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyterhub.services.auth import HubOAuth

CALLBACK = "/oauth_callback"
"""Where the hub's page comes back to; the hub's configuration (``oauth_redirect_uri``) says the same."""


@dataclass(frozen=True)
class Known:
    """Whom the hub knows by a token."""

    kind: Literal["user", "service"]
    name: str
    admin: bool


class HubLogin:
    """Talks to the hub with the client library that it gives its services (``JUPYTERHUB_*`` in the environment).

    The library takes as long to import as all the rest of the service; nobody who just visits needs it.
    """

    @cached_property
    def _oauth(self) -> HubOAuth:
        from jupyterhub.services.auth import HubOAuth

        return HubOAuth(oauth_redirect_uri=CALLBACK)

    async def prepare(self) -> None:
        """Import the library in the background, so that the first to log in need not wait."""
        await asyncio.to_thread(lambda: self._oauth)

    async def identify(self, token: str, session: str = "") -> Known | None:
        """Return whose token it is (answers are kept for minutes), or ``None`` if the hub does not know it.

        Raises :class:`RefusedError` 403 for a token that does not give access to this service, 503 without a hub.
        """
        await self.prepare()
        try:
            model: Mapping[str, Any] | None = await self._oauth.user_for_token(token, session_id=session, sync=False)
        except HTTPError as error:
            raise RefusedError(
                "JupyterHub can't be reached, so nobody can be identified", 503, retry_after=5
            ) from error
        if not model:
            return None
        if self._oauth.access_scopes and not self._oauth.check_scopes(self._oauth.access_scopes, model):
            wanted = " or ".join(sorted(self._oauth.access_scopes))
            raise RefusedError(f"this token is not for the launch service: make one with the scope {wanted}", 403)
        kind: Literal["user", "service"] = "service" if model["kind"] == "service" else "user"
        return Known(kind, model["name"], bool(model.get("admin")))

    def challenge(self) -> tuple[str, str]:
        """Return a PKCE verifier, and the challenge that goes with it (RFC 7636)."""
        verifier, challenge, _ = self._oauth.generate_pkce_code_challenge()
        return verifier, challenge

    def address(self, state: str, challenge: str) -> str:
        """Return the hub's page that asks a person to log in, and comes back to the callback with ``state``."""
        query = {
            "client_id": self._oauth.oauth_client_id,
            "redirect_uri": self._oauth.oauth_redirect_uri,
            "response_type": "code",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._oauth.oauth_authorization_url}?{urlencode(query)}"

    async def token(self, code: str, verifier: str) -> str:
        """Return the token for a code that the hub's page came back with; raise :class:`RefusedError` 403."""
        try:
            token: str = await self._oauth.token_for_code(code, code_verifier=verifier, sync=False)
        except HTTPError as error:
            raise RefusedError("JupyterHub did not confirm this login; try again", 403) from error
        return token
