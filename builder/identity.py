"""The two names of an image: ``env_id`` for its environment, ``image_id`` for the environment with a git tree in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from builder.layers.layer import RECIPE
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.environment.spec import ContainerSteps
    from builder.layers.layer import Compression
    from builder.locking.pylock import LockedPackage


_READ_THE_TREE = {"post_build", "dockerfile", "install", "project"}


def env_id(
    base_digest: str,
    platform: str,
    packages: Iterable[LockedPackage],
    editables: Iterable[list[str]] = (),
    container: object = None,
    labels: Mapping[str, str] | None = None,
) -> str:
    """Return 16 hex digits over everything that decides the environment, and nothing else.

    ``editables`` are the files (path, digest) of the repository's own projects beside its tree; ``container`` is what a
    container engine runs, as JSON: see :func:`container_inputs`; ``labels`` are those that the image's packages bring.
    """
    document = {
        "base": base_digest,
        "platform": platform,
        "recipe": RECIPE,
        "packages": sorted(package.identity() for package in packages),
        "editables": list(editables),
        **({"container": container} if container else {}),
        **({"labels": dict(labels)} if labels else {}),
    }
    return sha256_digest(canonical_json(document))[7:23]


def container_inputs(steps: ContainerSteps | None, tree_id: str) -> dict[str, object]:
    """Return what decides the outcome of ``steps``, as far as it is known: scripts may read all of the tree."""
    if steps is None:
        return {}
    inputs = {name: value for name, value in asdict(steps).items() if value}
    if steps.apt:
        inputs["apt"] = sorted(set(steps.apt))
    return {**inputs, "tree": tree_id} if inputs.keys() & _READ_THE_TREE else inputs


def image_id(environment: str, tree_id: str, compression: Compression = "gzip") -> str:
    """Return 16 hex digits over the environment, the git tree that is copied into the image, and its compression."""
    document = {"env_id": environment, "tree": tree_id}
    if compression != "gzip":
        document["compression"] = compression
    return sha256_digest(canonical_json(document))[7:23]


def alias_tag(commit: str, options: Mapping[str, object]) -> str:
    """Return the tag that answers "is this commit built, with this base and these options?"."""
    rest = sha256_digest(canonical_json({"recipe": RECIPE, **options}))[7:15]
    return f"git-{commit[:12]}-{rest}"
