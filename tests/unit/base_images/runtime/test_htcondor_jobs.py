"""Workers as jobs: what becomes of them, and that none is left when their session ends."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import dask
from casabinder_runtime import cluster_end
from casabinder_runtime.cluster_end import end_cluster
from casabinder_runtime.pools import htcondor_jobs, queue_watch
from distributed import Worker

from tests.unit.base_images.runtime.scripted_queue import IDLE, RUNNING, ScriptedQueue, pool_cluster

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from casabinder_runtime.pools.htcondor_jobs import PoolCluster


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.02)


async def started(cluster: PoolCluster, workers: int) -> None:
    """Start a cluster and ask for workers."""
    await cluster
    cluster.scale(workers)  # type: ignore[no-untyped-call]  # dask-jobqueue's


async def with_a_job(directory: Path) -> tuple[ScriptedQueue, PoolCluster]:
    """Start a cluster whose one job is in the queue."""
    queue = ScriptedQueue(directory)
    cluster = pool_cluster(directory, queue)
    await started(cluster, 1)
    await until(lambda: bool(queue.ads))
    return queue, cluster


def test_a_worker_that_was_sent_away_keeps_its_job_however_long_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_watch, "LOOK_SECONDS", 0.05)

    async def run() -> None:
        queue, cluster = await with_a_job(tmp_path)
        [(number, ad)] = queue.ads.items()
        ad |= {"JobStatus": RUNNING, "JobCurrentStartDate": 1, "JobCurrentStartExecutingDate": 1}
        security = cluster.security
        worker = await Worker(cluster.scheduler.address, name="w-0", security=security, dashboard=False, nthreads=1)
        await until(lambda: cluster.watch.notes == [] and "w-0" in cluster.watch._joined_once)
        ad["JobStatus"] = IDLE
        await worker.close()
        await asyncio.sleep(0.6)  # several looks, and longer than Dask would wait
        assert list(queue.ads) == [number]
        assert list(cluster.workers) == ["w-0"]
        await end_cluster(cluster)
        assert queue.ads == {}

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}):
        asyncio.run(run())


def test_jobs_that_are_being_submitted_when_the_session_ends_are_not_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        queue = ScriptedQueue(tmp_path)
        queue.seconds = 0.2
        cluster = pool_cluster(tmp_path, queue)
        await started(cluster, 100)
        await until(lambda: len(queue.ads) == 2)
        assert await end_cluster(cluster)
        assert queue.ads == {}
        assert queue.asked.count("submit") < 10

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert "jobs may be left" not in caplog.text


def test_a_removal_that_is_refused_at_the_end_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        queue, cluster = await with_a_job(tmp_path)
        queue.refusals = ["Failed to connect"]
        assert await end_cluster(cluster)
        assert queue.ads == {}

    asyncio.run(run())
    assert "jobs are not removed yet: HTCondor's schedd facility@testbed can't be reached" in caplog.text


def test_a_removal_goes_on_when_the_cluster_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_end, "CLOSE_SECONDS", 0.5)

    async def run() -> None:
        queue, cluster = await with_a_job(tmp_path)
        queue.seconds = 1.0
        assert not await end_cluster(cluster)
        assert queue.ads == {}
        assert queue.asked.count("remove") == 1

    asyncio.run(run())


def test_a_removal_that_never_succeeds_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(htcondor_jobs, "END_SECONDS", 0.5)

    async def run() -> None:
        queue, cluster = await with_a_job(tmp_path)
        queue.refusals = ["no"] * 99
        await end_cluster(cluster)

    asyncio.run(run())
    assert "jobs may be left in the queue" in caplog.text
