from __future__ import annotations

import asyncio
from typing import Any

import pytest
from casabinder_runtime.notices import TOPIC
from casabinder_runtime.scheduler_plugin import STARTUP_KEY, EnvironmentGuard

WORKER: dict[str, Any] = {"name": "w-1", "address": "tls://10.0.0.7:4000", "nthreads": 1}


class RecordingScheduler:
    """A scheduler as the plugin sees one: handlers, and a log of events."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {"register-worker": self._register}
        self.registered: list[dict[str, Any]] = []
        self.events: list[tuple[str, dict[str, str]]] = []

    async def _register(self, comm: RecordingComm, **message: Any) -> None:
        self.registered.append(message)

    def log_event(self, topic: str, event: dict[str, str]) -> None:
        self.events.append((topic, event))


class RecordingComm:
    """The connection of a worker that wants to register."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    async def write(self, message: dict[str, Any]) -> None:
        self.written.append(message)


async def _register(extra: dict[str, str]) -> tuple[RecordingScheduler, RecordingComm]:
    scheduler, comm = RecordingScheduler(), RecordingComm()
    await EnvironmentGuard("a" * 16).start(scheduler)
    await scheduler.handlers["register-worker"](comm, extra=extra, **WORKER)
    return scheduler, comm


def test_a_worker_of_the_same_environment_is_registered_as_it_came() -> None:
    extra = {STARTUP_KEY: "a" * 16}
    scheduler, comm = asyncio.run(_register(extra))
    assert scheduler.registered == [{**WORKER, "extra": extra}]
    assert comm.written == []
    assert scheduler.events == []


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({STARTUP_KEY: "b" * 16}, "its image holds the environment bbbbbbbbbbbbbbbb, but this notebook's is aaaa"),
        ({}, "it does not say which environment its image holds"),
    ],
)
def test_another_worker_is_refused_and_everybody_told_why(extra: dict[str, str], reason: str) -> None:
    scheduler, comm = asyncio.run(_register(extra))
    assert scheduler.registered == []
    [answer] = comm.written
    assert answer["status"] == "error"
    assert reason in answer["message"]
    [(topic, event)] = scheduler.events
    assert topic == TOPIC
    assert event["kind"] == "worker-refused"
    assert event["message"] == answer["message"]
