"""The list of what is to be pre-built, in both forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from launcher.jobs.model import Asked
from launcher.service.prebuild_list import Wanted, asked_for, read_list
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
# ours
team/repo

https://gitlab.com/group/project  v1.2   # the release
"""
YAML = """\
- team/repo
- https://gitlab.com/group/project v1.2
- {repo: team/other, base: coffea-py311, as_of: 2026-01-31, subdirectory: a}
"""


def test_both_forms_are_read(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text(TEXT)
    two = (Wanted(repo="team/repo"), Wanted(repo="https://gitlab.com/group/project", ref="v1.2"))
    assert read_list(file) == two
    file = tmp_path / "list.yaml"
    file.write_text(YAML)
    third = Wanted(repo="team/other", base="coffea-py311", as_of="2026-01-31", subdirectory="a")
    assert read_list(file) == (*two, third)


def test_an_entry_is_what_the_launch_page_asks_for() -> None:
    assert asked_for(Wanted(repo="team/repo")) == Asked("gh", "team/repo/HEAD")
    wanted = Wanted(repo="https://gitlab.com/a/b", ref="v1", base="x", as_of="commit", subdirectory="s")
    assert asked_for(wanted) == Asked("gl", "a%2Fb/v1", "x", "commit", "s")
    with pytest.raises(CasabinderError, match="neither the address"):
        asked_for(Wanted(repo="what?"))


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("list", "team/repo\nteam/repo main and more\n", "list:2: 'team/repo main and more' is not"),
        ("list.yaml", "- {repo: a/b, reff: x}\n", "reff"),
        ("list.yaml", "- {repo: a/b, as_of: soon}\n", "soon"),
        ("list.yml", "a: [\n", "not valid YAML"),
        ("list.yaml", "", "list"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(CasabinderError) as caught:
        read_list(file)
    assert sentence in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CasabinderError, match="No such file"):
        read_list(tmp_path / "list")
