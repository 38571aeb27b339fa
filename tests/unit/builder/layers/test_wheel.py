"""Wheels as layers: what PyPA's ``installer`` would install, and what is refused."""

from __future__ import annotations

import os
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest

from builder.layers.errors import LayerError
from builder.layers.layer import Deflated, Streamed
from builder.layers.wheel import InstallTarget, layer_key, metadata, open_wheel, wheel_entries
from tests.unit.builder.layers.helpers import make_wheel, read_layer, record_hash, written
from tests.unit.builder.layers.oracle import files_of, install_with_oracle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.layers.layer import Entry

TARGET = InstallTarget()
SITE = TARGET.purelib
FILES = {
    "pkg/__init__.py": b"def main(): ...\n",
    "pkg/empty.py": b"",
    "pkg/large.bin": bytes(range(256)) * 2000,
    "pkg/stored.bin": b"kept as it is" * 100,
    "pkg/tool.sh": b"#!/bin/sh\n",
    "pkg/a name, with comma.txt": b"x",
    "single.py": b"",
    "pkg/__pycache__/x.cpython-313.pyc": b"stale",
    "pkg-1.0.data/scripts/run-it": b"#!python -E\nprint(1)\n",
    "pkg-1.0.data/scripts/windowed": b"#!pythonw\nprint(1)\n",
    "pkg-1.0.data/scripts/shell": b"#!/bin/sh\necho\n",
    "pkg-1.0.data/data/share/doc/pkg.txt": b"doc",
    "pkg-1.0.data/headers/pkg.h": b"int x;",
    "pkg-1.0.data/purelib/pure.py": b"1",
    "pkg-1.0.data/platlib/plat.py": b"2",
    "pkg-1.0.dist-info/entry_points.txt": (
        b"[console_scripts]\npkg = pkg:main\npkg-x = pkg.sub:App.run [extra]\n[gui_scripts]\npkg-gui=pkg:gui\n"
        b"[other]\nwhat = 100%:ever\n"
    ),
}
EXECUTABLE = ["pkg/tool.sh", *(name for name in FILES if "/scripts/" in name)]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, FILES, executable=EXECUTABLE, stored=["pkg/stored.bin", "pkg/empty.py"])


def entries_of(path: Path, target: InstallTarget = TARGET) -> list[Entry]:
    with open_wheel(path) as wheel:
        return wheel_entries(wheel, target)


def test_the_layer_holds_what_installer_installs(wheel: Path, tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        expected = install_with_oracle(wheel, tmp_path / "root", TARGET)
    finally:
        os.umask(mask)
    found = files_of(read_layer(written(entries_of(wheel))[0]))
    record = f"{SITE}/pkg-1.0.dist-info/RECORD"
    assert found.pop(record)[1].replace(b"./", b"") == expected.pop(record)[1].replace(b"./", b"")
    assert found == expected


def test_golden_digest(wheel: Path) -> None:
    """The zip's own compressed bytes are zlib's, so the digest is of a wheel that is stored, not deflated."""
    _, deflated = written(entries_of(wheel))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    _, layer = written(entries_of(make_wheel(wheel.parent, FILES, executable=EXECUTABLE, stored=names)))
    assert layer.digest == "sha256:313f9f8812032a0ad636e884773035731b3944c8f4dd9a8b7fe067505b347186"
    assert layer.diff_id == deflated.diff_id


def test_where_things_go(wheel: Path) -> None:
    found = read_layer(written(entries_of(wheel))[0])
    assert found["srv/env/bin/pkg"].data.startswith(b"#!/srv/env/bin/python\n# -*- coding: utf-8 -*-\n")
    assert b"from pkg.sub import App\n" in found["srv/env/bin/pkg-x"].data
    assert found["srv/env/bin/run-it"].data == b"#!/srv/env/bin/python\nprint(1)\n"
    assert found["srv/env/include/site/python3.13/pkg/pkg.h"].data == b"int x;"
    assert found["srv/env/share/doc/pkg.txt"].data == b"doc"
    assert found[f"{SITE}/pkg-1.0.dist-info/INSTALLER"].data == b"casabinder\n"
    assert not any("__pycache__" in path or path.endswith(("REQUESTED", "direct_url.json")) for path in found)
    assert f"../../../bin/pkg,{record_hash(found['srv/env/bin/pkg'].data)},".encode() in (
        found[f"{SITE}/pkg-1.0.dist-info/RECORD"].data
    )


def test_another_target(wheel: Path) -> None:
    target = InstallTarget("/srv/jupyter", "3.12")
    found = read_layer(written(entries_of(wheel, target))[0])
    assert "srv/jupyter/lib/python3.12/site-packages/single.py" in found
    assert found["srv/jupyter/bin/pkg"].data.startswith(b"#!/srv/jupyter/bin/python\n")
    assert layer_key("0" * 64, TARGET) != layer_key("0" * 64, target)
    assert layer_key("0" * 64, TARGET) != layer_key("1" * 64, TARGET)


@pytest.mark.parametrize("prefix", ["srv/env", "/", "/srv/env/", "/srv/../env", "/my env", "/" + "x" * 100])
def test_prefixes_that_are_none(prefix: str) -> None:
    with pytest.raises(ValueError, match="no path of an environment"):
        InstallTarget(prefix)


def test_compressed_members_pass_through(wheel: Path) -> None:
    contents = {entry.path: entry.content for entry in entries_of(wheel)}
    large = contents[f"{SITE}/pkg/large.bin"]
    assert isinstance(large, Deflated)
    assert b"".join(large.chunks()) in wheel.read_bytes()
    assert isinstance(contents[f"{SITE}/pkg/stored.bin"], Streamed)


def test_what_an_installer_writes_is_not_taken_from_the_wheel(tmp_path: Path) -> None:
    info = "pkg-1.0.dist-info"
    files = {f"{info}/INSTALLER": b"evil", f"{info}/REQUESTED": b"", f"{info}/direct_url.json": b"{}"}
    found = read_layer(written(entries_of(make_wheel(tmp_path, files)))[0])
    assert found[f"{SITE}/{info}/INSTALLER"].data == b"casabinder\n"
    assert f"{SITE}/{info}/REQUESTED" not in found
    assert b"direct_url" not in found[f"{SITE}/{info}/RECORD"].data


def test_scripts_are_executable_though_zipped_on_windows(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"pkg-1.0.data/scripts/tool": b"#!python\n"})
    assert read_layer(written(entries_of(path))[0])["srv/env/bin/tool"].mode == 0o755


