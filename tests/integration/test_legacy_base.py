"""The base for coffea 0.7, as a user has it: an analysis of that time, on the workers of a launched server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from launcher import docker
from launcher.container import LaunchOptions
from tests.testbed.launching import base_image, build_repository, engine_answers, kernel_of, open_facility
from tests.testbed.ttbar_reference import reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.record import ImageRecord

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONS = LaunchOptions(workers=1, cpus=1.0, memory="2G")
ON_WORKERS = """
import json, ttbar
from coffea import processor
from dask.distributed import Client
client = Client()
client.wait_for_workers(1, timeout=60)
found = ttbar.run("data", processor.DaskExecutor(client=client, status=False))
"""
VERSIONS = """
import awkward, coffea, numpy, uproot
print(coffea.__version__, *(module.__version__.split(".")[0] for module in (awkward, numpy, uproot)))
"""
BINS = """
print(json.dumps({
    f"{region} {process} {variation}": one[{"process": process, "variation": variation}].view()["value"].tolist()
    for region, one in found.items() for process in one.axes["process"] for variation in one.axes["variation"]
}))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of the example, in the manner of NanoAOD."""
    directory = tmp_path_factory.mktemp("data")
    program = EXAMPLES / "agc-ttbar" / "make_data.py"
    subprocess.run([sys.executable, str(program), str(directory), "--files", "1", "--events", "1500"], check=True)
    return directory


@pytest.fixture(scope="module")
def record(data: Path) -> Iterator[ImageRecord]:
    """The image of the example with its data."""
    example = EXAMPLES / "agc-ttbar-legacy"
    files = {str(path.relative_to(example)): path.read_bytes() for path in sorted(example.rglob("*.*"))}
    files |= {f"data/{path.name}": path.read_bytes() for path in data.iterdir()}
    with open_facility() as context:
        base_image(context, "coffea-legacy-py311")
        yield build_repository(context, "agc-legacy", files)


def test_it_gets_the_base_by_what_it_pins_and_the_base_has_all_of_it(record: ImageRecord) -> None:
    assert record.base.name == "coffea-legacy-py311"
    assert (record.packages["added"], record.packages["replaced"]) == (0, 0)


def test_its_histograms_on_the_workers_are_those_of_the_reference(
    record: ImageRecord, data: Path, tmp_path: Path
) -> None:
    try:
        with kernel_of(docker.launch(record, OPTIONS, tmp_path, print)) as kernel:
            ran = kernel.run(ON_WORKERS, seconds=240)
            assert ran.error == "", ran
            versions = kernel.run(VERSIONS).stdout.strip()
            found = json.loads(kernel.run(BINS).stdout)
    finally:
        docker.stop(tmp_path, None)
    assert versions == "0.7.21 1 1 4"
    expected = reference(data)
    assert found.keys() == expected.keys()
    assert sum(expected["4j2b ttbar nominal"]) > 100_000
    for name, bins in expected.items():
        np.testing.assert_allclose(found[name], bins, rtol=1e-9, err_msg=name)
