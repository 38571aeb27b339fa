"""What a person reads of releases, and what is refused before anything is done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from builder.attachments.difference import PackageChange
from launcher.bases.release import in_short
from launcher.bases.release_commands import table
from launcher.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CASABINDER_SITE", raising=False)


def test_what_changed_is_counted() -> None:
    changes = [PackageChange(where, "a", "1", "2") for where in ("system", "analysis", "system")]
    assert in_short(changes, since=True) == "packages changed: 1 analysis, 2 Debian"
    assert in_short([], since=True) == "no package changed"
    assert in_short([], since=False) == "the first release"


def test_a_table_of_releases() -> None:
    row = {
        "tag": "2026.11.30-2",
        "digest": f"sha256:{'ab' * 32}",
        "at": "2026-11-30T02:15:44.889343Z",
        "channels": ["edge"],
        "rolled_back": ["stable"],
        "smoke_test": "passed, 3 checks",
        "changes": "no package changed",
    }
    older = {**row, "tag": "2026.11.30", "channels": [], "rolled_back": [], "changes": "the first release"}
    left = "edge, rolled back from stable"
    assert table([row, older]) == [
        f"2026.11.30-2  2026-11-30 02:15  abababababab  {left}  passed, 3 checks  no package changed",
        f"2026.11.30    2026-11-30 02:15  abababababab  {'':<{len(left)}}  passed, 3 checks  the first release",
    ]
    assert table([]) == []


def test_without_releases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--registry", f"oci:{tmp_path / 'images'}"]
    assert main(["base", "releases", *there]) == 0
    assert "make one with: casabinder base release coffea-py313" in capsys.readouterr().out
    assert main(["base", "releases", "coffea-py313", "--json", *there]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["base", "rollback", "coffea-py313", "--channel", "stable", *there]) == 1
    assert "stable names no release yet" in capsys.readouterr().err
    assert main(["base", "release", "--channel", "stable", "--from", "edge", *there]) == 1
    assert "edge names no release" in capsys.readouterr().err
    both = ["coffea-py311", "coffea-py313"]
    assert main(["base", "release", *both, "--channel", "stable", "--from", "edge", "--json", *there]) == 1
    said = json.loads(capsys.readouterr().out)
    assert [(one["name"], len(one["faults"])) for one in said] == [(name, 1) for name in both]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--from", "edge", "--refresh"], "leave one of them out"),
        (["--test-again"], "--test-again is for --from"),
        (["--xrootd", "https://x/y"], "give root://HOST"),
        (["no-such-base"], "there is no base image 'no-such-base'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert main(["base", "release", *options, "--registry", f"oci:{tmp_path / 'images'}"]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "images").exists()


def test_without_a_container_engine_nothing_is_released(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(f"registry: 'oci:{tmp_path / 'images'}'\ncontainers: {{engine: false}}\n")
    assert main(["base", "release", "--site", str(site)]) == 1
    assert "only after it was tried in a container: the site has no container engine" in capsys.readouterr().err
    assert not (tmp_path / "images").exists()
