"""Waits until a notebook server answers and its Dask session runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable

START_SECONDS = 120.0
_PAUSE = 0.2


class NotReadyError(CasabinderError):
    """A server that does not answer, or has no Dask session though it should."""


def wait_until_ready(
    url: str, token: str, check_alive: Callable[[], None], *, with_workers: bool, seconds: float = START_SECONDS
) -> None:
    """Return once the server at ``url`` answers and, ``with_workers``, its Dask session runs.

    ``check_alive`` is called again and again and raises when the server has ended. Raises :class:`NotReadyError` with
    one sentence when the session failed or the time is over.
    """
    deadline = time.monotonic() + seconds
    headers = {"Authorization": f"token {token}"}
    # No proxy of the user's environment lies between this machine and itself.
    with httpx.Client(base_url=url, headers=headers, timeout=5.0, trust_env=False) as client:
        while not _ready(client, with_workers=with_workers):
            check_alive()
            if time.monotonic() > deadline:
                raise NotReadyError(f"the notebook server is not ready after {seconds:.0f} s")
            time.sleep(_PAUSE)


def _ready(client: httpx.Client, *, with_workers: bool) -> bool:
    try:
        answer = client.get("casabinder/api/session" if with_workers else "api/status")
    except httpx.TransportError:
        return False
    if answer.status_code in (401, 403):
        raise NotReadyError("the notebook server does not know its token; its `start` script may have changed it")
    if answer.status_code == 404 and with_workers:
        raise NotReadyError("the notebook server has no Dask session: the image has no casabinder_runtime")
    if not answer.is_success:
        return False
    if not with_workers:
        return True
    report: dict[str, Any] = answer.json()
    if report["state"] in ("failed", "stopped", "off"):
        raise NotReadyError(f"the Dask session did not start: {report['message'] or 'it is ' + report['state']}")
    return bool(report["state"] == "running")
