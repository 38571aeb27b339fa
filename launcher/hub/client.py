"""The hub's REST API, as far as the launch service needs it: users, servers, their progress, and whose a token is.

The hub may be away for a moment (it restarts while servers run on): what failed with a 5xx or without an answer is
asked again, after 0.5, 1, 2 and 4 seconds. Reference: https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_DELAYS = (0.5, 1.0, 2.0, 4.0)
_CLEARING = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
_SECONDS = 30.0
_SILENCE = 60.0  # the hub sends something every 8 s while a server starts
_STOPPING = 120.0
_PAUSE = 0.2
_PAGE = 200
_PAGES = {"Accept": "application/jupyterhub-pagination+json"}


class HubError(CasabinderError):
    """The hub did not do what it was asked. ``status`` is its answer's, 503 if there was none."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class HubUser:
    """Whose a token is."""

    name: str
    kind: str
    admin: bool


@dataclass(frozen=True)
class Progress:
    """One line of a server's progress, of 100. ``explained`` says that the spawner knows why it ``failed``: trying
    again would not help."""

    message: str
    progress: int = 0
    ready: bool = False
    failed: bool = False
    explained: bool = False


class HubClient:
    """Talks to the hub as the service whose token it has. ``url`` ends in ``/hub/api``."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"token {token}"}
        timeout = httpx.Timeout(_SECONDS, pool=None)
        # No proxy of the user's environment lies between the service and its hub.
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=timeout, trust_env=False, limits=httpx.Limits(max_connections=None)
        )

    @classmethod
    def from_environment(cls) -> HubClient:
        """Return the client of a service that the hub has started."""
        try:
            return cls(os.environ["JUPYTERHUB_API_URL"], os.environ["JUPYTERHUB_API_TOKEN"])
        except KeyError as error:
            raise CasabinderError(f"{error.args[0]} is not set: the launch service is started by the hub") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def version(self) -> str:
        """Return the hub's version: whether it answers."""
        return str((await self._ask("GET", "/", retry=False)).json().get("version", ""))

    async def identify(self, token: str) -> HubUser | None:
        """Return whose token it is; nothing if the hub does not know it."""
        answer = await self._ask("GET", "/user", headers={"Authorization": f"token {token}"}, fine=(401, 403))
        if not answer.is_success:
            return None
        document = answer.json()
        return HubUser(document["name"], document.get("kind", "user"), bool(document.get("admin")))

    async def create_user(self, user: str) -> None:
        """Make a user unless there is one."""
        await self._ask("POST", _path(user), fine=(409,))

    async def delete_user(self, user: str) -> None:
        """Remove a user with all servers; there need not be one."""
        await self._ask("DELETE", _path(user), fine=(404,))

    async def start(self, user: str, server: str, options: Mapping[str, Any], title: str = "") -> bool:
        """Start a server; return ``False`` if it runs already."""
        body: dict[str, Any] = {"user_options": dict(options)}
        if title and server:
            body["display_name"] = title
        answer = await self._ask("POST", _path(user, server), body, fine=(400, 429))
        if answer.status_code == 400 and "already running" in _message(answer):
            return False
        if not answer.is_success:
            raise HubError(_message(answer), answer.status_code)
        return True

    async def progress(self, user: str, server: str) -> AsyncIterator[Progress]:
        """Yield what is told while a server starts, ``ready`` or ``failed`` last (unless the connection broke).

        While the hub clears up after a start that failed at once it says that nothing starts: it is asked again.
        """
        path = f"{_path(user, server)}/progress"
        timeout = httpx.Timeout(_SECONDS, read=_SILENCE, pool=None)
        delays = iter(_CLEARING)
        while True:
            try:
                async with self._http.stream("GET", path, timeout=timeout) as answer:
                    if answer.is_success:
                        async for line in answer.aiter_lines():
                            if line.startswith("data:"):
                                yield _progress(json.loads(line[5:]))
                        return
                    await answer.aread()
            except httpx.TransportError as error:
                raise HubError("JupyterHub does not answer", 503) from error
            delay = next(delays, None)
            if answer.status_code != 400 or delay is None:
                raise HubError(_message(answer), answer.status_code)
            await asyncio.sleep(delay)

    async def state(self, user: str, server: str) -> str:
        """Return ``ready``, ``spawn`` or ``stop`` (pending), ``stopped``, or nothing if there is no such server."""
        answer = await self._ask("GET", f"{_path(user)}?include_stopped_servers", fine=(404,))
        found = answer.json().get("servers", {}).get(server) if answer.is_success else None
        return "" if found is None else str(found["pending"] or ("ready" if found["ready"] else "stopped"))

    async def stop(self, user: str, server: str, *, remove: bool = False) -> None:
        """Stop a server and wait until it has; with ``remove`` forget it, and the files that it kept."""
        remove = remove and bool(server)
        await self._ask("DELETE", _path(user, server), {"remove": True} if remove else None, fine=(404,))
        waited = 0.0
        while await self.state(user, server) not in ("" if remove else "stopped", ""):
            if waited > _STOPPING:
                raise HubError(f"the server has not stopped after {_STOPPING:.0f} s", 504)
            await asyncio.sleep(_PAUSE)
            waited += _PAUSE

    async def active(self) -> set[tuple[str, str]]:
        """Return user and server of all servers that run, start or stop."""
        found: set[tuple[str, str]] = set()
        offset: int | None = 0
        while offset is not None:
            path = f"/users?state=active&limit={_PAGE}&offset={offset}"
            document = (await self._ask("GET", path, headers=_PAGES)).json()
            for user in document["items"]:
                found |= {(user["name"], server) for server in user.get("servers", {})}
            following = document["_pagination"]["next"]
            offset = following["offset"] if following else None
        return found

    async def _ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        fine: tuple[int, ...] = (),
        retry: bool = True,
    ) -> httpx.Response:
        delays = iter(_DELAYS if retry else ())
        while True:
            try:
                answer = await self._http.request(method, path, json=body, headers=headers)
                if answer.is_success or answer.status_code in fine:
                    return answer
                error = HubError(_message(answer), answer.status_code)
            except httpx.TransportError as broken:
                error = HubError("JupyterHub does not answer", 503)
                error.__cause__ = broken
            delay = next(delays, None)
            if error.status < 500 or delay is None:
                raise error
            await asyncio.sleep(delay)


def _path(user: str, server: str | None = None) -> str:
    path = f"/users/{quote(user, safe='')}"
    if server is None:
        return path
    return f"{path}/servers/{quote(server, safe='')}" if server else f"{path}/server"


def _progress(event: Mapping[str, Any]) -> Progress:
    message = str(event.get("message", "")).removeprefix("Spawn failed:").strip()
    failed, ready = bool(event.get("failed")), bool(event.get("ready"))
    if failed and not message:  # a TimeoutError has no words
        message = "the server did not start in time"
    return Progress(message, int(event.get("progress", 0)), ready, failed, failed and "html_message" in event)


def _message(answer: httpx.Response) -> str:
    try:
        said = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        said = ""  # a page of the proxy
    return said or f"JupyterHub answers with status {answer.status_code}"
