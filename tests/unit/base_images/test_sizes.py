"""What takes the room in a base."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from base_images.sizes import Size, kind_of, measure_base
from builder.layers.layer import Entry
from registry_sync.layout import LayoutStore
from tests.testbed.packages import built_wheel
from tests.testbed.tiny_base import tiny_base

if TYPE_CHECKING:
    from pathlib import Path

SITE = "srv/env/lib/python3.13/site-packages"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"{SITE}/a/__pycache__/b.cpython-313.pyc", "bytecode"),
        (f"{SITE}/a/tests/data.root", "tests"),
        (f"{SITE}/a/test/b.py", "tests"),
        (f"{SITE}/a/attest/b.py", "Python sources"),
        (f"{SITE}/a/lib/liba.a", "static libraries"),
        (f"{SITE}/a/include/a.inc", "headers"),
        (f"{SITE}/a/b.pyi", "type stubs"),
        (f"{SITE}/a.libs/libx-1234abcd.so.5", "libraries that wheels bring"),
        (f"{SITE}/a/b.cpython-313-x86_64-linux-gnu.so", "compiled modules and libraries"),
        ("srv/jupyter/share/jupyter/lab/static/main.js", "notebook pages"),
        ("srv/jupyter/share/jupyter/lab/static/main.js.map", "source maps"),
        (f"{SITE}/a/data.csv", "other files"),
    ],
)
def test_a_path_has_a_kind(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_what_is_outside_of_the_environments_is_debians() -> None:
    assert kind_of("usr/lib/python3.13/tests/x.py", debian=True) == "Debian"


def test_all_bytes_of_a_base_are_told_by_layer_package_and_kind(tmp_path: Path) -> None:
    wheels = [
        built_wheel("one", files={"one/__init__.py": b"x = 1\n" * 50, "one.libs/libz-11aa22bb.so.1": b"a" * 10}),
        built_wheel("two", files={"two/tests/test_two.py": b"", "two.libs/libz-33cc44dd.so.1.2": b"b" * 30}),
    ]
    root = [
        Entry("usr/lib/libc.so.6", "file", bytes(1000)),
        Entry("var/lib/dpkg/info/libc6:amd64.list", "file", b"/.\n/lib\n/lib/libc.so.6\n"),
    ]
    sizes = measure_base(tiny_base(LayoutStore(tmp_path / "store"), wheels, tmp_path, root=root))
    assert sizes.packages["Debian libc6"] == Size(1, sizes.packages["Debian libc6"].compressed, 1000)
    assert {"/srv/env one 1.0", "/srv/env two 1.0", "Debian (of no package)"} < set(sizes.packages)
    assert sizes.kinds["tests"].files == 1
    assert sizes.copies == {
        "/srv/env libz": {
            f"/{SITE}/one.libs/libz-11aa22bb.so.1": 10,
            f"/{SITE}/two.libs/libz-33cc44dd.so.1.2": 30,
        }
    }
    for parts in (sizes.packages, sizes.kinds, dict(sizes.layers)):
        assert sum(size.files for size in parts.values()) == sizes.total.files
        assert sum(size.unpacked for size in parts.values()) == sizes.total.unpacked
    assert sum(size.compressed for _, size in sizes.layers) == sizes.total.compressed
    assert sizes == measure_base(tiny_base(LayoutStore(tmp_path / "again"), wheels, tmp_path, root=root))
