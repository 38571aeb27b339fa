"""The container that a base is tried in: what a killed release leaves of it can be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.container.engine import EngineError
from builder.container.step import LABEL
from builder.facility import Facility
from launcher.bases.smoke_container import smoke_test_base
from launcher.site_config import Limits
from registry_sync.layout import LayoutStore
from tests.testbed.packages import built_wheel
from tests.testbed.tiny_base import tiny_base

if TYPE_CHECKING:
    from pathlib import Path

ENGINE = """\
#!/bin/sh
case "$1" in
load) cat > /dev/null ;;
info) echo 2 8000000000 ;;
create) echo "$@" > "${0%/*}/created"; exit 1 ;;
esac
"""


def test_a_container_says_when_nobody_needs_it_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LayoutStore(tmp_path / "store")
    base = tiny_base(store, [built_wheel("core", "1.0")], tmp_path / "base")
    facility = Facility(store, "registry.test", "fac", tmp_path / "cache")
    fake = tmp_path / "docker"
    fake.write_text(ENGINE)
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(EngineError):
        smoke_test_base(base, facility, Limits(), {}, "", lambda _: None)
    assert f" {LABEL}=" in (tmp_path / "created").read_text()
