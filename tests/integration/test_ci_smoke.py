"""The smoke test of ``casabinder ci`` in real containers, and an image that is in no registry brought to the engine."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from builder.container.engine import docker
from builder.container.step import LABEL
from launcher.ci.run import CiOptions, run_ci
from launcher.ci.smoke_container import StoredImage, in_engine
from launcher.ci.surroundings import Surroundings
from launcher.context import Context
from launcher.site_config import Site
from tests.testbed.git_repository import commit_files
from tests.testbed.packages import running_index
from tests.testbed.registry import registry_is_installed
from tests.unit.builder.conftest import IN_BASE, make_workbench

if TYPE_CHECKING:
    from pathlib import Path

    from base_images.identity import Workshop
    from builder.facility import BaseChoice, Facility
    from launcher.ci.outcome import Outcome

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("docker") is None, reason="needs docker"),
]


def notebook(source: str) -> str:
    """Return a notebook of one cell."""
    cell: dict[str, object] = {"cell_type": "code", "id": "a", "source": source}
    cell |= {"execution_count": None, "metadata": {}, "outputs": []}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps({"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


class Ci:
    """Runs the command's line in a checkout of its own."""

    def __init__(self, facility: Facility, workshop: Workshop, base: BaseChoice, directory: Path) -> None:
        self._context = Context(Site(), facility, workshop)
        self._base = str(base)
        self.directory = directory

    def run(self, files: dict[str, str], *tags: str) -> Outcome:
        commit_files(self.directory, files)
        options = CiOptions(repo=str(self.directory), base=self._base, tags=tags, smoke_test="require")
        return run_ci(self._context, options, Surroundings(), lambda _: None, lambda _: None)


@pytest.fixture
def ci(facility: Facility, workshop: Workshop, real_base: BaseChoice, tmp_path: Path) -> Ci:
    return Ci(facility, workshop, real_base, tmp_path / "smoke")


def test_packages_notebooks_and_the_repositorys_own_tests_are_tried_in_the_image(ci: Ci) -> None:
    outcome = ci.run(
        {
            "binder/requirements.txt": "PyYAML\nparticle\n",
            "binder/casabinder.yaml": "test_notebooks: [plots/good.ipynb]\n",
            "plots/good.ipynb": notebook("import particle\nassert open('data.txt').read() == 'seven'"),
            "plots/data.txt": "seven",
        },
        "stable",
    )
    assert outcome.error == ""
    assert {check.name: check.said for check in outcome.smoke.checks} == {
        "import particle": "",
        "import pyyaml": "",
        "plots/good.ipynb": "",
    }
    assert (outcome.smoke.state, outcome.status) == ("passed", 0)
    assert [tag.rpartition(":")[2] for tag in outcome.tags] == ["stable"]

    outcome = ci.run(
        {
            "image-tests/test_physics.py": "def test_it():\n    assert 1 + 1 == 3\n",
            "image-tests/works.sh": 'test "$(whoami)" = jovyan && test -f image-tests/works.sh\n',
            "image-tests/bad.ipynb": notebook("raise ValueError('not today')"),
        },
        "stable",
    )
    checks = {check.name: check for check in outcome.smoke.checks}
    assert checks["image-tests/works.sh"].passed
    assert "ValueError: not today" in checks["image-tests/bad.ipynb"].said
    assert "add pytest to the requirements" in checks["image-tests"].said
    assert (outcome.smoke.state, outcome.status, outcome.tags) == ("failed", 3, ())


@pytest.fixture
def stored(tmp_path: Path) -> StoredImage:
    """An image that is in a layout only."""
    with running_index(IN_BASE) as index:
        bench = make_workbench(tmp_path, index)
        record = bench.run({"a.py": "print('hello')\n"})
    repository = record.image.removeprefix(f"{bench.facility.registry}/").rpartition(":")[0]
    return StoredImage(record, bench.store, repository)


def test_an_image_that_is_in_a_layout_only_is_brought_to_the_engine_and_taken_away_again(stored: StoredImage) -> None:
    manifest = stored.store.get_manifest(stored.repository, stored.record.digest)
    with in_engine(stored) as name:
        assert docker("image", "inspect", "--format", "{{.Id}}", name).strip() == manifest.config.digest
    assert docker("images", "--quiet", name) == ""


def test_what_a_killed_smoke_test_left_is_removed_by_the_next(stored: StoredImage) -> None:
    with in_engine(stored) as name:
        left = docker("create", f"--label={LABEL}={time.time() - 3600:.0f}", name, "true").strip()
        with in_engine(stored):
            deadline = time.monotonic() + 10
            while left in docker("ps", "--all", "--quiet", "--no-trunc"):  # another process's may be removing it
                assert time.monotonic() < deadline
                time.sleep(0.1)
