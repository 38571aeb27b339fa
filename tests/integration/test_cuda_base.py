"""The CUDA base: all layers of the CPU base and its own on top. Nothing here has a GPU."""

from __future__ import annotations

import json
import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from base_images.assemble import build_base
from base_images.definition import load_definition
from base_images.identity import base_repository
from builder.attachments.inspection import inspect
from builder.attachments.location import locate
from builder.base import load_base
from builder.build import build
from builder.container.engine import docker, docker_bytes
from builder.facility import BaseChoice, BaseOffer, Bases
from builder.rebase import rebase
from builder.repository.spec import RepoSpec
from builder.verify import verify
from launcher.pools.gpus import wanted_gpus
from tests.integration.conftest import PREFIX
from tests.testbed.git_repository import commit_files
from tests.testbed.launching import engine_has_gpus
from tests.testbed.registry import registry_is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from base_images.assemble import BaseRecord
    from base_images.identity import Workshop
    from builder.facility import Facility
    from builder.record import ImageRecord

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]

NAME = "coffea-cuda-py313"
PROGRAM = """
import cupy, awkward, coffea.nanoevents, numba.cuda, nvidia.cublas, nvidia.curand
from cuda import pathfinder
for library in ("nvrtc", "nvJitLink", "nvvm", "cudart", "cublas", "curand"):
    print(library, pathfinder.load_nvidia_dynamic_lib(library).abs_path)
assert cupy.cuda.runtime.runtimeGetVersion() == 12090
assert awkward.sum(awkward.Array([[1, 2], [], [3]]), axis=1).tolist() == [3, 0, 3]
for first_use in (lambda: cupy.zeros(3), lambda: awkward.to_backend([1], "cuda"), lambda: numba.cuda.device_array(3)):
    try:
        first_use()
    except Exception as error:
        print(*str(error).split())
    else:
        raise SystemExit("there is a GPU")
"""

# Runs cells in a kernel of the image, and prints the traceback of each, or what it printed.
KERNEL = r"""
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3")
for cell in CELLS:
    client.execute(cell)
    while True:
        message = client.get_iopub_msg(timeout=120)
        kind, content = message["msg_type"], message["content"]
        if kind == "error":
            print("\n".join(content["traceback"]))
        elif kind == "stream" and content["name"] == "stdout":
            print(content["text"])
        elif kind == "status" and content["execution_state"] == "idle":
            break
    print("=" * 9)
manager.shutdown_kernel(now=True)
"""
CELLS = (
    "import awkward, coffea, cupy, numba.cuda; print(cupy.is_available())",
    "cupy.arange(3)",
    "numba.cuda.device_array(3)",
    "awkward.to_backend(awkward.Array([[1, 2], [3]]), 'cuda')",
    "1 / 0",
)
SENTENCE = (
    "casabinder: this notebook server has no GPU that CUDA can use, since there is no NVIDIA driver (libcuda.so.1 is "
    "not found): ask whoever runs this site for servers with GPUs, or compute on Dask workers that have them"
)


@pytest.fixture(scope="module")
def cuda_record(base_record: BaseRecord, facility: Facility, workshop: Workshop) -> BaseRecord:
    """The CUDA base, in the facility's registry."""
    assert base_record.digest
    return build_base(load_definition(NAME), workshop, facility.store, facility.registry, PREFIX)


@pytest.fixture(scope="module")
def choice(cuda_record: BaseRecord, facility: Facility) -> BaseChoice:
    return BaseChoice(facility.registry, base_repository(PREFIX, NAME), cuda_record.identity)


@pytest.fixture(scope="module")
def record(
    choice: BaseChoice, real_base: BaseChoice, facility: Facility, tmp_path_factory: pytest.TempPathFactory
) -> ImageRecord:
    """A repository that gets the CUDA base by asking for CuPy, and replaces one package."""
    repository = tmp_path_factory.mktemp("repository") / "gpu"
    commit_files(repository, {"requirements.txt": "mplhep==0.4.1\ncupy-cuda12x\n"})
    bases = Bases((BaseOffer("coffea-py313", "3.13", real_base), BaseOffer(NAME, "3.13", choice, cuda="12.9")))
    return build(RepoSpec(str(repository)), bases, facility)


