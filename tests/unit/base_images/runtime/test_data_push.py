from __future__ import annotations

import asyncio
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from casabinder_runtime import data_access
from casabinder_runtime.data_access import PUSHED_TOPIC, write_private
from casabinder_runtime.data_push import PUSH_RETRY_SECONDS, DataAccess, DataCredentials
from casabinder_runtime.notices import TOPIC


class Scheduler:
    """What a session asks of Dask's scheduler; ``answer`` is what its workers say."""

    def __init__(self) -> None:
        self.plugins: list[DataCredentials] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.answer: dict[str, Any] | OSError = {}

    async def register_worker_plugin(self, comm: None, plugin: bytes, name: str, *, idempotent: bool) -> dict[str, Any]:
        assert (name, idempotent) == ("casabinder-data-access", False)
        if isinstance(self.answer, OSError):
            raise self.answer
        self.plugins.append(pickle.loads(plugin))
        return self.answer

    def log_event(self, topic: str, event: dict[str, Any]) -> None:
        self.events.append((topic, event))

    @property
    def sentences(self) -> list[str]:
        return [event["message"] for topic, event in self.events if topic == TOPIC]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_access, "TEMPORARY", tmp_path / "nowhere")
    for name in ("BEARER_TOKEN", "BEARER_TOKEN_FILE", "X509_USER_PROXY"):
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)


def token_on(worker: SimpleNamespace) -> str:
    return Path(worker.local_directory, "credentials", "bearer_token").read_text()


def test_a_plugin_that_comes_late_changes_nothing(tmp_path: Path) -> None:
    worker = SimpleNamespace(local_directory=str(tmp_path))
    DataCredentials(2, {"token": "new"}).setup(worker)
    DataCredentials(1, {"token": "old"}).setup(worker)
    assert token_on(worker) == "new"
    assert os.environ["BEARER_TOKEN_FILE"] == str(tmp_path / "credentials" / "bearer_token")
    DataCredentials(3, {"token": "newest"}).setup(worker)
    assert token_on(worker) == "newest"


def test_every_change_is_pushed_once(tmp_path: Path) -> None:
    scheduler, file = Scheduler(), tmp_path / "data" / "bearer_token"
    session = DataAccess(scheduler, environment={"CASABINDER_SECRETS": str(tmp_path)})
    worker = SimpleNamespace(local_directory=str(tmp_path))
    for token in ("", "one", "one", "two"):
        if token:
            write_private(file, token)
        asyncio.run(session.look())
    assert len(scheduler.plugins) == 2
    assert [event for topic, event in scheduler.events if topic == PUSHED_TOPIC] == [{"serial": 1}, {"serial": 2}]
    for plugin, token in zip(scheduler.plugins, ("one", "two"), strict=True):
        plugin.setup(worker)
        assert token_on(worker) == token
    assert "one" not in repr(scheduler.plugins[0])


def test_a_push_that_failed_is_tried_again(tmp_path: Path) -> None:
    scheduler, now = Scheduler(), 0.0
    session = DataAccess(scheduler, environment={"CASABINDER_SECRETS": str(tmp_path)}, clock=lambda: now)
    write_private(tmp_path / "data" / "bearer_token", "one")
    scheduler.answer = OSError("a worker is lost")
    asyncio.run(session.look())
    scheduler.answer = {}
    asyncio.run(session.look())
    assert scheduler.plugins == []
    now = PUSH_RETRY_SECONDS
    for _ in range(2):
        asyncio.run(session.look())
    assert len(scheduler.plugins) == 1


def test_a_worker_without_room_is_told_of_once(tmp_path: Path) -> None:
    scheduler = Scheduler()
    session = DataAccess(scheduler, environment={"CASABINDER_SECRETS": str(tmp_path)})
    scheduler.answer = {"tls://w:1": {"status": "error", "exception_text": "OSError(28, 'No space left on device')"}}
    for token in ("one", "two"):
        write_private(tmp_path / "data" / "bearer_token", token)
        asyncio.run(session.look())
    assert scheduler.sentences == [
        "The worker at tls://w:1 could not store the credentials for data: OSError(28, 'No space left on device')."
    ]


def test_the_command_gives_the_first_token(tmp_path: Path) -> None:
    scheduler = Scheduler()
    session = DataAccess(scheduler, ("echo", "a.b.c"), environment={**os.environ, "CASABINDER_SECRETS": str(tmp_path)})
    asyncio.run(session.look())
    assert (tmp_path / "data" / "bearer_token").read_text() == "a.b.c"
    assert len(scheduler.plugins) == 1


def test_a_command_that_gives_the_same_again_has_failed(tmp_path: Path) -> None:
    scheduler = Scheduler()
    old = "e30.eyJleHAiOiAxMH0.c2ln"  # {"exp": 10}
    environment = {**os.environ, "CASABINDER_SECRETS": str(tmp_path)}
    session = DataAccess(scheduler, ("echo", old), environment=environment, clock=lambda: 5.0)
    write_private(tmp_path / "data" / "bearer_token", old)
    asyncio.run(session.look())
    refused, ending = scheduler.sentences
    assert refused == ("The token for reading data could not be renewed: the site's command (echo) gave no newer one.")
    assert "ends in 5 s, at 00:00 UTC" in ending
