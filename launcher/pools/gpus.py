"""Decides how many GPUs a notebook server and each worker ask for, and how new the workers' driver must be.

A base that was made for GPUs says so with labels, which all images on top of it have::

    org.casabinder.cuda          12.6    the version of CUDA that its packages were built for
    org.casabinder.cuda-driver   12.0    the least that the driver must support, where that is less: minor versions
                                         of CUDA are compatible with each other
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from builder.cuda import CUDA, CUDA_DRIVER
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION = re.compile(r"\d{1,2}\.\d{1,2}")


def wanted_gpus(asked: int | None, most: int, labels: Mapping[str, str]) -> tuple[int, str]:
    """Return GPUs per worker and the least version of CUDA that their driver must support (empty: any).

    ``asked`` is what the launch says; ``None``: one if the image is for GPUs and the site has any. ``most`` is the
    site's limit. Raises :class:`CasabinderError` for more, or a label that is no version.
    """
    least = labels.get(CUDA_DRIVER) or labels.get(CUDA, "")
    if least and not _VERSION.fullmatch(least):
        name = CUDA_DRIVER if labels.get(CUDA_DRIVER) else CUDA
        raise CasabinderError(f"the image's label {name} must be a version of CUDA such as 12.4, not {least!r}")
    gpus = asked if asked is not None else min(1, most) if least else 0
    if gpus > most:
        allowed = f"at most {most} for a worker" if most else "none for workers"
        raise CasabinderError(f"--gpus {gpus} is not possible here: this site has {allowed} (pool.gpus)")
    return gpus, least if gpus else ""


def server_gpus(most: int, labels: Mapping[str, str]) -> int:
    """Return the GPUs of a notebook server: as many as the site gives (``most``) if the image is for CUDA."""
    return most if labels.get(CUDA) else 0
