"""The container of a smoke test: what a killed job leaves of it can be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.container.engine import ContainerLimits, EngineError
from builder.container.step import LABEL
from launcher.ci.smoke import SmokePlan
from launcher.ci.smoke_container import StoredImage, smoke_test
from registry_sync.client import RegistryClient
from tests.unit.launcher.records import RECORD

if TYPE_CHECKING:
    from pathlib import Path


def test_a_container_says_when_nobody_needs_it_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "docker"
    fake.write_text('#!/bin/sh\nif [ "$1" = run ]; then echo "$@" > "${0%/*}/run"; echo "docker: no"; exit 125; fi\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with RegistryClient("registry.test", credentials=None) as store, pytest.raises(EngineError, match="docker: no"):
        smoke_test(StoredImage(RECORD, store, "fac/a"), SmokePlan(("core",)), ContainerLimits(), lambda _: None)
    assert f" --label={LABEL}=" in (tmp_path / "run").read_text()
