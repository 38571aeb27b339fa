from __future__ import annotations

import asyncio
from typing import Any

import pytest
from docker.errors import NotFound

from launcher.hub.docker_spawner import VouchedDockerSpawner
from launcher.hub.spawner import StartError


class _Server:
    base_url = "/user/agc/"


class _EndsBetween:
    """An engine whose container runs when it is looked at first, and has ended when it is asked for its port."""

    def __init__(self, *, removed: bool) -> None:
        self._removed = removed
        self._looked = False

    def inspect_container(self, _: str) -> dict[str, Any]:
        if self._looked and self._removed:
            raise NotFound("no such container")
        state = {"Running": False, "ExitCode": 3} if self._looked else {"Running": True}
        self._looked = True
        return {"Id": "c1", "State": state}

    def port(self, *_: object) -> None:
        if self._removed:
            raise NotFound("no such container")

    def logs(self, *_: object, **__: object) -> bytes:
        return b"no licence\n"


@pytest.mark.parametrize(
    ("removed", "cause"),
    [
        (False, "it ended with status 3. Its last words: no licence"),
        (True, "its container was removed by somebody else"),
    ],
)
def test_a_server_that_ends_before_its_port_is_known_has_its_cause_told(
    monkeypatch: pytest.MonkeyPatch, removed: bool, cause: str
) -> None:
    monkeypatch.setattr(VouchedDockerSpawner, "_client", _EndsBetween(removed=removed))

    async def go() -> None:
        spawner = VouchedDockerSpawner(object_name="agc")
        spawner.server = _Server()
        await spawner._when_it_answers()

    with pytest.raises(StartError, match=cause):
        asyncio.run(go())
