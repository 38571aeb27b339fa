"""Root file systems: what is kept of mmdebstrap's archive, and what its failures say."""

from __future__ import annotations

import io
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from base_images.definition import Rootfs
from base_images.rootfs import build_rootfs
from builder.layers.cache import LayerCache
from registry_sync.errors import CasabinderError
from tests.unit.builder.layers.helpers import read_layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from base_images.rootfs import BuiltRootfs

SPEC = Rootfs(suite="trixie", packages=("git", "python3.13"))
STATUS = """Package: python3.13
Status: install ok installed
Version: 3.13.5-2+deb13u1

Package: git
Version: 1:2.47.3-0+deb13u1

Package: libc6
Version: 2.41-12+deb13u1

Package: plain
Version: 7
"""


def archive(path: Path, time: int, more: Mapping[str, str] | None = None) -> None:
    """Write what mmdebstrap might: every kind of member, with traces of when it was made."""
    files = {
        "etc/passwd": "root:x:0:0::/root:/bin/bash\n",
        "etc/group": "root:x:0:\n",
        "etc/ssl/certs/ca-certificates.crt": "CERTIFICATES\n",
        "var/lib/dpkg/status": STATUS,
        "var/log/dpkg.log": f"made at {time}\n",
        "var/cache/apt/pkgcache.bin": str(time),
        "usr/bin/su": "program",
        **(more or {}),
    }
    with tarfile.open(path, "w") as tar:
        for name in ("./", "./dev", "./usr", "./usr/bin", "./var/log"):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, time
            tar.addfile(member)
        for name, text in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mtime, member.uname = len(text), time, "builder"
            member.mode = 0o4755 if name == "usr/bin/su" else 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
        for name, kind, target in (
            ("bin", tarfile.SYMTYPE, "usr/bin"),
            ("usr/bin/hard", tarfile.LNKTYPE, "./usr/bin/su"),
            ("dev/null", tarfile.CHRTYPE, ""),
            ("run/fifo", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.linkname, member.mode, member.mtime = kind, target, 0o777, time
            tar.addfile(member)


@pytest.fixture
def mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in its place that copies a prepared archive and notes how it was called."""
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/calls\n[ -e {tmp_path}/prepared ] || '
        '{ echo "I: fine" >&2; echo "E: no mirror" >&2; exit 1; }\n'
        'while [ "$1" != -- ]; do shift; done\n'
        f'cp {tmp_path}/prepared "$3"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return program


def built(tmp_path: Path, name: str = "cache", *, refresh: bool = False) -> BuiltRootfs:
    return build_rootfs(SPEC, LayerCache(tmp_path / name), tmp_path / f"{name}-facts", refresh=refresh)


def test_what_is_kept_of_an_archive(tmp_path: Path, mmdebstrap: Path) -> None:
    archive(tmp_path / "prepared", time=1)
    rootfs = built(tmp_path)
    assert rootfs.layer.blob is not None
    files = read_layer(rootfs.layer.blob.read_bytes())
    assert files["bin"].target == "usr/bin"
    assert files["usr/bin/hard"].data == files["usr/bin/su"].data == b"program"
    assert files["usr/bin/su"].mode == 0o4755
    assert {"dev", "var/log"} <= set(files)
    assert not {"dev/null", "run/fifo", "var/log/dpkg.log", "var/cache/apt/pkgcache.bin"} & set(files)
    assert rootfs.packages == (
        "git=1:2.47.3-0+deb13u1",
        "libc6=2.41-12+deb13u1",
        "plain=7",
        "python3.13=3.13.5-2+deb13u1",
    )
    assert [rootfs.version(name) for name in ("git", "plain", "python3.13")] == ["2.47.3", "7", "3.13.5"]
    with pytest.raises(CasabinderError, match="has no Debian package vim"):
        rootfs.version("vim")
    assert rootfs.texts["etc/group"] == "root:x:0:\n"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert "--include=git,python3.13" in calls
    assert calls[calls.index("--") + 1] == "trixie"


def test_time_does_not_matter_and_nothing_is_made_twice(tmp_path: Path, mmdebstrap: Path) -> None:
    archive(tmp_path / "prepared", time=1)
    first = built(tmp_path)
    archive(tmp_path / "prepared", time=2_000_000_000)
    assert built(tmp_path, "other").layer.digest == first.layer.digest
    (tmp_path / "calls").unlink()
    again = built(tmp_path)
    assert not (tmp_path / "calls").exists()
    assert (again.layer, again.packages, again.texts) == (first.layer, first.packages, first.texts)
    built(tmp_path, refresh=True)
    assert (tmp_path / "calls").exists()


def test_a_failure_is_told_in_mmdebstraps_words(tmp_path: Path, mmdebstrap: Path) -> None:
    with pytest.raises(CasabinderError, match=r"mmdebstrap could not make Debian trixie: E: no mirror$"):
        built(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(".rootfs-") or path.suffix == ".part"] == []


def test_mmdebstrap_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CasabinderError, match="mmdebstrap is not installed: run scripts/bootstrap"):
        built(tmp_path)
