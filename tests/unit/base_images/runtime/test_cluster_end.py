from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from casabinder_runtime import cluster_end, server_extension, session
from casabinder_runtime.cluster_end import end_cluster
from casabinder_runtime.pools import htcondor_jobs
from distributed import Scheduler, SpecCluster
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from launcher.container import STOP_SECONDS

if TYPE_CHECKING:
    import pytest


class Hanging(ProcessInterface):  # type: ignore[misc]  # distributed is untyped
    """A worker that never has done with closing."""

    async def close(self) -> None:
        """Wait for what never comes."""
        await asyncio.Event().wait()


class Broken(ProcessInterface):  # type: ignore[misc]  # distributed is untyped
    """A worker whose process is not seen to end."""

    async def close(self) -> None:
        """Fail as ``Nanny.close`` does."""
        raise TimeoutError("not joined")


def ended(worker: type[ProcessInterface]) -> tuple[bool, Status]:
    """End a cluster with one worker; return what was said of it, and how the scheduler is then."""
    options = {"protocol": "inproc", "dashboard_address": "127.0.0.1:0"}
    scheduler: dict[str, Any] = {"cls": Scheduler, "options": options}

    async def run() -> tuple[bool, Status]:
        cluster = SpecCluster({0: {"cls": worker}}, scheduler, asynchronous=True)
        await cluster
        return await end_cluster(cluster), cluster.scheduler.status

    return asyncio.run(run())


def test_a_worker_that_hangs_is_not_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_end, "CLOSE_SECONDS", 0.5)
    assert ended(Hanging) == (False, Status.closed)
    assert "is not closed after 0.5 s" in caplog.text
    assert "Hanging.close (test_cluster_end.py:" in caplog.text


def test_a_worker_that_fails_to_close_does_not_keep_the_rest_from_closing(caplog: pytest.LogCaptureFixture) -> None:
    assert ended(Broken) == (False, Status.closed)
    assert "TimeoutError: not joined" in caplog.text


def test_a_cluster_that_closes_is_not_talked_about(caplog: pytest.LogCaptureFixture) -> None:
    assert ended(ProcessInterface) == (True, Status.closed)
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


def test_who_waits_for_another_waits_longer() -> None:
    cluster = cluster_end.CLOSE_SECONDS + cluster_end.LEFT_SECONDS
    assert cluster < session.GIVE_UP_SECONDS < server_extension.STOP_SECONDS < STOP_SECONDS
    assert cluster_end.CLOSE_SECONDS < htcondor_jobs.END_SECONDS < cluster
