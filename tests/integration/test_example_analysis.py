"""The example analysis, as a user runs it: data from XRootD, the session's workers over TLS, the notebook itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from casabinder_runtime.server_extension import kernel_environment
from nbclient import NotebookClient

from tests.testbed.identity import ENV_ID, write_identity
from tests.testbed.notebook_server import RUNTIME
from tests.testbed.session import running_session
from tests.testbed.xrootd import running_xrootd

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "agc-ttbar"


@pytest.fixture
def data() -> Iterator[Path]:
    """Small files of the example, in a directory that the XRootD server's user can read (pytest's own it cannot)."""
    with tempfile.TemporaryDirectory(prefix="agc-data-") as name:
        directory = Path(name)
        subprocess.run(
            [sys.executable, str(EXAMPLE / "make_data.py"), str(directory), "--files", "2", "--events", "2000"],
            check=True,
        )
        directory.chmod(0o755)
        yield directory


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the example, as it lies in an image."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "repo", ignore=shutil.ignore_patterns("__pycache__")))


def test_the_notebook_gives_the_same_histograms_on_the_workers_as_alone(
    data: Path, repository: Path, tmp_path: Path
) -> None:
    identity = write_identity(tmp_path / "env.json")
    directory = tmp_path / "session"
    notebook = nbformat.read(repository / "ttbar.ipynb", as_version=4)
    with (
        running_xrootd(data) as url,
        running_session(directory, identity=identity, repository=repository, workers=2) as session,
    ):
        environment = {
            **os.environ,
            **kernel_environment(directory, session.address, "/"),
            "PYTHONPATH": str(RUNTIME),
            "AGC_DATA": url,
            "AGC_COMPARE": "1",
        }
        client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(repository)}})
        client.execute(env=environment)
    summary = json.loads((repository / "metrics.json").read_text())
    assert summary["equal_to_one_process"] is True
    assert summary["events"] == 3 * 2 * 2000
    assert summary["env_id"] == ENV_ID
    assert summary["worker_env_ids"] == [ENV_ID]
    assert (repository / "ttbar.png").read_bytes().startswith(b"\x89PNG")


def test_the_committed_notebook_has_no_outputs() -> None:
    notebook = nbformat.read(EXAMPLE / "ttbar.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
