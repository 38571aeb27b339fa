"""The launch page's link for what was built, and which tags a run may set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builder.repository.spec import RepoSpec
from launcher.ci.link import NoLinkError, launch_link
from launcher.ci.run import check_tag
from registry_sync.errors import InvalidReferenceError

HUB = "https://hub.example.org"
BASES = ("coffea-py313", "tiny")
SPEC = RepoSpec("https://github.com/team/analysis", "refs/heads/main")


@pytest.mark.parametrize(
    ("url", "ref", "path"),
    [
        ("https://github.com/team/analysis", "refs/heads/main", "gh/team/analysis/main"),
        ("https://github.com/team/analysis", "refs/heads/feature/x y", "gh/team/analysis/feature/x%20y"),
        ("https://github.com/team/analysis", "refs/tags/v1", "gh/team/analysis/v1"),
        ("https://github.com/team/analysis", "refs/pull/7/merge", "gh/team/analysis/refs/pull/7/merge"),
        ("https://github.com/team/analysis", "a" * 40, f"gh/team/analysis/{'a' * 40}"),
        ("https://gitlab.com/group/sub/analysis", "refs/heads/main", "gl/group%2Fsub%2Fanalysis/main"),
        ("https://git.example.org/a/b", "refs/heads/main", "git/https%3A%2F%2Fgit.example.org%2Fa%2Fb/main"),
    ],
)
def test_the_link(url: str, ref: str, path: str) -> None:
    assert launch_link(HUB, RepoSpec(url, ref), BASES) == f"{HUB}/v2/{path}"


@pytest.mark.parametrize(
    ("base", "as_of", "query"),
    [
        ("coffea-py313", "", "base=coffea-py313"),
        ("coffea-py313:2026.09", "2026-01-31", "base=coffea-py313%3A2026.09&as_of=2026-01-31"),
        ("stable", "", "base=stable"),
        ("", "commit", "as_of=commit"),
    ],
)
def test_the_link_asks_for_what_was_built(base: str, as_of: str, query: str) -> None:
    link = launch_link(HUB, SPEC, BASES, base=base, as_of=as_of)
    assert link == f"{HUB}/v2/gh/team/analysis/main?{query}"


@pytest.mark.parametrize(
    ("spec", "base", "why"),
    [
        (RepoSpec("/home/me/analysis", "HEAD"), "", "no public address"),
        (replace(SPEC, subdirectory="sub"), "", "subdirectory"),
        (SPEC, "registry.example.org/bases/own:1", "registry.example.org/bases/own:1"),
    ],
)
def test_what_no_launch_page_can_ask_for_has_no_link(spec: RepoSpec, base: str, why: str) -> None:
    with pytest.raises(NoLinkError, match=why):
        launch_link(HUB, spec, BASES, base=base)


@pytest.mark.parametrize("tag", ["0123456789abcdef", "git-0a1b2c3d4e5f-01234567", "sha256-abc", "a b", "-x", ""])
def test_tags_that_are_refused(tag: str) -> None:
    with pytest.raises(InvalidReferenceError):
        check_tag(tag)


@pytest.mark.parametrize("tag", ["latest", "v1.0", "0123456789abcde", "main"])
def test_tags_that_may_be_set(tag: str) -> None:
    check_tag(tag)
