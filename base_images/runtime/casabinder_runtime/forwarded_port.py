"""Where a worker is reached whose container has a network of its own: the node's address, and the port forwarded to it.

Docker chooses the node's port when the container starts, so nobody can say it in the job's description. HTCondor's
starter asks Docker two seconds later, and every five seconds until it knows, and appends ``dask_HostPort = 49153`` to
the file that ``_CONDOR_JOB_AD`` names (src/condor_starter.V6.1/docker_proc.cpp, getStats). It never knows of an image
that exposes a port which is not forwarded (src/condor_utils/docker-api.cpp, getServicePorts).

It tells the queue as well (PublishUpdateAd), and takes that back when the container ends, unless its shadow or its node
was lost before: then the file begins with the port of that run. So the attribute is there from the beginning, in the
job's description (``UNKNOWN``), and the file's first line of it is never this run's:

    dask_HostPort = undefined           or 49153, of a run that was lost
    dask_HostPort = 49200               appended

The node's address is in ``_CONDOR_MACHINE_AD``: ``MyAddress = "<192.0.2.5:9618?addrs=192.0.2.5-9618&...>"``.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from casabinder_runtime.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SERVICE = "dask"  # of ``container_service_names``
UNKNOWN = {f"MY.{SERVICE}_HostPort": "undefined"}  # for the job's description
UNREACHABLE = 79  # the exit status of a worker that is not told
WAIT_SECONDS = 60.0
_PAUSE = 0.2
_HOST_PORT = re.compile(rf"^{SERVICE}_HostPort *= *(.*?) *\n", re.MULTILINE | re.IGNORECASE)
# Of the startd, and as older versions call it. An address of version 6 is in brackets.
_ADDRESS = re.compile(r'^(?:MyAddress|StartdIpAddr) *= *"<(\[[0-9a-fA-F:.]+\]|[^:?>\[]+):\d+', re.MULTILINE)


class ForwardingError(PoolError):
    """HTCondor does not say where this worker is reached."""


def forwarded_port(job_ad: str) -> int | None:
    """Return the node's port that leads to the worker, as soon as it is appended to the job's ad; the last word counts.

    The ad begins with what the queue knows of earlier runs.
    """
    appended = _HOST_PORT.findall(job_ad)[1:]
    return int(appended[-1]) if appended and appended[-1].isdecimal() else None


def node_address(machine_ad: str) -> str | None:
    """Return the node's address in its ad, one of version 6 in brackets."""
    found = _ADDRESS.search(machine_ad)
    return found[1] if found else None


def contact_address(
    environment: Mapping[str, str],
    *,
    seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Return ``tls://HOST:PORT``, where this job's worker is reached from outside its container.

    Raises:
        ForwardingError: there is no such file, the machine's has no address, or no port is told in ``seconds``.
    """
    host = node_address(_read(environment, "_CONDOR_MACHINE_AD"))
    if host is None:
        raise ForwardingError("HTCondor's _CONDOR_MACHINE_AD does not say the address of this node")
    deadline = clock() + seconds
    while (port := forwarded_port(_read(environment, "_CONDOR_JOB_AD"))) is None:
        if clock() >= deadline:
            raise ForwardingError(
                f"HTCondor has not said within {seconds:.0f} s which port of this node leads to the worker"
            )
        sleep(_PAUSE)
    return f"tls://{host}:{port}"


def _read(environment: Mapping[str, str], name: str) -> str:
    try:
        return Path(environment[name]).read_text(encoding="utf-8", errors="replace")
    except KeyError as error:
        raise ForwardingError(f"{name} is not set: this is no job of HTCondor's") from error
    except OSError as error:
        raise ForwardingError(f"HTCondor's {name} can't be read: {error.strerror}") from error
