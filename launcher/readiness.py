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
_CHECK_SECONDS = 1.0  # asking an engine costs the processors on which the server is starting


class NotReadyError(CasabinderError):
    """A server that does not answer, or has no Dask session though it should."""


def wait_until_ready(
    url: str,
    token: str,
    check_alive: Callable[[], None],
    *,
    with_workers: bool,
    workers: int = 0,
    seconds: float = START_SECONDS,
) -> None:
    """Return once the server at ``url`` answers and, ``with_workers``, its Dask session runs and has ``workers``.

    ``check_alive`` is called again and again and raises when the server has ended. Raises :class:`NotReadyError` with
    one sentence when the session failed or the time is over.
    """
    check, deadline = time.monotonic() + _CHECK_SECONDS, time.monotonic() + seconds
    headers = {"Authorization": f"token {token}"}
    # No proxy of the user's environment lies between this machine and itself.
    with httpx.Client(base_url=url, headers=headers, timeout=5.0, trust_env=False) as client:
        while missing := _missing(client, workers, with_workers=with_workers):
            if time.monotonic() > check:
                check_alive()
                check = time.monotonic() + _CHECK_SECONDS
            if time.monotonic() > deadline:
                raise NotReadyError(f"after {seconds:.0f} s {missing}")
            time.sleep(_PAUSE)


def _missing(client: httpx.Client, workers: int, *, with_workers: bool) -> str:
    """Return what the server still lacks, nothing when it is ready."""
    try:
        answer = client.get("casabinder/api/session" if with_workers else "api/status")
    except httpx.TransportError:
        return "the notebook server does not answer"
    if answer.status_code in (401, 403):
        raise NotReadyError("the notebook server does not know its token; its `start` script may have changed it")
    if answer.status_code == 404 and with_workers:
        raise NotReadyError("the notebook server has no Dask session: the image has no casabinder_runtime")
    if not answer.is_success:
        return f"the notebook server answers with status {answer.status_code}"
    if not with_workers:
        return ""
    report: dict[str, Any] = answer.json()
    if report["state"] in ("failed", "stopped", "off"):
        raise NotReadyError(f"the Dask session did not start: {report['message'] or 'it is ' + report['state']}")
    if report["state"] != "running":
        return f"the Dask session is {report['state']}"
    return "" if report["workers"] >= workers else f"{report['workers']} of {workers} Dask workers have joined"
