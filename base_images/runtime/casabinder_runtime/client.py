"""What makes ``Client()`` in a kernel just work: Dask's two hooks for clients.

``security`` is the security loader (``distributed.client.security-loader``): it gives the session's certificates to
clients of the session's scheduler, under any of its names, and to no others. TLS is not switched on in Dask's global
configuration, which would make ``LocalCluster()`` impossible (coffea-casa#429).

``dask_setup`` is a client preload (``distributed.client.preload``): it shows in the notebook what scheduler and workers
have to say, also what they said shortly before the client connected, and lets the kernel read data with a new token
when the workers do.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from casabinder_runtime.cluster import client_security
from casabinder_runtime.data_access import PUSHED_TOPIC
from casabinder_runtime.errors import SessionError
from casabinder_runtime.notices import TOPIC
from casabinder_runtime.session_directory import find_session_directory, read_records, same_endpoint, wait_for_record
from casabinder_runtime.xrootd_connections import connect_anew

if TYPE_CHECKING:
    from distributed import Client, Security

RECENT_SECONDS = 600.0

_shown: set[str] = set()  # ids of notices; a kernel may have several clients


def security(info: dict[str, str]) -> Security | None:
    """Return the client's credentials for the scheduler at ``info["address"]``, if it is the session's.

    Raises:
        SessionError: the session failed to start, so there is nothing to connect to.
    """
    address = info["address"]
    if not address.startswith("tls://"):
        return None
    directory = find_session_directory()
    wait_for_record(directory)
    mine = (record for record in read_records(directory) if same_endpoint(address, record.address))
    return next(map(client_security, mine), None)


async def dask_setup(client: Client) -> None:
    """Called by Dask when a client has connected."""
    if not _is_of_the_session(client.scheduler.address):
        return
    client.subscribe_topic(TOPIC, _show)
    client.subscribe_topic(PUSHED_TOPIC, lambda event: connect_anew(event[1]["serial"]))
    for event in await client.scheduler.events(topic=TOPIC):
        if event[0] > time.time() - RECENT_SECONDS:
            _show(event)


def _is_of_the_session(address: str) -> bool:
    try:
        records = read_records(find_session_directory())
    except SessionError:
        return False
    return any(same_endpoint(address, record.address) for record in records)


def _show(event: tuple[float, dict[str, Any]]) -> None:
    """Write a notice to stderr, which a notebook shows in red below the cell."""
    notice = event[1]
    if notice["id"] not in _shown:
        _shown.add(notice["id"])
        sys.stderr.write(f"casabinder: {notice['message']}\n")
        sys.stderr.flush()
