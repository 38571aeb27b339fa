"""Images that are unpacked: what layers do to each other, and what they can't do to anything else."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from registry_sync.errors import DigestMismatchError
from registry_sync.layout import LayoutStore
from registry_sync.manifest import Descriptor, Manifest
from registry_sync.unpack import APPTAINER, UnpackError, unpack_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Members = Sequence[tuple[tarfile.TarInfo, bytes]]

CONFIG, LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"
TIME = 315532800


def file(name: str, content: bytes = b"", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    return member, content


def special(name: str, kind: bytes, target: str = "", mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, target, mode
    return member, b""


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return special(name, tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return special(name, tarfile.SYMTYPE, target)


def hard(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return special(name, tarfile.LNKTYPE, target)


# In several pieces, as layers of wheels are.
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "+gzip": lambda data: gzip.compress(data[:512]) + gzip.compress(data[512:]),
    "+zstd": lambda data: zstandard.compress(data[:512]) + zstandard.compress(data[512:]),
}


def tar_of(members: Members) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            member.mtime = TIME
            tar.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def image(store: LayoutStore, *layers: Members, kind: str = "+gzip", diff_id: str = "") -> Manifest:
    """Put an image with these layers into a store, under the tag ``x``."""
    compress = COMPRESS[kind]
    descriptors, diff_ids = [], []
    for members in layers:
        plain = tar_of(members)
        blob = compress(plain)
        descriptors.append(Descriptor(LAYER + kind, f"sha256:{hashlib.sha256(blob).hexdigest()}", len(blob)))
        diff_ids.append(diff_id or f"sha256:{hashlib.sha256(plain).hexdigest()}")
        store.put_blob("a/b", descriptors[-1], lambda blob=blob: io.BytesIO(blob))  # type: ignore[misc]
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    described = Descriptor(CONFIG, f"sha256:{hashlib.sha256(config).hexdigest()}", len(config))
    store.put_blob("a/b", described, lambda: io.BytesIO(config))
    manifest = Manifest.image(described, descriptors)
    store.put_manifest("a/b", "x", manifest)
    return manifest


def unpack(directory: Path, *layers: Members, kind: str = "+gzip") -> Path:
    """Return the root of an image of these layers."""
    store = LayoutStore(directory / "store")
    unpack_image(store, "a/b", image(store, *layers, kind=kind), directory / "root")
    return directory / "root"


def tree(root: Path) -> dict[str, str]:
    """Return what is below a directory: modes, links and contents by path."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            said = f"-> {path.readlink()}"
        elif stat.S_ISDIR(mode):
            said = f"{stat.S_IMODE(mode):o} directory"
        else:
            said = f"{stat.S_IMODE(mode):o} {path.read_text()}"
        found[str(path.relative_to(root))] = said
    return found


BOTTOM = [
    directory("usr"),
    directory("usr/lib"),
    link("lib", "usr/lib"),
    directory("etc", 0o555),
    file("etc/old", b"old"),
    file("etc/kept", b"kept", 0o600),
    directory("opt"),
    directory("opt/a"),
    file("opt/a/below", b"below"),
    file("opt/b", b"b"),
    directory("tmp", 0o1777),
    file("usr/program", b"program", 0o4755),
    file("replaced", b"a file"),
    directory("emptied"),
    file("emptied/x", b"x"),
]
TOP = [
    file("lib/new.so", b"new"),
    file("etc/.wh.old"),
    file("etc/new", b"new"),
    file("opt/a/above", b"above"),
    file("opt/.wh..wh..opq"),
    file("opt/c", b"c"),
    hard("opt/d", "opt/c"),
    file(".wh.emptied"),
    file(".wh.not-there"),
    directory("replaced"),
    file("replaced/x", b"x"),
    file("deep/down/here", b"here"),
]
WHOLE = {
    "deep": "755 directory",
    "deep/down": "755 directory",
    "deep/down/here": "644 here",
    "etc": "555 directory",
    "etc/kept": "600 kept",
    "etc/new": "644 new",
    "lib": "-> usr/lib",
    "opt": "755 directory",
    "opt/a": "755 directory",
    "opt/a/above": "644 above",
    "opt/c": "644 c",
    "opt/d": "644 c",
    "replaced": "755 directory",
    "replaced/x": "644 x",
    "tmp": "1777 directory",
    "usr": "755 directory",
    "usr/lib": "755 directory",
    "usr/lib/new.so": "644 new",
    "usr/program": "755 program",
}


