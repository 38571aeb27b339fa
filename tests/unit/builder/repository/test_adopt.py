"""A commit of a checkout in the cache of its public address."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.repository.adopt import adopt, checked_out, history, origin
from builder.repository.checkout import checkout
from builder.repository.fetching import Fetching
from builder.repository.spec import Commit, RepositoryError, RepoSpec
from tests.testbed.git_repository import commit_files, git

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://git.invalid/team/analysis"  # asking it would fail


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for number in range(3):
        commit_files(tmp_path / "work", {"a.txt": str(number)}, f"number {number}")
    return tmp_path / "work"


def test_what_was_adopted_is_checked_out_without_asking_the_address(work: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{work}", str(shallow))
    commit = Commit(RepoSpec(URL), checked_out(shallow), "refs/heads/main")
    adopt(commit, shallow, tmp_path / "cache", Fetching())
    adopt(commit, shallow, tmp_path / "cache", Fetching())
    tree = checkout(commit, tmp_path / "cache")
    assert tree.read("a.txt") == b"2"
    assert tree.tree_id == git(work, "rev-parse", "HEAD^{tree}")


def test_a_commit_that_the_checkout_does_not_have(work: Path, tmp_path: Path) -> None:
    commit = Commit(RepoSpec(URL), "0" * 40, "HEAD")
    with pytest.raises(RepositoryError, match="has no commit 0000"):
        adopt(commit, work, tmp_path / "cache", Fetching())
    with pytest.raises(RepositoryError, match="has no commit 'nonesuch'"):
        checked_out(work, "nonesuch")
    with pytest.raises(RepositoryError, match="neither a URL nor a ref"):
        checked_out(work, "--all")
    with pytest.raises(RepositoryError, match="is not a git repository"):
        checked_out(tmp_path)


def test_the_earlier_commits_of_a_branch_newest_first(work: Path, tmp_path: Path) -> None:
    head = checked_out(work)
    git(work, "checkout", "--quiet", "-b", "side", "HEAD~1")
    side = commit_files(work, {"b.txt": ""}, "side")
    git(work, "checkout", "--quiet", "main")
    git(work, "merge", "--quiet", "--no-ff", "-m", "merge", "side")
    merged = checked_out(work)
    expected = [head, git(work, "rev-parse", "HEAD~2"), git(work, "rev-parse", "HEAD~3")]
    assert history(work, merged, 50) == expected
    assert side not in expected
    assert history(work, merged, 1) == expected[:1]
    assert history(work, "0" * 40, 50) == []


def test_the_origin(work: Path, tmp_path: Path) -> None:
    assert origin(work) == ""
    git(work, "remote", "add", "origin", "git@github.com:team/analysis.git")
    assert origin(work) == "git@github.com:team/analysis.git"


def test_other_tokens_have_other_caches(work: Path, tmp_path: Path) -> None:
    from builder.repository.fetching import GitCredentials

    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o600)
    private = replace(Fetching(), credentials=GitCredentials(token, "git.invalid"))
    commit = Commit(RepoSpec(URL), checked_out(work), "refs/heads/main")
    adopt(commit, work, tmp_path / "cache", private)
    assert checkout(commit, tmp_path / "cache", private).read("a.txt") == b"2"
    assert len(list((tmp_path / "cache" / "git").glob("*.git"))) == 1
