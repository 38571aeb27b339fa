from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from launcher.context import open_context
from launcher.database import open_database
from launcher.hub import client as client_module
from launcher.hub.client import HubClient, HubError
from launcher.hub.launch_log import LaunchLog
from launcher.hub.launching import Launches
from launcher.security.principal import Principal
from launcher.service.models import ServerDocument
from tests.testbed.scripted_hub import READY, scripted_hub
from tests.unit.launcher.hub.test_launch_log import ENTRY, FREE
from tests.unit.launcher.hub.test_vouching import KEYS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.testbed.scripted_hub import ScriptedHub

ANN = Principal("user", "ann")
SERVER = "/hub/api/users/ann/servers/agc-1"
MINE = replace(ENTRY, request=replace(ENTRY.request, user="ann", server="agc-1", mode="login"))


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_DELAYS", (0.0,))


@asynccontextmanager
async def launches_of(hub: ScriptedHub, directory: Path) -> AsyncIterator[tuple[Launches, LaunchLog]]:
    """Open the launches of a site where people log in, and the log that they are in."""
    file = directory / "site.yaml"
    site = {"registry": f"oci:{directory / 'registry'}", "hub": {"mode": "login", "authenticator": "dummy"}}
    file.write_text(json.dumps(site), encoding="utf-8")
    context = open_context(file)
    engine = open_database(context.site.service, directory)
    client = HubClient(f"{hub.url}/hub/api", "token")
    launches = Launches(context, engine, KEYS, client, public_url="https://hub.example.org", proxy_url=hub.url)
    try:
        yield launches, LaunchLog(engine)
    finally:
        await launches.close()
        engine.dispose()


def test_files_of_a_server_that_could_not_be_resumed_stay_until_they_are_removed(tmp_path: Path) -> None:
    async def go(hub: ScriptedHub) -> None:
        async with launches_of(hub, tmp_path) as (launches, log):
            log.claim(MINE, FREE)
            log.change("l1", state="stopped", kept=True)
            await launches.resume("l1", ANN)
            *_, last = [event async for event in launches.events("l1", ANN)]
            assert last.kind == "failed"
            (failed,) = await launches.servers(ANN)
            assert (failed.state, ServerDocument.of(failed).resumable) == ("failed", True)

            await launches.stop("l1", ANN)
            (stopped,) = await launches.servers(ANN)
            assert (stopped.state, ServerDocument.of(stopped).resumable, hub.removed) == ("stopped", True, [])

            await launches.resume("l1", ANN)
            *_, last = [event async for event in launches.events("l1", ANN)]
            assert last.kind == "ready"
            await launches.stop("l1", ANN, remove_files=True)
            assert (await launches.servers(ANN), hub.removed) == ([], [SERVER])

    with scripted_hub(403, [READY]) as hub:
        asyncio.run(go(hub))


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_a_server_without_files_gets_none_by_being_stopped(tmp_path: Path, state: str) -> None:
    async def go(hub: ScriptedHub) -> None:
        async with launches_of(hub, tmp_path) as (launches, log):
            log.claim(MINE, FREE)
            log.change("l1", state=state)
            await launches.stop("l1", ANN)
            assert (await launches.servers(ANN), hub.removed) == ([], [SERVER])

    with scripted_hub() as hub:
        asyncio.run(go(hub))


@pytest.mark.parametrize(
    "before",
    [
        {"state": "ready", "message": "", "kept": True},
        {"state": "starting", "message": "fetching the image", "kept": False},
        {"state": "stopped", "message": "was not used for a while", "kept": True},
    ],
)
def test_a_server_that_the_hub_could_not_stop_stays_in_the_list(tmp_path: Path, before: dict[str, Any]) -> None:
    async def go(hub: ScriptedHub) -> None:
        async with launches_of(hub, tmp_path) as (launches, log):
            log.claim(replace(MINE, seen=time.time()), FREE)
            log.change("l1", **before)
            hub.active = [{"name": "ann", "servers": {"agc-1": {}}}]
            hub.broken = 2
            with pytest.raises(HubError):
                await launches.stop("l1", ANN, remove_files=True)
            (server,) = await launches.servers(ANN)
            assert {name: getattr(server, name) for name in before} == before

            await launches.stop("l1", ANN, remove_files=True)
            assert (await launches.servers(ANN), hub.removed[-1]) == ([], SERVER)

    with scripted_hub() as hub:
        asyncio.run(go(hub))
