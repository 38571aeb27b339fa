from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from casabinder_runtime.late_extension import EXTENSION
from casabinder_runtime.server_extension import kernel_environment

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