@pytest.fixture(scope="module")
def image(record: ImageRecord) -> Iterator[str]:
    """The repository's image, which the engine has."""
    name = f"{record.image.rpartition(':')[0]}@{record.digest}"
    docker_bytes("pull", "--quiet", name, seconds=600)
    yield name
    docker("rmi", "--force", name)


def test_it_shares_every_layer_of_the_cpu_base(
    cuda_record: BaseRecord, base_record: BaseRecord, facility: Facility, tmp_path: Path
) -> None:
    below = load_base(facility.store, facility.registry, base_repository(PREFIX, base_record.name), "current", tmp_path)
    base = load_base(facility.store, facility.registry, base_repository(PREFIX, NAME), "current", tmp_path)
    count = len(below.manifest.layers)
    assert base.digest == cuda_record.digest
    assert base.manifest.layers[:count] == below.manifest.layers
    own = base.manifest.layers[count:]
    sizes = [sum(layer.size for layer in layers) for layers in (below.manifest.layers, own)]
    sys.stdout.write(f"shared: {count} layers, {sizes[0]} bytes; own: {len(own)} layers, {sizes[1]} bytes\n")
    assert len(own) <= 16
    assert sizes[1] < 1_100_000_000
    added = set(base.inventory.analysis.by_name) - set(below.inventory.analysis.by_name)
    assert {"cupy-cuda12x", "numba-cuda", "nvidia-cuda-nvrtc-cu12"} <= added
    assert not [name for name in added if "driver" in name]


def test_an_image_on_it_is_verified_inspected_and_rebased(
    record: ImageRecord, choice: BaseChoice, real_base: BaseChoice, facility: Facility, tmp_path: Path
) -> None:
    assert record.packages["replaced"] == 1
    found = verify(record.image, facility, tmp_path / "verify")
    assert (found.made, found.faults) == (record.digest, ())
    with locate(record.image, facility) as location:
        stated = inspect(location, tmp_path / "inspect").contents
    assert stated.base_name == NAME
    assert {"cupy-cuda12x", "mplhep"} <= {one.name for one in stated.components}
    repository = tmp_path / "cpu"
    commit_files(repository, {"requirements.txt": "mplhep==0.4.1\n", "on": "cpu"})
    before = build(RepoSpec(str(repository)), Bases.only(real_base), facility)
    moved = rebase(before.image, choice, facility)
    assert (moved.base.name, moved.env_id) == (NAME, record.env_id), "as if it had been built there"


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs Docker")
def test_without_a_gpu_everything_can_be_imported(image: str) -> None:
    lines = docker_bytes("run", "--rm", "--network=none", image, "python", "-c", PROGRAM, seconds=600).decode()
    sys.stdout.write(lines)
    libraries, said = lines.splitlines()[:6], lines.splitlines()[6:]
    assert all("/srv/env/lib/python3.13/site-packages/nvidia/" in line for line in libraries)
    assert [line for line in said if "driver" in line] == said
    assert len(said) == 3
    assert docker("run", "--rm", image, "pip", "check").strip() == "No broken requirements found."
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image))
    assert labels["org.casabinder.cuda"] == "12.9"
    assert wanted_gpus(None, 1, labels) == (1, "12.0")


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs Docker")
@pytest.mark.skipif(engine_has_gpus(), reason="Docker can give containers GPUs here")
def test_the_first_use_in_a_notebook_says_what_is_missing(image: str) -> None:
    program = f"CELLS = {CELLS!r}\n{KERNEL}"
    said = docker("run", "--rm", "--network=none", image, "/srv/env/bin/python", "-c", program)
    imported, *uses, other = [re.sub(r"\x1b\[[0-9;]*m", "", part).strip() for part in said.split("=" * 9)[: len(CELLS)]]
    assert imported == "False"
    assert ["CUDARuntimeError" in uses[0], "CudaSupportError" in uses[1], "CUDARuntimeError" in uses[2]] == [True] * 3
    for use in uses:
        assert use.count("casabinder") == 1
        assert use.endswith(SENTENCE)
    assert "ZeroDivisionError" in other
    assert "casabinder" not in other
