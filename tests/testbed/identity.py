"""Identity files, as the builder bakes them into an image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ENV_ID = "5ca1ab1e5ca1ab1e"
OTHER_ENV_ID = "0ddba110ddba1100"


def write_identity(path: Path, env_id: str = ENV_ID) -> Path:
    """Write an ``env.json`` and return its path."""
    document = {
        "env_id": env_id,
        "image_id": "1" * 16,
        "tree": "2" * 40,
        "base": {"name": "coffea-py313", "digest": "sha256:" + "3" * 64},
        "python": "3.13.5",
        "lock_sha256": "4" * 64,
        "platform": "linux/amd64",
        "recipe": 1,
    }
    path.write_text(json.dumps(document))
    return path
