"""``casabinder badge``: what is pasted becomes a link and a badge in three languages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from launcher.badge_commands import make_badges
from launcher.cli import main

if TYPE_CHECKING:
    from pathlib import Path

HUB = "https://hub.example.org"
GH = "https://github.com/team/repo"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CASABINDER_SITE", raising=False)


@pytest.mark.parametrize(
    ("text", "ref", "opens", "link"),
    [
        ("team/repo", "", {}, "/v2/gh/team/repo/HEAD"),
        (GH, "v1", {}, "/v2/gh/team/repo/v1"),
        (f"{GH}/blob/main/a%20b.ipynb", "", {}, "/v2/gh/team/repo/main?labpath=a+b.ipynb"),
        (f"{GH}/blob/main/a.ipynb", "", {"urlpath": "tree"}, "/v2/gh/team/repo/main?urlpath=tree"),
        ("https://gitlab.com/a/b/c", "feature/x", {}, "/v2/gl/a%2Fb%2Fc/feature/x"),
        ("10.5281/zenodo.3242074", "", {}, "/v2/zenodo/10.5281/zenodo.3242074"),
        ("https://mybinder.org/v2/gh/a/b/HEAD?filepath=x&token=t", "", {}, "/v2/gh/a/b/HEAD?filepath=x"),
    ],
)
def test_a_link_leads_to_what_was_pasted(text: str, ref: str, opens: dict[str, str], link: str) -> None:
    badges = make_badges(HUB, text, ref, opens)
    assert badges["launch"].link == badges["status"].link == HUB + link


def test_a_badge_in_three_languages() -> None:
    launch, status = make_badges(HUB, "team/repo", "main", {"urlpath": "git-pull?repo=a&b=c"}).values()
    link = f"{HUB}/v2/gh/team/repo/main?urlpath=git-pull%3Frepo%3Da%26b%3Dc"
    assert launch.markdown == f"[![Launch]({HUB}/badge_logo.svg)]({link})"
    assert launch.rest == f".. image:: {HUB}/badge_logo.svg\n   :alt: Launch\n   :target: {link}"
    assert launch.html == f'<a href="{link}"><img src="{HUB}/badge_logo.svg" alt="Launch"></a>'
    assert status.markdown == f"[![Image]({HUB}/badge/gh/team/repo/main.svg)]({link})"


def test_the_command_prints_text_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["badge", "team/repo", "--lab", "a.ipynb", "--service", f"{HUB}/"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{HUB}/v2/gh/team/repo/HEAD?labpath=a.ipynb\n\nMarkdown\n")
    assert main([*command, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"launch", "status"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["team/repo"], "service.url"),
        (["team/repo", "--service", "hub.example.org"], "is no address"),
        (["what is this", "--service", HUB], "neither the address of a repository"),
        (["10.5281/zenodo.3242074", "--ref", "x", "--service", HUB], "a record has no branches"),
        (["team/repo", "--url-path", "//evil.example.org", "--service", HUB], "leads away"),
    ],
)
def test_what_can_t_be_linked_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["badge", *arguments]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
