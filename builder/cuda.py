"""What CUDA means to a builder: the labels of a base that has it, and the packages that are asked for to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.package_pattern import PackagePattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.asked import AskedPackage

CUDA = "org.casabinder.cuda"
CUDA_DRIVER = "org.casabinder.cuda-driver"

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


def wants_cuda(packages: Iterable[AskedPackage]) -> AskedPackage | None:
    """Return the first package that is asked for to use CUDA; nothing if there is none."""
    return next((package for package in packages if _for_cuda(package)), None)


def _for_cuda(package: AskedPackage) -> bool:
    fits = any(pattern.fits(package) for pattern in _FOR_CUDA)
    return fits and not any(pattern.fits(package) for pattern in _NOT_FOR_CUDA) and not _for_processors(package)


def _for_processors(package: AskedPackage) -> bool:
    """Whether the build that is asked for says that it is for processors alone, as ``torch==2.9.0+cpu`` does."""
    return any(item.version.endswith("+cpu") for item in package.versions)
