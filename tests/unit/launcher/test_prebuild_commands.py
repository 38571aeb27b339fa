"""``casabinder prebuild``: what its builds are told, and what it prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from launcher.cli import main
from launcher.prebuild_commands import Done, Target, table, target_of
from launcher.service.prebuild_list import Wanted

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CASABINDER_SITE", raising=False)


def test_a_build_is_told_what_the_page_would_build(tmp_path: Path) -> None:
    assert target_of(Wanted(repo="team/repo", ref="v1"), None) == Target("https://github.com/team/repo", "v1")
    assert target_of(Wanted(repo="10.5281/zenodo.3242074"), None).repo == "zenodo:10.5281/zenodo.3242074"
    assert target_of(Wanted(repo=str(tmp_path)), None) == Target(str(tmp_path), "HEAD")
    wanted = Wanted(repo="team/repo", base="b", as_of="commit", subdirectory="s")
    options = ["--ref=HEAD", "--base=b", "--as-of=commit", "--subdir=s", "--", "https://github.com/team/repo"]
    assert target_of(wanted, None).options == options


def test_the_table() -> None:
    done = [
        Done("https://github.com/team/repo", "main", "built", 12.34, "host/team:1"),
        Done("https://github.com/team/longer-name", "v1", "there", 0.31, "host/team:2"),
        Done("https://x.org/r", "HEAD", "failed", 1, message="there is no ref HEAD"),
    ]
    assert table(done) == (
        "built      12.3 s  https://github.com/team/repo main       host/team:1\n"
        "there       0.3 s  https://github.com/team/longer-name v1  host/team:2\n"
        "failed      1.0 s  https://x.org/r HEAD                    there is no ref HEAD\n"
        "1 built, 1 there already, 1 failed"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "say what to build"),
        (["nothing.txt"], "can't be read"),
        (["--popular", "3"], "no launch service has run"),
    ],
)
def test_what_can_t_be_done_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prebuild", *arguments]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