@pytest.mark.parametrize("kind", ["", "+gzip", "+zstd"])
def test_layers_are_put_on_top_of_each_other(tmp_path: Path, kind: str) -> None:
    root = unpack(tmp_path, BOTTOM, TOP, kind=kind)
    assert tree(root) == WHOLE
    assert (root / "opt/c").samefile(root / "opt/d")
    assert (root / "opt/c").stat().st_mtime == (root / "etc").stat().st_mtime == TIME
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "store"]


@pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed: run scripts/bootstrap --dev")
def test_umoci_has_the_same(tmp_path: Path) -> None:
    # umoci keeps the setuid bit, and refuses a file below a link; both are left out here.
    below = [entry for entry in BOTTOM if entry[0].name != "usr/program"]
    above = [entry for entry in TOP if entry[0].name != "lib/new.so"]
    root = unpack(tmp_path, below, above)
    command = ["umoci", "unpack", "--rootless", "--image", f"{tmp_path}/store/a/b:x", str(tmp_path / "bundle")]
    subprocess.run(command, check=True, capture_output=True)
    assert tree(root) == tree(tmp_path / "bundle" / "rootfs")


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        ([link("a", "/etc"), file("a/passwd", b"x")], "etc/passwd"),
        ([link("a", "../../../../etc"), file("a/passwd", b"x")], "etc/passwd"),
        ([link("a", "b"), link("b", "/c/../.."), file("a/x", b"x")], "x"),
    ],
)
def test_links_do_not_lead_out(tmp_path: Path, layer: Members, path: str) -> None:
    root = unpack(tmp_path, layer)
    assert (root / path).read_bytes() == b"x"


@pytest.mark.parametrize(
    "layer",
    [
        [file("../x")],
        [file("a/../../x")],
        [file("a/.wh...")],
        [link("a", "b"), link("b", "a"), file("a/x")],
        [hard("a", "../../etc/passwd")],
        [hard("a", "etc/passwd")],
        [hard("a", ".")],
    ],
)
def test_what_leads_elsewhere_is_refused_and_leaves_nothing(tmp_path: Path, layer: Members) -> None:
    with pytest.raises(UnpackError):
        unpack(tmp_path, layer)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_whiteout_of_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").touch()
    root = unpack(tmp_path, [link("a", str(outside))], [file(".wh.a")])
    assert tree(root) == {}
    assert (outside / "x").exists()
    shutil.rmtree(root)
    unpack(tmp_path, [link("a", str(outside))], [file("a/.wh..wh..opq")])
    assert (outside / "x").exists()


def test_devices_are_left_out(tmp_path: Path) -> None:
    assert tree(unpack(tmp_path, [special("null", tarfile.CHRTYPE), special("pipe", tarfile.FIFOTYPE)])) == {}


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(UnpackError, match="is there already: unpack to a place of its own"):
        unpack(tmp_path, BOTTOM)


def test_bytes_that_are_others_than_stated(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "store")
    manifest = image(store, BOTTOM, diff_id=f"sha256:{'0' * 64}")
    with pytest.raises(DigestMismatchError, match="unpacks to sha256:"):
        unpack_image(store, "a/b", manifest, tmp_path / "root")
    digest = manifest.layers[0].digest
    blob = tmp_path / "store/a/b/blobs/sha256" / digest[7:]
    blob.write_bytes(blob.read_bytes()[:-40])
    with pytest.raises((UnpackError, DigestMismatchError)):
        unpack_image(store, "a/b", manifest, tmp_path / "root")
    assert not os.path.lexists(tmp_path / "root")


def test_a_place_that_is_not_writable(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "store")
    with pytest.raises(UnpackError, match=r"nothing can be written in .*none: No such file"):
        unpack_image(store, "a/b", image(store, BOTTOM), tmp_path / "none" / "root")


def test_what_apptainer_wants_is_added_within_the_image(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    store = LayoutStore(tmp_path / "store")
    manifest = image(store, [link(".singularity.d", str(tmp_path / "outside")), file("a/b", b"own")])
    unpack_image(store, "a/b", manifest, tmp_path / "root", programs={**APPTAINER, "a/b": b"other"})
    inside = tmp_path / "root" / str(tmp_path / "outside").strip("/") / "actions" / "test"
    assert subprocess.run([inside], check=False).returncode == 0
    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "root/a/b").read_bytes() == b"own"
