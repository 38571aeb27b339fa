"""Says in one sentence what is missing where CUDA finds no GPU: an IPython extension for kernels.

The packages import without a GPU, and their first use fails in words of their own: CuPy says that the driver is
insufficient where there is none. The sentence is a note of the exception, so that it is the end of its traceback in any
front end. Exceptions are known by their names and what they say; nothing is imported for them.

``etc/ipython/ipython_config.json`` of this package loads the extension.
"""

from __future__ import annotations

import ctypes
import functools
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DRIVER = "libcuda.so.1"
# Sources: cupy_backends/cuda/api/*.pyx, numba/cuda/cudadrv/driver.py, PyTorch's c10/cuda/CUDAFunctions.cpp.
_KNOWN = {
    "cupy_backends.cuda.api.runtime.CUDARuntimeError": re.compile("cudaError(InsufficientDriver|NoDevice|StubLibrary)"),
    "cupy_backends.cuda.api.driver.CUDADriverError": re.compile("CUDA_ERROR_(NO_DEVICE|STUB_LIBRARY)"),
    "numba.cuda.cudadrv.error.CudaSupportError": re.compile(""),
    "builtins.RuntimeError": re.compile("NVIDIA driver on your system|No CUDA GPUs are available"),  # PyTorch's
}
_TOO_OLD = re.compile(r"cudaErrorInsufficientDriver|on your system is too old")


def load_ipython_extension(shell: Any) -> None:
    """Called by IPython when the kernel starts."""
    show = shell.showtraceback

    @functools.wraps(show)
    def show_with_note(*arguments: Any, **options: Any) -> Any:
        add_note(sys.exc_info()[1])
        return show(*arguments, **options)

    shell.showtraceback = show_with_note


def add_note(error: BaseException | None) -> None:
    """Add to an exception of CUDA that no GPU can be used what this machine lacks; leave all others as they are."""
    found = find_error(error)
    missing = missing_gpu(str(found)) if found is not None else ""
    if error is not None and missing:
        note = (
            f"casabinder: this notebook server has no GPU that CUDA can use, since {missing}: ask whoever runs this "
            "site for servers with GPUs, or compute on Dask workers that have them"
        )
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def find_error(error: BaseException | None) -> BaseException | None:
    """Return what CUDA's packages say of a missing GPU: an exception, or what led to it; nothing if it is not that."""
    return next(filter(_is_known, _chain(error)), None)


def missing_gpu(said: str, load: Callable[[str], Any] = ctypes.CDLL) -> str:
    """Return what this machine lacks for CUDA, as a clause; nothing if all is there.

    ``said`` is what the exception says; ``load`` loads a shared library.
    """
    try:
        driver = load(DRIVER)
    except OSError:
        return f"there is no NVIDIA driver ({DRIVER} is not found)"
    devices, version = ctypes.c_int(), ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(devices))
    if status or not devices.value:
        return f"the NVIDIA driver finds none{f' (CUDA error {status})' if status else ''}"
    if _TOO_OLD.search(said) and not driver.cuDriverGetVersion(ctypes.byref(version)):
        major, minor = version.value // 1000, version.value % 1000 // 10
        return f"the NVIDIA driver supports no newer CUDA than {major}.{minor}"
    return ""


def _is_known(error: BaseException) -> bool:
    kind = type(error)
    pattern = _KNOWN.get(f"{kind.__module__}.{kind.__qualname__}")
    return pattern is not None and pattern.search(str(error)) is not None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
