"""Newer Debian packages, as the real apt finds them in a small repository on disk."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.layers.layer import Entry
from launcher.bases.debian import DebianUpdate, debian_updates
from registry_sync.errors import CasabinderError
from registry_sync.layout import LayoutStore
from tests.testbed.tiny_base import tiny_base

if TYPE_CHECKING:
    from pathlib import Path

    from builder.base import Base

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt"),
]


def suite(root: Path, name: str, packages: dict[str, str]) -> None:
    """Make a suite of a Debian repository; nobody has signed it."""
    stanzas = [
        f"Package: {package}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody\nSize: 1\n"
        f"Filename: pool/{package}.deb\nSHA256: {'0' * 64}\nDescription: nothing\n"
        for package, version in packages.items()
    ]
    content = "\n".join(stanzas).encode()
    directory = root / "dists" / name
    index = directory / "main" / "binary-amd64" / "Packages"
    index.parent.mkdir(parents=True)
    index.write_bytes(content)
    (directory / "Release").write_text(
        f"Origin: test\nSuite: {name}\nCodename: {name}\nArchitectures: amd64\nComponents: main\n"
        f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
        f" {hashlib.sha256(content).hexdigest()} {len(content)} main/binary-amd64/Packages\n"
    )


def base_with(tmp_path: Path, options: str) -> Base:
    mirror = tmp_path / "mirror"
    suite(mirror, "test", {"openssl": "3.5.9-1~deb13u1", "tzdata": "2026b-0", "git": "1:2.47-1"})
    suite(mirror, "test-security", {"openssl": "3.5.7-1~deb13u3", "git": "1:2.46-1"})
    lines = "".join(f"deb {options}file:{mirror} {name} main\n" for name in ("test", "test-security"))
    root = [Entry("etc/apt/sources.list", "file", lines.encode())]
    base = tiny_base(LayoutStore(tmp_path / "store"), [], tmp_path / "base", root=root)
    # 3.5.10 is newer than 3.5.9, 2026b-0~rc1 is older than 2026b-0, and an epoch beats every number
    packages = ("git=1:2.47-1", "local=1.0", "openssl=3.5.1-1", "tzdata=2026b-0~rc1")
    return replace(base, inventory=replace(base.inventory, system_packages=packages))


def test_what_is_newer_and_what_is_for_security(tmp_path: Path) -> None:
    base = base_with(tmp_path, "[trusted=yes] ")
    assert debian_updates(base, tmp_path / "cache") == [
        DebianUpdate("openssl", "3.5.1-1", "3.5.9-1~deb13u1", security=True),
        DebianUpdate("tzdata", "2026b-0~rc1", "2026b-0", security=False),
    ]
    newer = replace(base.inventory, system_packages=("openssl=3.5.10-1",))
    assert debian_updates(replace(base, inventory=newer), tmp_path / "cache") == []


def test_what_nobody_signed_is_not_believed(tmp_path: Path) -> None:
    with pytest.raises(CasabinderError, match=r"Debian's mirror could not be asked: .*signed"):
        debian_updates(base_with(tmp_path, ""), tmp_path / "cache")


def test_a_mirror_without_the_packages_is_not_one_with_nothing_newer(tmp_path: Path) -> None:
    base = base_with(tmp_path, "[trusted=yes] ")
    unknown = replace(base.inventory, system_packages=("elsewhere=1",))
    with pytest.raises(CasabinderError, match="lists none of the image's packages"):
        debian_updates(replace(base, inventory=unknown), tmp_path / "cache")


def test_a_mirror_that_is_not_there(tmp_path: Path) -> None:
    base = base_with(tmp_path, "[trusted=yes] ")
    shutil.rmtree(tmp_path / "mirror")
    with pytest.raises(CasabinderError, match="Debian's mirror could not be asked"):
        debian_updates(base, tmp_path / "cache")
