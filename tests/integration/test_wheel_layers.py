"""Real wheels as layers, compared with what PyPA's ``installer`` puts on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from builder.layers.wheel import InstallTarget, metadata, open_wheel, wheel_entries
from tests.unit.builder.layers.helpers import read_layer, written
from tests.unit.builder.layers.oracle import files_of, install_with_oracle, plain_record

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

WHEELS = ("numpy==2.2.6", "mplhep==0.4.1", "xrootd", "awkward-cpp", "jupyterlab-widgets", "ruff")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "any")


@pytest.mark.parametrize("requirement", WHEELS)
def test_the_layer_holds_what_installer_installs(requirement: str, tmp_path: Path) -> None:
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    subprocess.run(
        [*download, "--python-version=3.13", *platforms, f"--dest={tmp_path}", requirement], check=True, timeout=300
    )
    (path,) = tmp_path.glob("*.whl")
    target = InstallTarget()
    mask = os.umask(0o022)
    try:
        expected = install_with_oracle(path, tmp_path / "root", target)
    finally:
        os.umask(mask)
    with open_wheel(path) as wheel:
        about = metadata(wheel)
        entries = wheel_entries(wheel, target)
        record = f"{target.purelib}/{wheel.dist_info}/RECORD"
    found = files_of(read_layer(written(entries)[0]))
    assert plain_record(found.pop(record)[1]) == plain_record(expected.pop(record)[1])
    assert {path: mode for path, (mode, _) in found.items()} == {path: mode for path, (mode, _) in expected.items()}
    assert [path for path in found if found[path] != expected[path]] == []
    assert requirement.split("==")[0] == about.name.lower().replace("_", "-")
