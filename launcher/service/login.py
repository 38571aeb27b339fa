"""Logging in through the hub (OAuth with PKCE), logging out, and the service's address at the hub."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

from launcher.refusal import RefusedError
from launcher.service.base import BaseHandler
from launcher.service.parameters import local_path

if TYPE_CHECKING:
    from launcher.service.hub_login import HubLogin

STATE = "casabinder-login"
STATE_SECONDS = 600


class LoginHandler(BaseHandler):
    """``/login?next=/...``: on to the hub, and back to ``next``."""

    page = True
    public = True

    def get(self) -> None:
        """Send a person to the hub; what comes back must fit the cookie that is left here."""
        authentication = self.services.authentication
        if not authentication.login:
            self.redirect("/")
            return
        state, (verifier, challenge) = secrets.token_urlsafe(16), authentication.hub.challenge()
        after = local_path(self.get_query_argument("next", "/"))
        left = authentication.sessions.seal(STATE, {"state": state, "verifier": verifier, "next": after})
        self.set_cookie(STATE, left, max_age=STATE_SECONDS, httponly=True, samesite="Lax", secure=self.secure)
        self.redirect(authentication.hub.address(state, challenge))


class CallbackHandler(BaseHandler):
    """``/oauth_callback``: what the hub's page comes back to."""

    page = True
    public = True

    async def get(self) -> None:
        """Turn the hub's code into a session."""
        authentication = self.services.authentication
        left = authentication.sessions.open(STATE, self.get_cookie(STATE) or "", STATE_SECONDS)
        state, code = self.get_query_argument("state", ""), self.get_query_argument("code", "")
        self.clear_cookie(STATE)
        if left is None or not code or not hmac.compare_digest(left["state"].encode(), state.encode()):
            raise RefusedError(
                "this login was not begun here, or too long ago; go to the start page and try again", 403
            )
        hub: HubLogin = authentication.hub
        token = await hub.token(code, left["verifier"])
        known = await hub.identify(token, self.get_cookie("jupyterhub-session-id") or "")
        if known is None:
            raise RefusedError("JupyterHub did not confirm this login; try again", 403)
        authentication.start_session(self, token, known.name)
        self.redirect(left["next"])


class LogoutHandler(BaseHandler):
    """``/logout``: the session here ends, then the one at the hub."""

    page = True
    public = True

    def get(self) -> None:
        """Delete the cookies."""
        self.services.authentication.end_session(self)
        self.redirect("/hub/logout" if self.services.authentication.login else "/")


class ServiceAddressHandler(BaseHandler):
    """``/services/launch/...``, where the hub's own pages link to: everything is at ``/``."""

    public = True

    def get(self, path: str = "") -> None:
        """Redirect to the same place below ``/``."""
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(local_path(f"/{quote(path.lstrip('/'), safe='/:@!$&()*+,;=~')}{query}"))


ROUTES: list[tuple[str, type[BaseHandler]]] = [
    (r"/login", LoginHandler),
    (r"/logout", LogoutHandler),
    (r"(?:/services/launch)?/oauth_callback", CallbackHandler),
    (r"/services/launch/?(?P<path>.*)", ServiceAddressHandler),
]
