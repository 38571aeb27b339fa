"""Who am I: reads the identity that was baked into this image, ``/etc/casabinder/env.json``.

Notebook, scheduler and workers compare the ``env_id`` found here. It is the only identity visible from inside Docker,
Apptainer and an unpacked directory alike; a manifest digest is not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from casabinder_runtime.errors import IdentityError

IDENTITY_FILE = Path("/etc/casabinder/env.json")


@dataclass(frozen=True)
class Base:
    """The facility image this one was layered on."""

    name: str
    digest: str


@dataclass(frozen=True)
class Identity:
    """The contents of ``env.json``; see the contracts in the design."""

    env_id: str
    image_id: str
    tree: str
    base: Base
    python: str
    lock_sha256: str
    platform: str
    recipe: int


def read_identity(path: Path = IDENTITY_FILE) -> Identity:
    """Return the identity of this image.

    Fields that this version does not know are ignored, so that a newer builder can add some.

    Raises:
        IdentityError: the file is missing, is not JSON, or lacks a field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise IdentityError(f"{path} does not exist: this is not an image made by casabinder build") from error
    except OSError as error:
        raise IdentityError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _parse(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise IdentityError(f"{path} is damaged ({error}): rebuild the image") from error


def _parse(document: dict[str, Any]) -> Identity:
    missing = [field.name for field in fields(Identity) if field.name not in document]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")
    known = {field.name: document[field.name] for field in fields(Identity) if field.name != "base"}
    return Identity(**known, base=Base(name=document["base"]["name"], digest=document["base"]["digest"]))
