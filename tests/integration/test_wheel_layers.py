"""Real wheels as layers, compared with what PyPA's ``installer`` puts on disk."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from builder.base import load_base
from builder.image import ImageSettings, Parent, make_image
from builder.layers.cache import LayerCache
from builder.layers.wheel import InstallTarget, metadata, open_wheel, wheel_entries
from builder.publish import Part, put_image, put_parts
from builder.wheel_layers import make_wheel_layers, plan_wheel_layers
from tests.unit.builder.layers.helpers import read_layer, written
from tests.unit.builder.layers.oracle import files_of, install_with_oracle, plain_record

if TYPE_CHECKING:
    from pathlib import Path

    from builder.facility import BaseChoice, Facility
    from builder.locking.pylock import LockedPackage

pytestmark = pytest.mark.integration

# The rest are the smallest of the base's; these have compiled code, scripts of their own, data or headers.
CHOSEN = (
    "awkward-cpp",
    "debugpy",
    "greenlet",
    "jupyterlab-widgets",
    "matplotlib",
    "mplhep",
    "numpy",
    "pyzmq",
    "xrootd",
)
COUNT = 100


@pytest.fixture(scope="module")
def packages(facility: Facility, real_base: BaseChoice) -> list[LockedPackage]:
    """100 wheels of the field that the base has, so that the cache has them, too."""
    base = load_base(facility.store, real_base.registry, real_base.repository, real_base.reference, facility.cache)
    inventory = base.inventory
    found = {p.name: p.locked for p in (*inventory.server.packages, *inventory.analysis.packages) if p.url}
    chosen = [found.pop(name) for name in CHOSEN if name in found]
    assert len(chosen) > 5
    return [*chosen, *sorted(found.values(), key=lambda package: package.size)[: COUNT - len(chosen)]]


def test_the_layers_hold_what_installer_installs(
    packages: list[LockedPackage], facility: Facility, tmp_path: Path
) -> None:
    paths = facility.wheelhouse.fetch(packages)
    target = InstallTarget()
    differing = {}
    for package in packages:
        path = paths[package.sha256]
        mask = os.umask(0o022)
        try:
            expected = install_with_oracle(path, tmp_path / package.name, target)
        finally:
            os.umask(mask)
        with open_wheel(path) as wheel:
            assert metadata(wheel).name.lower().replace("_", "-").replace(".", "-") == package.name
            entries = wheel_entries(wheel, target)
            record = f"{target.purelib}/{wheel.dist_info}/RECORD"
        found = files_of(read_layer(written(entries)[0]))
        same = plain_record(found.pop(record)[1]) == plain_record(expected.pop(record)[1])
        # What is in bin is executable in a layer even if the wheel was zipped where files have no such bit.
        if not same or found != expected:
            paths_of_both = found.keys() | expected.keys()
            differing[str(package)] = [p for p in sorted(paths_of_both) if found.get(p) != expected.get(p)][
                :5
            ] or record
    assert differing == {}
    assert len(packages) == COUNT


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_others_read_layers_that_are_compressed_with_zstd(
    packages: list[LockedPackage], facility: Facility, tmp_path: Path
) -> None:
    """Through a real registry; skopeo unpacks them with a Zstandard of its own."""
    chosen = [package for package in packages if package.name in ("numpy", "greenlet")]
    target = InstallTarget()
    planned = plan_wheel_layers(chosen, target, len(chosen))
    cache = LayerCache(tmp_path / "layers")
    layers = make_wheel_layers(planned, target, facility.wheelhouse, cache, compression="zstd")
    image = make_image(Parent(), layers, ImageSettings(), {})
    put_parts(facility.store, "zstd/layers", [Part(layer.descriptor, blob=layer.blob) for layer in layers])
    put_image(facility.store, "zstd/layers", image, ["1"])
    source = f"docker://{facility.registry}/zstd/layers:1"
    copy = [
        "skopeo",
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        "--dest-decompress",
        source,
        f"dir:{tmp_path / 'tars'}",
    ]
    subprocess.run(copy, check=True)
    for layer in layers:
        tar = (tmp_path / "tars" / layer.diff_id.removeprefix("sha256:")).read_bytes()
        assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
        assert tarfile.is_tarfile(io.BytesIO(tar))
