"""Reads event streams as BinderHub's users do: lines, of which those that begin with ``data:`` are messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

PHASES = {"waiting", "fetching", "building", "pushing", "built", "launching", "ready", "failed"}


def messages(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """Yield the messages of a stream until the server closes it; each must be in BinderHub's vocabulary."""
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    for line in response.iter_lines():
        if line.startswith("data:"):
            message = json.loads(line[5:])
            assert message["phase"] in PHASES, message
            assert message["message"].endswith("\n"), message
            yield message


def all_messages(client: httpx.Client, path: str, **headers: str) -> list[dict[str, Any]]:
    """Ask for a stream and return its messages when the server has closed it."""
    with client.stream("GET", path, headers={"Accept": "text/event-stream", **headers}, timeout=300) as response:
        return list(messages(response))
