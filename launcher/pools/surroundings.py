"""Processes that ask an HTCondor pool: the bindings are configured through the environment of theirs, once.

Such a process prints one JSON object as its last line.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from launcher.pools.site_pool import BatchPool

logger = logging.getLogger(__name__)


class ProbeError(CasabinderError):
    """HTCondor could not be asked."""


def ask(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], *, seconds: float, told: str = ""
) -> dict[str, Any]:
    """Run ``python -m MODULE ARGUMENTS``, with ``told`` on its standard input, and return what it prints.

    Raises :class:`subprocess.TimeoutExpired` after so many ``seconds``, :class:`ProbeError` if it prints something
    else.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        input=told,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    logger.debug("%s: %s", module, done.stderr)
    try:
        answer: dict[str, Any] = json.loads((done.stdout.splitlines() or [""])[-1])
    except ValueError as error:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ProbeError(f"HTCondor's bindings failed: {last}") from error
    return answer


@contextmanager
def surroundings(pool: BatchPool, token: str) -> Iterator[dict[str, str]]:
    """Give the environment of a process that talks to the pool with ``token``; nothing else of HTCondor's is in it."""
    with tempfile.TemporaryDirectory(prefix="casabinder-pool-") as directory:
        if token:
            descriptor = os.open(Path(directory) / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as sink:
                sink.write(f"{token}\n")
        settings = {
            "COLLECTOR_HOST": str(pool.site.collector),
            "SEC_CLIENT_AUTHENTICATION": "OPTIONAL",  # who only reads need not say who they are
            "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
            "SEC_CLIENT_ENCRYPTION": "PREFERRED",
            "SEC_CLIENT_INTEGRITY": "PREFERRED",
            "SEC_TOKEN_DIRECTORY": directory,
            "SEC_TOKEN_SYSTEM_DIRECTORY": directory,
            "TRUST_DOMAIN": str(pool.site.trust_domain),
        }
        if pool.site.address.startswith("127."):
            settings |= {"NETWORK_INTERFACE": pool.site.address, "ENABLE_IPV6": "False"}
        others = {name: value for name, value in os.environ.items() if not name.upper().startswith("_CONDOR_")}
        own = {f"_CONDOR_{name}": value for name, value in settings.items()}
        yield {**others, **own, "CONDOR_CONFIG": "ONLY_ENV"}
