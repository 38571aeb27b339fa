"""The environment of a process that asks an HTCondor pool: the bindings are configured through it, once."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launcher.pools.site_pool import BatchPool


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