def test_metadata(wheel: Path) -> None:
    with open_wheel(wheel) as opened:
        found = metadata(opened)
    assert (found.name, found.version, found.requires_dist) == ("pkg", "1.0", ("numpy>=2",))
    assert found.top_level == ("pkg", "single.py")


@pytest.mark.parametrize(
    "member",
    [
        "../evil.py",
        "/etc/evil",
        "pkg/../../evil",
        "pkg//evil",
        "pkg\\..\\evil",
        "./evil",
        "pkg/.wh.evil",
        "pkg-1.0.data/data/../x",
    ],
)
def test_members_that_lead_elsewhere(tmp_path: Path, member: str) -> None:
    path = make_wheel(tmp_path, {member: b"evil"})
    with pytest.raises(LayerError, match=r"pkg-1\.0-py3-none-any\.whl: "):
        entries_of(path)


def rewritten(path: Path, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """Write the wheel again with ``change`` applied to what its zip directory says of ``pkg/x.py``."""
    with zipfile.ZipFile(path, "a") as archive:
        change(archive.getinfo("pkg/x.py"))
        archive._didModify = True  # type: ignore[attr-defined]
    return path


def set_to(**attributes: int | str) -> Callable[[zipfile.ZipInfo], None]:
    def change(info: zipfile.ZipInfo) -> None:
        for name, value in attributes.items():
            setattr(info, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (set_to(flag_bits=1), "encrypted"),
        (set_to(compress_type=zipfile.ZIP_LZMA), "another way"),
        (set_to(external_attr=0o120777 << 16), "symbolic link"),
        (set_to(external_attr=0o020666 << 16), "special file"),
        (set_to(filename="pkg/y.py"), "another name"),
        (set_to(compress_size=10**6), "overlaps"),
        (set_to(header_offset=1), "no header|overlaps"),
        (set_to(file_size=10**9), "in RECORD"),
        (set_to(CRC=1), "CRC-32"),
        (set_to(compress_size=20), "overlaps|decompressed|too early|longer"),
    ],
)
def test_zip_directories_that_lie(tmp_path: Path, change: Callable[[zipfile.ZipInfo], None], sentence: str) -> None:
    path = rewritten(make_wheel(tmp_path, {"pkg/x.py": b"print()\n" * 100}), change)
    with pytest.raises(LayerError, match=sentence) as caught:
        written(entries_of(path))
    assert "\n" not in str(caught.value)


def test_a_name_with_a_nul(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"pkg/x.py": b""})
    path.write_bytes(path.read_bytes().replace(b"pkg/x.py", b"pkg/x\0py"))
    with pytest.raises(LayerError, match="NUL"):
        entries_of(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"pkg/x.py": b""})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("pkg/x.py", b"evil")
    with pytest.raises(LayerError, match="twice"):
        entries_of(path)


