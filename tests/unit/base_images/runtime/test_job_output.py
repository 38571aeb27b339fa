"""Output of ended jobs: fetched once for each run, tried again when it can't be had, and given up in the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.pools.departures import Departures
from casabinder_runtime.pools.job_output import TRIES, JobOutput
from casabinder_runtime.pools.schedd import QueuedJob
from casabinder_runtime.worker_logs import ARRIVING, error_file

from tests.unit.base_images.runtime.scripted_queue import IDLE, ScriptedQueue

if TYPE_CHECKING:
    from pathlib import Path

ENDED = QueuedJob(7, "w-0", "ended", started=1, status=1)
AWAY = "Failed to connect"


@pytest.fixture
def queue(tmp_path: Path) -> ScriptedQueue:
    """A queue with a job whose output has arrived."""
    (tmp_path / ARRIVING).mkdir()
    (tmp_path / ARRIVING / error_file("w-0")).write_text("its last words\n")
    queue = ScriptedQueue(tmp_path)
    queue.ads[7] = {"ClusterId": 7, "JobStatus": IDLE}
    return queue


def test_output_is_fetched_once_for_each_run(queue: ScriptedQueue, tmp_path: Path) -> None:
    async def fetch() -> None:
        output = JobOutput(queue, tmp_path)
        assert [await output.fetch(ENDED) for _ in range(2)] == [True, True]
        assert queue.asked == ["retrieve"]
        assert await output.last_words(ENDED) == "its last words"
        assert await output.fetch(replace(ENDED, started=2))
        assert queue.asked == ["retrieve", "retrieve"]

    asyncio.run(fetch())


def test_output_that_is_not_given_is_asked_for_again_and_the_job_stays(queue: ScriptedQueue, tmp_path: Path) -> None:
    async def see_off() -> None:
        departures = Departures(queue, JobOutput(queue, tmp_path))
        departures.add(None, "w-0", 7, at_once=True)
        queue.refusals = [AWAY]
        await departures.see_off([ENDED])
        assert (bool(departures), list(queue.ads)) == (True, [7])
        await departures.see_off([ENDED])
        assert (bool(departures), list(queue.ads)) == (False, [])

    asyncio.run(see_off())
    assert (tmp_path / error_file("w-0")).exists()


def test_output_that_is_never_given_is_given_up(queue: ScriptedQueue, tmp_path: Path) -> None:
    queue.refusals = [AWAY] * 9

    async def fetch() -> list[bool]:
        output = JobOutput(queue, tmp_path)
        return [await output.fetch(ENDED) for _ in range(TRIES + 1)]

    assert asyncio.run(fetch()) == [False] * (TRIES - 1) + [True, True]
    assert queue.asked == ["retrieve"] * TRIES
