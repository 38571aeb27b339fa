"""Decides where a pool's nodes take a session's image from, and whether it is there already.

::

    site.yaml `pool.images` + name ──▶ place() ──▶ /cvmfs/unpacked.example.org/{name}, /shared/sif/{image_id}.sif, ...
                                          │ a path of which this machine sees the beginning
                                          ▼
                                 look() ──▶ Sighting ──▶ decide() ──▶ Placement, or nothing: look again

The docker universe has one source, the registry. In the container universe ``pool.images`` is a pattern. Directories
and SIF files get there by somebody else, some time after the image was pushed (CVMFS: within the hour, and weeks have
been seen), so a launch looks before it offers workers. What this machine can't see it can't know: the job is described
as if the image were there, and the guard in every worker refuses a wrong one.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.record import ImageRecord
    from launcher.site_config import Pool

Universe = Literal["docker", "container"]
FROM_REGISTRY = "docker://{name}"
IDENTITY = Path("etc/casabinder/env.json")
LOOK_SECONDS = 5.0
_BLANK = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class SessionImage:
    """An image as nodes may look for it: ``name`` is ``HOST/PATH:TAG``, ``env_id`` what it must hold."""

    name: str
    env_id: str

    @classmethod
    def of(cls, record: ImageRecord) -> SessionImage:
        """Return the image of a build."""
        return cls(record.image, record.env_id)


@dataclass(frozen=True)
class Placement:
    """In which universe a session's workers run, and what their image is called there; ``sentence`` says why so."""

    universe: Universe
    image: str
    sentence: str = ""


@dataclass(frozen=True)
class Sighting:
    """What this machine sees of a path: whether it could see it at all, what is there, and in which environment.

    ``resolved`` is the path with its links followed; ``env_id`` is what a directory says of itself, empty if nothing.
    """

    visible: bool
    kind: Literal["absent", "directory", "file"] = "absent"
    resolved: str = ""
    env_id: str = ""


def place(pattern: str, name: str) -> str:
    """Return a pattern of ``pool.images`` for one image by its name, whose tag is its ``image_id``."""
    values = {"{name}": name, "{image_id}": name.rpartition(":")[2]}
    return _BLANK.sub(lambda match: values[match[0]], pattern)


def root_of(pattern: str) -> Path | None:
    """Return the directory that holds all images of a pattern, if they are paths."""
    return Path(pattern.partition("{")[0].rpartition("/")[0] or "/") if pattern.startswith("/") else None


def check_pattern(pattern: str) -> None:
    """Raise :class:`ValueError`, saying what to do, for a pattern that HTCondor or Apptainer would misunderstand."""
    unknown = set(_BLANK.findall(pattern)) - {"{name}", "{image_id}"}
    if unknown:
        raise ValueError(f"images can't have {', '.join(sorted(unknown))}: there are {{name}} and {{image_id}}")
    if not _BLANK.search(pattern):
        raise ValueError("images needs {name} or {image_id}, or all sessions would have one image")
    if pattern.startswith("oras://"):
        raise ValueError(
            "images can't be oras://, which HTCondor takes for a directory: pull the SIF files to a path of the nodes, "
            "or name them by osdf:// or https://"
        )
    scheme = re.match(r"[a-z]+://", pattern)
    if scheme and scheme[0] not in ("docker://", "https://", "osdf://", "pelican://"):
        raise ValueError(f"images can't be {scheme[0]}: take a path, docker://, osdf://, pelican:// or https://")
    if not scheme and not pattern.startswith("/"):
        raise ValueError("images must be an absolute path, or begin with docker://, osdf://, pelican:// or https://")
    if scheme and scheme[0] != "docker://" and not pattern.endswith(".sif"):
        raise ValueError("images that are fetched must end in .sif, or HTCondor takes them for directories")


def decide(pool: Pool, image: SessionImage, sighting: Sighting, waited: float) -> Placement | None:
    """Return where the nodes take an image from, or ``None`` to look again; ``waited`` are the seconds so far.

    Raises :class:`CasabinderError` for an image that is not there in time, or another one in its place.
    """
    path = place(pool.images, image.name)
    if not sighting.visible:
        return Placement("container", path)
    if sighting.kind == "directory" and sighting.env_id and sighting.env_id != image.env_id:
        raise CasabinderError(
            f"{path} holds the environment {sighting.env_id}, and this session's is {image.env_id}: "
            "whoever unpacks images there must do it again"
        )
    if sighting.kind == "file" or sighting.env_id:
        return Placement("container", sighting.resolved or path)
    if waited < pool.images_seconds:
        return None
    late = f" after {pool.images_seconds} s" if pool.images_seconds else ""
    if pool.images_fallback == "docker":
        sentence = f"{path} is not there{late}, so workers are started with Docker from the registry"
        return Placement("docker", image.name, sentence)
    raise CasabinderError(
        f"{path} is not there{late}: launch again once the image has been unpacked, or take --pool local"
    )


def look(path: str, root: Path) -> Sighting:
    """Look for an image's path below ``root``.

    Links are followed once, so that an image that is unpacked anew does not move under a session that runs; not out of
    ``root``, since what lies outside may be elsewhere on the nodes.
    """
    if not root.is_dir():
        return Sighting(visible=False)
    there = Path(path)
    resolved = Path(os.path.realpath(there))
    inside = os.path.relpath(resolved, os.path.realpath(root))
    kept = str(there) if inside.startswith("..") else str(root / inside)
    if there.is_file():
        return Sighting(True, "file", kept)
    if not there.is_dir():
        return Sighting(True)
    try:
        env_id = str(json.loads((resolved / IDENTITY).read_bytes())["env_id"])
    except (OSError, ValueError, KeyError, TypeError):
        env_id = ""  # it is being unpacked
    return Sighting(True, "directory", kept, env_id)


def find_placement(
    pool: Pool,
    image: SessionImage,
    say: Callable[[str], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Placement:
    """Return where the nodes take an image from, once it is there; ``say`` is told what is waited for, and why not.

    Raises :class:`CasabinderError` for an image that is not there in time, or another one in its place.
    """
    if pool.universe == "docker":
        return Placement("docker", image.name)
    path, root = place(pool.images, image.name), root_of(pool.images)
    begun, told = clock(), False
    while True:
        sighting = look(path, root) if root else Sighting(visible=False)
        found = decide(pool, image, sighting, clock() - begun)
        if found is not None:
            if found.sentence:
                say(found.sentence)
            return found
        if not told:
            say(f"{path} is not there yet: it is waited for up to {pool.images_seconds} s")
            told = True
        sleep(LOOK_SECONDS)
