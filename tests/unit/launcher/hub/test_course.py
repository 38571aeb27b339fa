from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from launcher.database import open_database
from launcher.hub import client as client_module
from launcher.hub import course as course_module
from launcher.hub.client import HubClient, HubError
from launcher.hub.course import Course, Surroundings
from launcher.hub.launch_log import LaunchLog
from launcher.hub.vouching import OPTION, Voucher
from launcher.site_config import Launches, Service
from tests.testbed.scripted_hub import FAILED, READY, scripted_hub
from tests.unit.launcher.hub.test_launch_log import ENTRY, FREE
from tests.unit.launcher.hub.test_vouching import KEYS, REQUEST

if TYPE_CHECKING:
    from pathlib import Path

    from launcher.hub.course import Outcome
    from launcher.hub.launch import LaunchEvent
    from tests.testbed.scripted_hub import ScriptedHub

LAUNCH = replace(ENTRY.launch, user=REQUEST.user, server="")


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_DELAYS", (0.0, 0.0))
    monkeypatch.setattr(client_module, "_CLEARING", (0.0, 0.0))
    monkeypatch.setattr(course_module, "_RETRY_SECONDS", 0.0)


def run(
    hub: ScriptedHub, cache: Path, *, stopped_at: str = "", **allowed: int
) -> tuple[Outcome, list[LaunchEvent], LaunchLog]:
    """Bring one launch to its end and return what was told; another replica stops it when it says ``stopped_at``."""
    engine = open_database(Service(), cache)
    log = LaunchLog(engine)

    async def go() -> tuple[Outcome, list[LaunchEvent]]:
        hub_client = HubClient(f"{hub.url}/hub/api", "token")
        around = Surroundings(
            hub_client,
            log,
            Voucher(KEYS),
            Launches.model_validate(allowed),
            "https://hub.example.org",
            hub.url,
            False,
            time.time,
        )
        log.claim(replace(ENTRY, launch=LAUNCH), FREE)
        course = Course(LAUNCH, REQUEST, around)
        running = asyncio.create_task(course.run())
        told = []
        async for event in course.events():
            told.append(event)
            if stopped_at and stopped_at in event.message:
                log.change(LAUNCH.id, state="stopped")
        outcome = await running
        await hub_client.close()
        return outcome, told

    outcome, told = asyncio.run(go())
    return outcome, told, log


def test_a_server_that_is_ready_is_told_with_its_token(tmp_path: Path) -> None:
    with scripted_hub([{"progress": 60, "message": "starting the server"}, READY]) as hub:
        outcome, told, log = run(hub, tmp_path)
    assert [(event.kind, event.progress) for event in told] == [("message", 60), ("ready", 100)]
    assert told[-1].url == f"https://hub.example.org/user/{REQUEST.user}/"
    kept = log.get(LAUNCH.id)
    assert kept is not None
    assert (kept.launch.state, outcome.retries) == ("ready", 0)
    assert told[-1].token == Voucher(KEYS).token(kept.request.id)
    assert Voucher(KEYS).verify(hub.options[0][OPTION], REQUEST.user, "").id == kept.request.id
    log._engine.dispose()


def test_what_nobody_can_explain_is_tried_again_with_a_new_request(tmp_path: Path) -> None:
    with scripted_hub([{**FAILED, "message": "Spawn failed: the engine failed"}], 429, [READY], broken=1) as hub:
        outcome, told, log = run(hub, tmp_path, retries=2)
    assert [event.message for event in told[:-1]] == [
        "attempt 1 failed, trying again: the engine failed",
        "attempt 2 failed, trying again: the hub is full",
    ]
    assert (told[-1].kind, outcome.retries) == ("ready", 2)
    ids = [jwt.decode(one[OPTION], options={"verify_signature": False})["launch"]["id"] for one in hub.options]
    assert len(set(ids)) == 3
    assert told[-1].token == Voucher(KEYS).token(ids[-1])
    log._engine.dispose()


def test_what_the_spawner_explains_is_not_and_nothing_is_left(tmp_path: Path) -> None:
    explained = {**FAILED, "message": "Spawn failed: it ran out of memory", "html_message": "it ran out of memory"}
    with scripted_hub([explained], [READY]) as hub:
        outcome, told, log = run(hub, tmp_path, retries=2)
    assert [(event.kind, event.message) for event in told] == [("failed", "it ran out of memory")]
    assert (outcome.launch.state, outcome.retries) == ("failed", 0)
    assert f"DELETE /hub/api/users/{REQUEST.user}" in hub.asked
    assert log.find(active=True) == []
    log._engine.dispose()


@pytest.mark.parametrize(
    ("starts", "stopped_at"),
    [
        ([[FAILED], [READY]], "attempt 1 failed, trying again"),
        ([[{"progress": 60, "message": "starting the server"}, READY]], "starting the server"),
    ],
)
def test_what_another_replica_has_stopped_is_not_started_again_and_does_not_stay(
    tmp_path: Path, starts: list[list[dict[str, Any]]], stopped_at: str
) -> None:
    with scripted_hub(*starts) as hub:
        _, told, log = run(hub, tmp_path, stopped_at=stopped_at, retries=1)
    assert (told[-1].kind, told[-1].message) == ("failed", "the server was stopped while it started")
    assert (len(hub.options), hub.asked[-1]) == (1, f"DELETE /hub/api/users/{REQUEST.user}")
    kept = log.get(LAUNCH.id)
    assert kept is not None
    assert kept.launch.state == "stopped"
    log._engine.dispose()


def test_the_last_attempts_cause_is_told(tmp_path: Path) -> None:
    with scripted_hub([FAILED], [FAILED]) as hub:
        _, told, log = run(hub, tmp_path, retries=1)
    assert told[-1].message == "the server did not start in time"
    log._engine.dispose()


def test_a_hub_that_stays_away_is_named(tmp_path: Path) -> None:
    with scripted_hub(broken=1000) as hub:
        _, told, log = run(hub, tmp_path, retries=0)
    assert (told[-1].kind, told[-1].status, told[-1].message) == ("failed", 503, "JupyterHub answers with status 503")
    log._engine.dispose()


def test_the_hub_says_which_servers_run() -> None:
    async def go(url: str) -> set[tuple[str, str]]:
        hub_client = HubClient(f"{url}/hub/api", "token")
        try:
            return await hub_client.active()
        finally:
            await hub_client.close()

    with scripted_hub() as hub:
        hub.active = [{"name": "ann", "servers": {"": {}, "x": {}}}, {"name": "bob", "servers": {}}]
        assert asyncio.run(go(hub.url)) == {("ann", ""), ("ann", "x")}
    with pytest.raises(HubError, match="JupyterHub does not answer"):
        asyncio.run(go(hub.url))
