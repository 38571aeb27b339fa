"""The two names of an image: ``env_id`` for its environment, ``image_id`` for the environment with a git tree in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.layers.layer import RECIPE
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.pylock import LockedPackage


def env_id(base_digest: str, platform: str, packages: Iterable[LockedPackage], import_paths: Iterable[str] = ()) -> str:
    """Return 16 hex digits over everything that decides the environment, and nothing else."""
    document = {
        "base": base_digest,
        "platform": platform,
        "recipe": RECIPE,
        "packages": sorted(package.identity() for package in packages),
        "import_paths": list(import_paths),
    }
    return sha256_digest(canonical_json(document))[7:23]


def image_id(environment: str, tree_id: str) -> str:
    """Return 16 hex digits over the environment and the git tree that is copied into the image."""
    return sha256_digest(canonical_json({"env_id": environment, "tree": tree_id}))[7:23]


def alias_tag(commit: str, options: Mapping[str, object]) -> str:
    """Return the tag that answers "is this commit built, with this base and these options?"."""
    rest = sha256_digest(canonical_json({"recipe": RECIPE, **options}))[7:15]
    return f"git-{commit[:12]}-{rest}"
