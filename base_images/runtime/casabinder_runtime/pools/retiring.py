"""Has workers hand over their results to those that stay, before they end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

RETIRE_SECONDS = 20.0  # to hand over results


async def retire(scheduler: Any, names: Collection[Any]) -> None:
    """Retire workers together, so that none hands its results to another of them; afterwards none has joined any more.

    Those that nobody can take results from, or that hang, are removed with what they hold.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RETIRE_SECONDS):
            await scheduler.retire_workers(names=list(names), close_workers=True, remove=True)
    for address in [address for address, worker in scheduler.workers.items() if worker.name in names]:
        await scheduler.remove_worker(address, expected=True, stimulus_id=f"leave-{time.time()}")
