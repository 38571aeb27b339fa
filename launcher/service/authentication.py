"""Who asks: a token of the hub, a session's cookie, or a visitor who gets one.

The service is served at ``/`` beside everybody's notebook server at ``/user/...``, and a server sees the cookies that
are sent to it. So what gives power goes where no notebook server is:

======================  ================  ==================================================================
``casabinder-session``  ``/api``,         encrypted: a visitor's id, or the hub's token of a person; HttpOnly
                        ``/build``
``casabinder-page``     ``/``             login mode, encrypted: a person's name, good for looking at pages; HttpOnly
``_xsrf``               ``/``             for the page's script: a change is meant; worthless without a session
======================  ================  ==================================================================

All are SameSite=Lax, and a request with a token in ``Authorization`` needs none of them.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from launcher.refusal import RefusedError
from launcher.security.principal import Principal
from launcher.service.proxies import Networks

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.service.base import BaseHandler
    from launcher.service.hub_login import HubLogin
    from launcher.service.sessions import Sessions
    from launcher.site_config import Site

SESSION, PAGE, XSRF = "casabinder-session", "casabinder-page", "_xsrf"
SESSION_PATHS = ("/api", "/build")
SESSION_SECONDS = 30 * 86_400
_READING = frozenset(("GET", "HEAD", "OPTIONS"))
_TOKEN = re.compile(r"(?:token|bearer)\s+(\S+)\s*", re.IGNORECASE)


class Authentication:
    """Finds out who asks. ``hub`` is the hub as an OAuth provider; ``now`` returns seconds since 1970."""

    def __init__(self, site: Site, sessions: Sessions, hub: HubLogin, now: Callable[[], float] = time.time) -> None:
        self.login = site.hub.mode == "login"
        self.proxies = Networks(site.service.trusted_proxies)
        self.sessions = sessions
        self.hub = hub
        self.now = now
        self._admins = frozenset(site.hub.admins)
        self._banned = Networks(site.service.banned_networks)

    def refuse_banned(self, address: str) -> None:
        """Raise :class:`RefusedError` 403 for an address that the site does not serve."""
        if self._banned.has(address):
            raise RefusedError("requests from this network are not served here", 403)

    async def principal(self, handler: BaseHandler) -> Principal:
        """Return who asks; a visitor without a cookie gets one. Raises :class:`RefusedError` 401, 403 or 503."""
        stated = handler.request.headers.get("Authorization", "")
        if stated:
            token = _TOKEN.fullmatch(stated)
            found = await self._by_token(token[1], handler) if token else None
            if found is None:
                raise RefusedError("the token in `Authorization` is not one of this JupyterHub, or has expired", 401)
            return found
        found = await self._by_session(handler)
        if found is not None:
            self._check_xsrf(handler, found)
            return found
        if self.login:
            raise RefusedError("log in first: open the start page, or send a JupyterHub token in `Authorization`", 403)
        return self.start_session(handler)

    async def prepare_page(self, handler: BaseHandler) -> None:
        """See to it that a page's script can ask the API: a visitor gets a session, others are sent to the hub."""
        if not self.login:
            if not handler.get_cookie(XSRF):
                self.start_session(handler)
            return
        document = self.sessions.open(PAGE, handler.get_cookie(PAGE) or "", SESSION_SECONDS)
        if document is None or not handler.get_cookie(XSRF):
            if handler.request.method not in _READING:
                raise RefusedError("log in first", 403)
            uri = handler.request.uri or "/"
            handler.redirect(f"/login?next={quote(uri, safe='')}")

    def page_name(self, handler: BaseHandler) -> str:
        """Return the name of the person who looks at a page, or ``""``: for a greeting, not for rights."""
        document = self.sessions.open(PAGE, handler.get_cookie(PAGE) or "", SESSION_SECONDS) if self.login else None
        return document["name"] if document else ""

    def start_session(self, handler: BaseHandler, token: str = "", name: str = "") -> Principal:
        """Set the cookies of a session: of a person with the hub's ``token`` and ``name``, else of a new visitor."""
        if token:
            session, owner = {"token": token}, Principal("user", name, address=handler.address)
            page = self.sessions.seal(PAGE, {"name": name})
            self._set_cookie(handler, PAGE, page, httponly=True)
        else:
            visitor = secrets.token_hex(16)
            session, owner = {"visitor": visitor}, Principal("visitor", visitor, address=handler.address)
        sealed = self.sessions.seal(SESSION, session)
        for path in SESSION_PATHS:
            self._add_cookie(handler, path, sealed)
        xsrf = self.sessions.xsrf(owner.owner)
        self._set_cookie(handler, XSRF, xsrf, httponly=False)
        return owner

    def end_session(self, handler: BaseHandler) -> None:
        """Delete the session's cookies."""
        for path in SESSION_PATHS:
            self._add_cookie(handler, path, "")
        handler.clear_cookie(PAGE)
        handler.clear_cookie(XSRF)

    async def _by_token(self, token: str, handler: BaseHandler) -> Principal | None:
        """Return whom the hub knows by a token; raise :class:`RefusedError` 403 if it is for something else."""
        known = await self.hub.identify(token, handler.get_cookie("jupyterhub-session-id") or "")
        if known is None:
            return None
        admin = known.admin or (known.kind == "user" and known.name in self._admins)
        return Principal(known.kind, known.name, admin, handler.address)

    async def _by_session(self, handler: BaseHandler) -> Principal | None:
        document = self.sessions.open(SESSION, handler.get_cookie(SESSION) or "", SESSION_SECONDS)
        if document is None:
            return None
        if self.login:
            return await self._by_token(document["token"], handler) if "token" in document else None
        visitor = document.get("visitor")
        return Principal("visitor", visitor, address=handler.address) if visitor else None

    def _check_xsrf(self, handler: BaseHandler, principal: Principal) -> None:
        """Refuse a change with a cookie alone: browsers send it along whoever asks."""
        if handler.request.method in _READING:
            return
        stated = handler.request.headers.get("X-Xsrftoken", "")
        if not hmac.compare_digest(stated.encode(), self.sessions.xsrf(principal.owner).encode()):
            raise RefusedError("send the value of the cookie `_xsrf` as the header `X-Xsrftoken`", 403)

    @staticmethod
    def _set_cookie(handler: BaseHandler, name: str, value: str, *, httponly: bool) -> None:
        handler.set_cookie(
            name, value, max_age=SESSION_SECONDS, httponly=httponly, samesite="Lax", secure=handler.secure
        )

    @staticmethod
    def _add_cookie(handler: BaseHandler, path: str, value: str) -> None:
        # tornado keeps one cookie per name; this one has a path for each place.
        parts = [f"{SESSION}={value}", f"Path={path}", "HttpOnly", "SameSite=Lax"]
        parts.append(f"Max-Age={SESSION_SECONDS if value else 0}")
        if handler.secure:
            parts.append("Secure")
        handler.add_header("Set-Cookie", "; ".join(parts))