def test_a_bomb_that_says_it_is_small(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"pkg/x.py": bytes(50_000_000)}, record=f"pkg/x.py,{record_hash(b'')},100\n")
    rewritten(path, set_to(file_size=100))
    with open_wheel(path) as wheel, pytest.raises(LayerError, match="METADATA' is not listed"):
        wheel_entries(wheel, TARGET)
    info = "pkg-1.0.dist-info"
    rows = "".join(f"{info}/{name},sha256={'A' * 43},\n" for name in ("METADATA", "WHEEL"))
    path = make_wheel(tmp_path, {"pkg/x.py": bytes(50_000_000)}, record=f"pkg/x.py,{record_hash(b'')},100\n{rows}")
    rewritten(path, set_to(file_size=100))
    with pytest.raises(LayerError, match=r"checksum|longer than the 100 bytes"):
        written(entries_of(path))


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ("", "not listed in RECORD"),
        ("pkg/x.py,,8\n", "no sha256"),
        ("pkg/x.py,md5=1B2M2Y8AsgTpgAmY7PhCfg,\n", "no sha256"),
        ("pkg/x.py,sha256=short,\n", "no sha256"),
        ("pkg/x.py,sha256=???,\n", "no sha256"),
        (f"pkg/x.py,{record_hash(b'evil')},9\n", "9 in RECORD"),
        (f"pkg/x.py,{record_hash(b'evil')},\n", "checksum"),
        ("pkg/x.py,one\n", "2 fields"),
        ('pkg/x.py,"open\n', "cannot be read"),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
def test_records_that_do_not_fit(tmp_path: Path, record: str, sentence: str, stored: bool) -> None:
    good = make_wheel(tmp_path, {})
    with zipfile.ZipFile(good) as archive:
        listed = archive.read("pkg-1.0.dist-info/RECORD").decode()
    path = make_wheel(
        tmp_path, {"pkg/x.py": b"print()\n"}, record=listed + record, stored=["pkg/x.py"] if stored else []
    )
    with pytest.raises(LayerError, match=sentence):
        written(entries_of(path))


def test_a_script_that_does_not_match_its_record(tmp_path: Path) -> None:
    with zipfile.ZipFile(make_wheel(tmp_path, {})) as archive:
        listed = archive.read("pkg-1.0.dist-info/RECORD").decode()
    record = f"{listed}pkg-1.0.data/scripts/tool,{record_hash(b'other')},\n"
    path = make_wheel(tmp_path, {"pkg-1.0.data/scripts/tool": b"#!python\n"}, record=record)
    with pytest.raises(LayerError, match=r"scripts/tool.*checksum"):
        entries_of(path)


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        (b"[console_scripts]\n../x = pkg:main\n", "not a file name"),
        (b"[console_scripts]\nx = pkg\n", "not module:function"),
        (b"[console_scripts]\nx = pkg:main; import os\n", "not module:function"),
        (b"[console_scripts]\nx = pkg:main\nx = pkg:other\n", "cannot be read"),
        (b"[console_scripts]\nx = pkg:main\n[gui_scripts]\nx = pkg:main\n", "two files for"),
        (b"no section\n", "cannot be read"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_entry_points_that_cannot_be(tmp_path: Path, points: bytes, sentence: str) -> None:
    path = make_wheel(tmp_path, {"pkg-1.0.dist-info/entry_points.txt": points})
    with pytest.raises(LayerError, match=sentence):
        entries_of(path)


def test_data_that_goes_nowhere(tmp_path: Path) -> None:
    for member in ("pkg-1.0.data/etc/passwd", "pkg-1.0.data/scripts"):
        with pytest.raises(LayerError, match="no known directory"):
            entries_of(make_wheel(tmp_path, {member: b""}))


def test_files_that_are_no_wheels(tmp_path: Path) -> None:
    good = make_wheel(tmp_path, {})
    for name in ("pkg.whl", "pkg-1.0.zip", "pkg-1.0-any.whl"):
        with pytest.raises(LayerError, match="not the name of a wheel"):
            entries_of(good.rename(tmp_path / name))
        (tmp_path / name).rename(good)
    with pytest.raises(LayerError, match="not what its name says"):
        entries_of(good.rename(tmp_path / "other-1.0-py3-none-any.whl"))
    with pytest.raises(LayerError, match=r"2 \.dist-info"):
        entries_of(make_wheel(tmp_path, {"x-1.dist-info/METADATA": b""}))
    with pytest.raises(LayerError, match=r"wheel version '2\.0'"):
        entries_of(make_wheel(tmp_path, {}, wheel="Wheel-Version: 2.0\n"))
    empty = tmp_path / "pkg-2.0-py3-none-any.whl"
    empty.write_bytes(b"not a zip")
    with pytest.raises(LayerError, match="not a zip"):
        entries_of(empty)
    with pytest.raises(LayerError, match="cannot be read"):
        entries_of(tmp_path / "gone-2.0-py3-none-any.whl")


def test_a_truncated_wheel(wheel: Path) -> None:
    data = wheel.read_bytes()
    directory = struct.unpack("<L", data[-6:-2])[0]
    wheel.write_bytes(data[: directory // 2] + data[directory:])
    with pytest.raises(LayerError):
        written(entries_of(wheel))
