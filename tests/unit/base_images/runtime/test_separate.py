from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from casabinder_runtime.errors import PoolError
from casabinder_runtime.pools.local import LocalPool
from casabinder_runtime.pools.pool import SessionContext
from casabinder_runtime.separate import SeparateClusters, Share
from casabinder_runtime.tls import TlsFiles

CONTEXT = SessionContext("e", Path("/etc/env.json"), Path("/srv/repo"), TlsFiles(Path("/run/s")), "127.0.0.1", 1, 2)


@dataclass(frozen=True)
class PublishedPool(LocalPool):
    """A pool whose workers reach the scheduler by one published port."""

    contact: str = "tls://192.0.2.1:30417"


def test_a_second_scheduler_that_workers_could_not_reach_is_refused() -> None:
    separate = SeparateClusters(PublishedPool(), CONTEXT, 0)
    with pytest.raises(PoolError, match="one published port, which is that of its first cluster: use FacilityCluster"):
        asyncio.run(separate.open())


def test_more_workers_than_the_session_may_have_are_refused_before_anything_starts() -> None:
    separate = SeparateClusters(LocalPool(maximum=2), CONTEXT, 0)
    with pytest.raises(PoolError, match="at most 2 workers in all its clusters: 0 are taken, 3 more were asked for"):
        asyncio.run(separate.open(3))


def test_what_others_claim_is_not_left() -> None:
    claimed = [0]
    share = Share(LocalPool(maximum=4), lambda: claimed[0])
    assert (share.maximum, share.kind, share.threads) == (4, "local", 1)
    claimed[0] = 3
    assert share.maximum == 1
    claimed[0] = 5
    assert share.maximum == 0
    assert Share(LocalPool(), lambda: 5).maximum is None
