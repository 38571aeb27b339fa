from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from casabinder_runtime import server_extension
from casabinder_runtime.late_extension import EXTENSION
from casabinder_runtime.server_extension import SessionProcess, kernel_environment
from casabinder_runtime.session_directory import LOG

RUNTIME = Path(__file__).parents[4] / "base_images" / "runtime"


def test_kernels_are_told_everything_dask_needs() -> None:
    environment = kernel_environment(Path("/run/casabinder/session-1"), "tls://127.0.0.1:8786", "/user/someone/")
    assert environment["CASABINDER_SESSION"] == "/run/casabinder/session-1"
    assert environment["DASK_SCHEDULER_ADDRESS"] == "tls://127.0.0.1:8786"
    assert environment["DASK_DISTRIBUTED__DASHBOARD__LINK"] == "/user/someone/proxy/{port}/status"
    assert ast.literal_eval(environment["DASK_LOGGING"]) == {"distributed.preloading": "warning"}
    assert not any("TLS" in name for name in environment), "TLS in Dask's configuration makes LocalCluster impossible"


def test_the_wheel_enables_the_extension() -> None:
    config = json.loads((RUNTIME / "etc/jupyter/jupyter_server_config.d/casabinder_runtime.json").read_text())
    assert config == {"ServerApp": {"jpserver_extensions": {"casabinder_runtime.server_extension": True}}}


def test_the_wheel_turns_off_what_is_loaded_later() -> None:
    config = json.loads((RUNTIME / "etc/jupyter/jupyter_server_config.json").read_text())
    assert config == {"ServerApp": {"jpserver_extensions": {EXTENSION: False}}}


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("casabinder_runtime.server_extension", ("dask", "distributed", "cryptography", "click")),
        ("casabinder_runtime.session", ("jupyter_server", "traitlets", "IPython")),
        ("casabinder_runtime.guard", ("jupyter_server", "traitlets", "IPython")),
        ("casabinder_runtime.client", ("jupyter_server", "traitlets", "cryptography")),
    ],
)
def test_each_side_imports_only_what_its_environment_has(module: str, foreign: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print([name for name in {foreign!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(RUNTIME)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"


def stopped(directory: Path, script: str) -> str:
    """Stop a shell script in the session's place, and return what is wrong with its end."""
    directory.mkdir()
    (directory / LOG).write_text("some words\nlast words\n")
    process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        problem = asyncio.run(SessionProcess(directory, process, 0).stop())
    assert process.returncode is not None
    assert not directory.exists()
    return problem


def test_a_session_that_ends_as_it_is_told_is_not_talked_about(tmp_path: Path) -> None:
    assert stopped(tmp_path / "session", "echo ready; exec sleep 60") == ""
    assert stopped(tmp_path / "session", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done") == ""


def test_of_a_session_that_ends_badly_the_log_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "the Dask session did not end as it should: its status is 1. Its log:\nsome words\nlast words"
    assert stopped(tmp_path / "session", "trap 'exit 1' TERM; echo ready; while :; do sleep 0.01; done") == bad
    monkeypatch.setattr(server_extension, "STOP_SECONDS", 0.05)
    killed = "the Dask session did not end as it should: it was killed after 0.05 s. Its log:\nsome words\nlast words"
    assert stopped(tmp_path / "session", "trap '' TERM; echo ready; exec sleep 60") == killed
