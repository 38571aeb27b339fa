"""Servers in containers of the engine: what others do to them meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.container.engine import EngineError
from launcher import docker
from launcher.container import LABEL, NOTEBOOK
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from pathlib import Path

ENGINE = """\
#!/bin/sh
cd "${0%/*}"
case "$1" in
ps) echo first; echo second ;;
inspect) cat "$2.json" ;;
stop) echo first; echo "Error response from daemon: COMPLAINT" >&2; exit 1 ;;
rm) echo "$4" >> removed; test "$4" = first || { echo "Error response from daemon: REMOVAL" >&2; exit 1; } ;;
esac
"""


def engine(directory: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, removal: str = "") -> None:
    """Have two servers, ``first`` and ``second``; the engine complains of the second when it is stopped and removed."""
    names = ("repo", "ref", "commit", "env-id", "digest")
    labels = {NOTEBOOK: "i", f"{LABEL}.workers": "0", **{f"{LABEL}.{name}": name for name in names}}
    for name in ("first", "second"):
        state = {"Running": True, "Status": "running", "StartedAt": "2025-01-01T00:00:00Z"}
        config = {"Name": f"/{name}", "State": state, "Config": {"Labels": labels}, "NetworkSettings": {"Ports": {}}}
        (directory / f"{name}.json").write_bytes(canonical_json([config]))
    fake = directory / "docker"
    fake.write_text(ENGINE.replace("COMPLAINT", complaint).replace("REMOVAL", removal))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/bin:/usr/bin")


@pytest.mark.parametrize("removal", ["No such container: second", "removal of container second is already in progress"])
def test_a_server_that_somebody_else_removes_keeps_no_other(
    removal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(tmp_path, monkeypatch, "No such container: second", removal)
    assert docker.stop(tmp_path / "cache", None) == ["first", "second"]
    assert (tmp_path / "removed").read_text() == "first\nsecond\n"


def test_a_server_that_can_not_be_stopped_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine(tmp_path, monkeypatch, "cannot stop container: second: it does not want to")
    with pytest.raises(EngineError, match="it does not want to"):
        docker.stop(tmp_path / "cache", None)
    assert not (tmp_path / "removed").exists()
