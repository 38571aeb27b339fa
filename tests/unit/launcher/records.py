"""An image record to launch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from builder.record import BaseFacts, ImageRecord, LayerFacts
from launcher.site_config import Pool

RECORD = ImageRecord(
    image="127.0.0.1:5000/casabinder/agc-ttbar-0a1b2c:ce8b2e17be0aea65",
    digest=f"sha256:{'d' * 64}",
    env_id="26fca59ae82528b4",
    image_id="ce8b2e17be0aea65",
    repo="https://github.com/team/agc-ttbar.git",
    ref="refs/heads/main",
    commit="2" * 40,
    base=BaseFacts(
        "coffea-py313", "127.0.0.1:5000/casabinder/bases/coffea-py313:current", f"sha256:{'b' * 64}", "3.13"
    ),
    lock_sha256="c" * 64,
    reproducible=True,
    created="2026-01-01T00:00:00Z",
    packages={"from_base": 114, "added": 2, "replaced": 1},
    layers=(LayerFacts(f"sha256:{'1' * 64}", 400, "rootfs", "base"),),
    bytes={"total": 400, "new": 0, "uploaded": 0},
)


def record(**changes: Any) -> ImageRecord:
    """Return the record with some fields changed."""
    return replace(RECORD, **changes)


def htcondor_pool(**more: Any) -> Pool:
    """Return a site's HTCondor pool; nothing of it is there."""
    needed = {"collector": "condor.example.org", "schedd": "facility@pool", "trust_domain": "pool"}
    return Pool.model_validate({"kind": "htcondor", **needed, "signing_key": "/none/POOL", **more})
