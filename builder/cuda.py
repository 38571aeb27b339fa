"""What CUDA means to a builder: the labels of a base that has it, and the packages that are asked for to use it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.version import Version

from builder.package_pattern import PackagePattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.asked import AskedPackage
    from builder.locking.pylock import LockedPackage

CUDA = "org.casabinder.cuda"
CUDA_DRIVER = "org.casabinder.cuda-driver"

_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
_MAJOR = re.compile(r"\bcu(?:da)?(\d\d)")  # of jax-cuda12-plugin, cupy-cuda12x, cudf-cu12
# The index's torch for Linux is the build for CUDA. jax and tensorflow are for processors unless an extra is asked for.
_FOR_CUDA = tuple(
    map(
        PackagePattern.parse,
        (
            "cupy",
            "cupy-cuda*",
            "numba-cuda",
            "dask-cuda",
            "cuda-toolkit",
            "torch",
            "jax[cuda*]",
            "jax-cuda*",
            "tensorflow[and-cuda]",
            "nvidia-*",
            "*-cu11",
            "*-cu12",
            "*-cu13",
        ),
    )
)
# xgboost requires NCCL on every Linux; NVML tells of GPUs and computes nothing.
_NOT_FOR_CUDA = tuple(map(PackagePattern.parse, ("nvidia-nccl-*", "nvidia-ml-py*")))


def for_cuda(packages: Iterable[AskedPackage]) -> list[AskedPackage]:
    """Return the packages that are asked for to use CUDA."""
    return [package for package in packages if _for_cuda(package)]


def serves(version: str, package: AskedPackage) -> bool:
    """Whether a base with ``version`` of CUDA (empty: none) is for a package.

    One for another major version needs another driver, and CuPy's can't be there twice.
    """
    named = _MAJOR.search(" ".join([package.name, *sorted(package.extras)]))
    return bool(version) and (named is None or named[1] == version.partition(".")[0])


def runtime_labels(layered: Iterable[LockedPackage]) -> dict[str, str]:
    """Return the labels of an image whose own packages bring CUDA's runtime, as PyTorch does; nothing without it.

    It runs with a driver of any minor version of the same CUDA (docs.nvidia.com/deploy/cuda-compatibility).
    """
    versions = [Version(package.version).release for package in layered if _RUNTIME.fullmatch(package.name)]
    if not versions:
        return {}
    major, minor, *_ = (*max(versions), 0)
    return {CUDA: f"{major}.{minor}", CUDA_DRIVER: f"{major}.0"}


def _for_cuda(package: AskedPackage) -> bool:
    fits = any(pattern.fits(package) for pattern in _FOR_CUDA)
    return fits and not any(pattern.fits(package) for pattern in _NOT_FOR_CUDA) and not _for_processors(package)


def _for_processors(package: AskedPackage) -> bool:
    """Whether the build that is asked for says that it is for processors alone, as ``torch==2.9.0+cpu`` does."""
    return any(item.version.endswith("+cpu") for item in package.versions)
