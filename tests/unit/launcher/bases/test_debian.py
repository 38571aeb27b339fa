"""Reading what apt says, and where an image's packages come from. apt itself: tests/integration/test_base_status.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.layers.layer import Entry
from launcher.bases.debian import DebianUpdate, debian_updates, read_policy, read_sources
from registry_sync.errors import CasabinderError
from registry_sync.layout import LayoutStore
from tests.testbed.tiny_base import tiny_base

if TYPE_CHECKING:
    from pathlib import Path

SAID = """\
openssl:
  Installed: 3.5.1-1
  Candidate: 3.5.9-1~deb13u1
  Version table:
     3.5.9-1~deb13u1 500
        500 http://deb.example.org/debian trixie/main amd64 Packages
     3.5.7-1~deb13u3 500
        500 http://security.example.org/debian-security trixie-security/main amd64 Packages
 *** 3.5.1-1 100
        100 /cache/apt/status
     3.5.0-1 500
        500 http://security.example.org/debian-security trixie-security/main amd64 Packages
tzdata:
  Installed: 2026a-1
  Candidate: 2026b-0+deb13u1
  Version table:
     2026b-0+deb13u1 500
        500 http://deb.example.org/debian trixie-updates/main amd64 Packages
 *** 2026a-1 100
        100 /cache/apt/status
git:
  Installed: 1:2.47.3-0+deb13u1
  Candidate: 1:2.47.3-0+deb13u1
  Version table:
 *** 1:2.47.3-0+deb13u1 500
        500 http://deb.example.org/debian trixie/main amd64 Packages
        100 /cache/apt/status
"""


def test_what_apt_says() -> None:
    installed = {"openssl": "3.5.1-1", "tzdata": "2026a-1", "git": "1:2.47.3-0+deb13u1", "gone": "1"}
    assert list(read_policy(SAID, installed)) == [
        DebianUpdate("openssl", "3.5.1-1", "3.5.9-1~deb13u1", security=True),
        DebianUpdate("tzdata", "2026a-1", "2026b-0+deb13u1", security=False),
    ]
    assert list(read_policy("", installed)) == []


def test_the_sources_are_the_images_own(tmp_path: Path) -> None:
    line = b"deb http://deb.example.org/debian trixie main\n"
    root = [Entry("etc/apt/sources.list", "file", line)]
    base = tiny_base(LayoutStore(tmp_path / "store"), [], tmp_path / "base", root=root)
    assert read_sources(base) == line


def test_a_base_without_them(tmp_path: Path) -> None:
    base = tiny_base(LayoutStore(tmp_path / "store"), [], tmp_path / "base")
    with pytest.raises(CasabinderError, match=r"has no /etc/apt/sources\.list"):
        read_sources(base)
    with pytest.raises(CasabinderError, match="its Debian packages are not known"):
        debian_updates(base, tmp_path)
