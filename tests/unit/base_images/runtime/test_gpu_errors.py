"""What is said where CUDA finds no GPU. The exceptions' names and words are those of CuPy 14.2, Numba 0.68 and CUDA."""

from __future__ import annotations

import asyncio
import ctypes
from types import SimpleNamespace
from typing import Any

import pytest
from casabinder_runtime.gpu_errors import add_note, find_error, missing_gpu
from casabinder_runtime.gpu_watch import GpuWatch
from casabinder_runtime.notices import TOPIC
from distributed import Client, Scheduler, Worker

INSUFFICIENT = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"


def raised(name: str, said: str) -> BaseException:
    """An exception of a package that is not here."""
    module, _, kind = name.rpartition(".")
    exception = type(kind, (RuntimeError,), {"__module__": module})(said)
    assert isinstance(exception, BaseException)
    return exception


CUPY = raised("cupy_backends.cuda.api.runtime.CUDARuntimeError", INSUFFICIENT)
NUMBA = raised("numba.cuda.cudadrv.error.CudaSupportError", "Error at driver init: \n\nCUDA driver library ...")
TORCH = RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU")


def driver(status: int = 0, devices: int = 1, version: int = 12040) -> Any:
    """Return a function that loads NVIDIA's driver as it answers on some machine; ``version`` as 11080 for 11.8."""

    def fill(value: int) -> Any:
        def call(place: Any) -> int:
            place._obj.value = value
            return 0

        return call

    calls = {"cuInit": lambda _: status, "cuDeviceGetCount": fill(devices), "cuDriverGetVersion": fill(version)}
    return lambda _: SimpleNamespace(**calls)


def nothing(name: str) -> Any:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("error", [CUPY, NUMBA, TORCH])
def test_what_cudas_packages_say_is_known(error: BaseException) -> None:
    assert find_error(error) is error
    wrapped = ValueError("of somebody else")
    wrapped.__cause__ = error
    assert find_error(wrapped) is error


@pytest.mark.parametrize(
    "error",
    [
        None,
        RuntimeError("something else"),
        raised("cupy_backends.cuda.api.runtime.CUDARuntimeError", "cudaErrorMemoryAllocation: out of memory"),
        raised("mine.CUDARuntimeError", INSUFFICIENT),
    ],
)
def test_other_exceptions_stay_as_they_are(error: BaseException | None) -> None:
    assert find_error(error) is None
    add_note(error)
    assert not getattr(error, "__notes__", None)


@pytest.mark.parametrize(
    ("load", "said", "missing"),
    [
        (nothing, INSUFFICIENT, "there is no NVIDIA driver (libcuda.so.1 is not found)"),
        (driver(status=100), INSUFFICIENT, "the NVIDIA driver finds none (CUDA error 100)"),
        (driver(devices=0), INSUFFICIENT, "the NVIDIA driver finds none"),
        (driver(version=11080), INSUFFICIENT, "the NVIDIA driver supports no newer CUDA than 11.8"),
        (driver(), str(NUMBA), ""),
    ],
)
def test_what_a_machine_lacks(load: Any, said: str, missing: str) -> None:
    assert missing_gpu(said, load) == missing


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="there is an NVIDIA driver here")
def test_the_note_is_one_and_says_what_to_do() -> None:
    error = RuntimeError("No CUDA GPUs are available")
    add_note(error)
    add_note(error)
    assert error.__notes__ == [
        "casabinder: this notebook server has no GPU that CUDA can use, since there is no NVIDIA driver (libcuda.so.1 "
        "is not found): ask whoever runs this site for servers with GPUs, or compute on Dask workers that have them"
    ]


@pytest.mark.skipif(has_driver(), reason="there is an NVIDIA driver here")
def test_a_worker_says_once_that_its_tasks_find_no_gpu() -> None:
    def fail(words: str) -> None:
        raise RuntimeError(words)

    async def go() -> list[dict[str, str]]:
        here: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "dashboard": False}
        async with (
            Scheduler(**here, dashboard_address=":0") as scheduler,
            Worker(scheduler.address, name="w-1", **here) as worker,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            await worker.plugin_add(GpuWatch(), name="gpu-watch")
            for words in ("other words", "No CUDA GPUs are available", "No CUDA GPUs are available again"):
                with pytest.raises(RuntimeError, match=words):
                    await client.submit(fail, words)
            return [event for _, event in await client.get_events(TOPIC)]

    (event,) = asyncio.run(go())
    assert event["kind"] == "no-gpu"
    assert event["message"].startswith("Dask worker w-1 on ")
    assert "has no GPU that CUDA can use, since there is no NVIDIA driver (libcuda.so.1 is not" in event["message"]
