"""The wheel of the runtime package: the same bytes each time, and a wheel that installs."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

from base_images.runtime_wheel import RUNTIME, build_runtime_wheel
from builder.layers.wheel import InstallTarget, metadata, open_wheel, wheel_entries
from tests.unit.builder.layers.helpers import read_layer, written

if TYPE_CHECKING:
    from pathlib import Path


def test_place_and_time_do_not_matter(tmp_path: Path) -> None:
    first, path = build_runtime_wheel(tmp_path / "wheels")
    copy = shutil.copytree(RUNTIME, tmp_path / "copy")
    for file in copy.rglob("*"):
        os.utime(file, (1, 1))
    (copy / "casabinder_runtime" / "__pycache__").mkdir(exist_ok=True)
    (copy / "casabinder_runtime" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"")
    second, _ = build_runtime_wheel(tmp_path / "other", copy)
    assert first == second
    assert path == tmp_path / "wheels" / first.sha256[:2] / first.sha256 / first.filename
    (copy / "casabinder_runtime" / "client.py").write_text("changed = True\n")
    assert build_runtime_wheel(tmp_path / "other", copy)[0].sha256 != first.sha256


def test_it_is_a_wheel_whose_record_is_right(tmp_path: Path) -> None:
    package, path = build_runtime_wheel(tmp_path)
    with open_wheel(path) as wheel:
        about = metadata(wheel)
        files = read_layer(written(wheel_entries(wheel, InstallTarget()))[0])
    assert (about.name, about.version) == (package.name, package.version)
    assert all("extra ==" in line for line in about.requires_dist)  # it adds nothing to an environment by itself
    site = "srv/env/lib/python3.13/site-packages/casabinder_runtime"
    sources = {
        file.relative_to(RUNTIME / "casabinder_runtime") for file in (RUNTIME / "casabinder_runtime").rglob("*.py")
    }
    assert {f"{site}/{source.as_posix()}" for source in sources} <= set(files)
    assert "srv/env/etc/jupyter/jupyter_server_config.d/casabinder_runtime.json" in files
    extension = "srv/env/share/jupyter/labextensions/casabinder"
    build = json.loads((RUNTIME / "labextension" / "package.json").read_text())["jupyterlab"]["_build"]
    assert {f"{extension}/package.json", f"{extension}/{build['load']}"} <= set(files)
    assert package.size == path.stat().st_size


def test_the_panel_stays_small() -> None:
    """JupyterLab waits for every extension's file before it starts."""
    assert (RUNTIME / "labextension" / "static" / "remoteEntry.js").stat().st_size < 15_000
