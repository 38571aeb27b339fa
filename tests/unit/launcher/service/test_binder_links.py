"""Specs and links: nothing that was sent is decoded on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.service.binder_links import default_branch_spec, launch_page, persistent_spec, raw_spec, ref_url

COMMIT = "a" * 40


def test_a_spec_stays_as_it_was_sent() -> None:
    assert raw_spec("/build/git/https%3A%2F%2Fh%2Fr/HEAD/", "/build/git/") == "https%3A%2F%2Fh%2Fr/HEAD"


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        (("lab", "ana"), "/v2/gh/lab/ana/master"),
        (("lab", "ana", "/"), "/v2/gh/lab/ana/master"),
        (("lab", "ana", "/notebooks/index.ipynb"), "/v2/gh/lab/ana/master?urlpath=%2Fnotebooks%2Findex.ipynb"),
    ],
)
def test_links_of_the_first_binder(arguments: tuple[str, ...], page: str) -> None:
    assert launch_page(*arguments) == page


@given(user=st.text(min_size=1), repo=st.text(min_size=1), path=st.text())
def test_such_a_link_stays_on_this_host_and_in_one_line(user: str, repo: str, path: str) -> None:
    page = launch_page(user, repo, path)
    assert page.startswith("/v2/gh/")
    assert not any(ord(character) <= 32 or character in '\\"<>' for character in page)


@pytest.mark.parametrize(
    ("provider", "spec", "ref", "expected"),
    [
        ("gh", "lab/ana/main", "main", f"lab/ana/{COMMIT}"),
        ("gh", "lab/ana/fix/it", "fix/it", f"lab/ana/{COMMIT}"),
        ("gl", "group%2Fana/fix%2Fit", "fix/it", f"group%2Fana/{COMMIT}"),
        ("gist", "lab/0123", "HEAD", f"lab/0123/{COMMIT}"),
        ("zenodo", "10.5281/zenodo.1", "HEAD", "10.5281/zenodo.1"),
    ],
)
def test_a_persistent_spec_names_the_commit(provider: str, spec: str, ref: str, expected: str) -> None:
    assert persistent_spec(provider, spec, ref, COMMIT) == expected


def test_renamed_default_branches() -> None:
    assert default_branch_spec("gh", "lab/ana/master") == "lab/ana/HEAD"
    assert default_branch_spec("gh", "lab/ana/main") == "lab/ana/HEAD"
    assert default_branch_spec("gh", "lab/ana/fix/main") is None
    assert default_branch_spec("gl", "lab%2Fana/master") is None


def test_where_a_commit_is_looked_at() -> None:
    assert ref_url("gh", "https://github.com/lab/ana", COMMIT) == f"https://github.com/lab/ana/tree/{COMMIT}"
    assert ref_url("gl", "https://gitlab.com/lab/ana.git", COMMIT) == f"https://gitlab.com/lab/ana/-/tree/{COMMIT}"
    assert ref_url("git", "https://host.test/ana.git", COMMIT) == "https://host.test/ana.git"
