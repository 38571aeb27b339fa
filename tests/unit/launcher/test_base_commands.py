"""`casabinder base lock`: which locks are written, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from base_images.definition import Pin, read_lock, write_pins
from launcher.cli import main
from tests.testbed.packages import built_wheel, running_index

if TYPE_CHECKING:
    from pathlib import Path

WHEELS = (built_wheel("core", "2.0"), built_wheel("plots", "1.0", requires=["core"]), built_wheel("tools"))
SMALL = 'name: small\ntitle: S\npython: "3.13"\nrootfs: {suite: trixie, packages: [git]}\n'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one base of its own."""
    directory = tmp_path / "bases" / "small"
    directory.mkdir(parents=True)
    (directory / "base.yaml").write_text(SMALL)
    (directory / "server.in").write_text("core\n")
    (directory / "analysis.in").write_text("core\n")
    return tmp_path / "site.yaml"


def test_locks_of_a_base_and_of_what_a_site_adds(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path / "cache"))
    lock = ["base", "lock", "small", "--site", str(site), "--registry", f"oci:{tmp_path / 'images'}"]
    with running_index(WHEELS) as index:
        site.write_text(f"catalogues: [bases]\npackage_index: {index.url}\nadditions: {{packages: [plots]}}\n")
        assert main(lock) == 0
        assert capsys.readouterr().out.startswith("small, server: 1 packages, 1 changed\n  core  (new) -> 2.0 ")
        assert not (tmp_path / "base-locks").exists()
        file = tmp_path / "base-locks" / "small.lock"
        write_pins(file, [Pin("plots", "0.9", "0" * 64), Pin("tools", "1.0", "0" * 64)], "a command", "a source")
        assert main([*lock, "--additions"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "small, additions: 1 packages, 2 changed",
        "  plots  0.9 -> 1.0     asked for by site.yaml",
        "  tools  1.0 -> (gone)  nobody needs it any more",
    ]
    assert read_lock(file) == (Pin("plots", "1.0", WHEELS[1].sha256),)


def test_there_must_be_additions_to_lock(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.write_text("catalogues: [bases]\n")
    command = ["base", "lock", "--additions", "--site", str(site), "--registry", f"oci:{tmp_path / 'images'}"]
    assert main(command) == 1
    assert "site.yaml adds no packages to bases: state some under `additions`" in capsys.readouterr().err
