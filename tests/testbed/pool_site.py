"""Writes the site.yaml of a facility whose workers are jobs of a pool of the testbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from launcher.site_config import cache_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.testbed.pool import RunningPool


def write_pool_site(
    directory: Path, pool: RunningPool, stated: Mapping[str, object], entries: Mapping[str, object] | None = None
) -> Path:
    """Return a site.yaml in ``directory``: this machine's, with ``pool`` and its signing key beside it.

    ``stated`` are entries of `pool`, ``entries`` of the file itself.
    """
    key = directory / "POOL"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(pool.signing_key.read_bytes())
    own = cache_directory() / "site.yaml"
    site = yaml.safe_load(own.read_text()) or {} if own.exists() else {}
    site |= dict(entries or {})
    site["pool"] = {
        "kind": "htcondor",
        "collector": pool.collector,
        "schedd": pool.schedd,
        "trust_domain": pool.trust_domain,
        "signing_key": "POOL",
        "user": pool.users[0],
        **stated,
    }
    file = directory / "site.yaml"
    file.write_text(yaml.safe_dump(site))
    return file
