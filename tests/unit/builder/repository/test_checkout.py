"""Repositories, refs and trees: exact resolution, shallow fetches, and what is refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.repository.checkout import checkout, resolve_ref
from builder.repository.fetching import Fetching
from builder.repository.spec import Commit, RepositoryError, RepoSpec, UnreachableError
from registry_sync.reference import validate_repository
from tests.testbed.git_repository import commit_files, git

if TYPE_CHECKING:
    from builder.repository.tree import Tree


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "repo"
    commit_files(directory, {"a.txt": "one\n"})
    return directory


def resolved(repository: Path, ref: str) -> Commit:
    return resolve_ref(RepoSpec(str(repository), ref))


class TestRefs:
    def test_branches_tags_and_full_names(self, repository: Path) -> None:
        first = git(repository, "rev-parse", "HEAD")
        git(repository, "branch", "feature/x")
        git(repository, "tag", "light")
        git(repository, "tag", "-a", "-m", "annotated", "v1.0")
        second = commit_files(repository, {"a.txt": "two\n"})
        assert git(repository, "rev-parse", "v1.0") != first  # the tag is an object of its own
        expected = {
            "HEAD": (second, "HEAD"),
            "main": (second, "refs/heads/main"),
            "feature/x": (first, "refs/heads/feature/x"),
            "light": (first, "refs/tags/light"),
            "v1.0": (first, "refs/tags/v1.0"),
            "refs/tags/v1.0": (first, "refs/tags/v1.0"),
            "refs/heads/main": (second, "refs/heads/main"),
            first: (first, first),
        }
        assert {ref: (found.id, found.ref) for ref in expected if (found := resolved(repository, ref))} == expected

    @pytest.mark.parametrize("ref", ["x", "feature", "heads/main", "mai", "refs/main", "v1.0^{}", "main~1", "", "Main"])
    def test_nothing_is_guessed(self, repository: Path, ref: str) -> None:
        git(repository, "branch", "feature/x")
        git(repository, "tag", "-a", "-m", "annotated", "v1.0")
        with pytest.raises(RepositoryError, match=f"has no branch or tag {ref!r}".replace("^{}", r"\^\{\}")):
            resolved(repository, ref)

    def test_a_branch_and_a_tag_of_one_name(self, repository: Path) -> None:
        git(repository, "tag", "release")
        git(repository, "branch", "release")
        resolved(repository, "release")  # they mean the same
        commit_files(repository, {"a.txt": "two"})
        git(repository, "branch", "--force", "release")
        with pytest.raises(RepositoryError, match="say which: refs/heads/release or refs/tags/release"):
            resolved(repository, "release")

    def test_a_mistyped_name_gets_a_hint(self, repository: Path) -> None:
        with pytest.raises(RepositoryError, match=r"'mian'; it has main$"):
            resolved(repository, "mian")
        with pytest.raises(RepositoryError, match="'0123abc'; give all 40 characters of a commit"):
            resolved(repository, "0123abc")

    def test_a_repository_without_commits(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "--quiet", "empty")
        with pytest.raises(RepositoryError, match=r"has no default branch|has no commits"):
            resolved(tmp_path / "empty", "HEAD")

    @given(
        st.dictionaries(
            st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True),
            st.tuples(st.sampled_from(["heads", "tags"]), st.integers(1, 9)),
            min_size=1,
        ),
        st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True),
    )
    def test_a_name_is_found_exactly_when_a_ref_has_it(self, refs: dict[str, tuple[str, int]], asked: str) -> None:
        listing = "".join(f"{digit:040d}\trefs/{kind}/{name}\n" for name, (kind, digit) in refs.items())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("builder.repository.remote.git", lambda *_, **__: listing.encode())
            spec = RepoSpec("https://host/repo", asked)
            anywhere = Fetching(private_addresses=True)
            if asked in refs:
                kind, digit = refs[asked]
                found = resolve_ref(spec, anywhere)
                assert (found.id, found.ref) == (f"{digit:040d}", f"refs/{kind}/{asked}")
            else:
                with pytest.raises(RepositoryError, match="has no branch or tag"):
                    resolve_ref(spec, anywhere)


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("/nowhere/at/all", "there is no directory /nowhere/at/all"),
            ("ftp://host/repo", "ftp://host/repo is not a git URL; use one of https"),
            ("ext::sh -c true", "there is no directory"),
            ("-oProxyCommand=x", "'-oProxyCommand=x' is neither a URL nor a ref"),
            ("https://host:port/repo", "is not a URL"),
            ("https://[::1/repo", "is not a URL"),
        ],
    )
    def test_what_is_no_repository(self, url: str, message: str) -> None:
        with pytest.raises(RepositoryError, match=message):
            resolve_ref(RepoSpec(url))

    def test_a_directory_without_git(self, tmp_path: Path) -> None:
        with pytest.raises(RepositoryError, match="is not a git repository; run `git init`"):
            resolved(tmp_path, "HEAD")

    def test_a_directory_inside_a_repository_is_not_one(self, repository: Path) -> None:
        commit_files(repository, {"sub/file": ""})
        with pytest.raises(RepositoryError, match="is not a git repository"):
            resolved(repository / "sub", "HEAD")

    def test_a_ref_that_looks_like_an_option(self) -> None:
        with pytest.raises(RepositoryError, match="'--upload-pack=x' is neither a URL nor a ref"):
            RepoSpec("https://host/repo", "--upload-pack=x")

    @pytest.mark.parametrize("path", ["..", "a/../b", "/etc", "a//b", ".", ".git", "a/.git/b"])
    def test_a_subdirectory_is_a_plain_path(self, path: str) -> None:
        with pytest.raises(RepositoryError, match="must be a plain path"):
            RepoSpec("https://host/repo", subdirectory=path)

    @pytest.mark.parametrize(
        ("url", "public"),
        [
            ("https://user:secret@host/a/b.git", "https://host/a/b.git"),
            ("https://token@host:8443/a/b", "https://host:8443/a/b"),
            ("https://user@[2001:db8::1]:8443/a", "https://[2001:db8::1]:8443/a"),
            ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        ],
    )
    def test_passwords_are_not_repeated(self, url: str, public: str) -> None:
        assert RepoSpec(url).public_url == public

    @pytest.mark.parametrize(
        "url", ["https://me:secret@host/repo", "https://secret@host/repo", "ssh://me:secret@host/x"]
    )
    def test_a_login_in_the_url_is_refused_without_repeating_it(self, url: str) -> None:
        with pytest.raises(
            RepositoryError, match="put the token into a file and give it with --git-token-file"
        ) as caught:
            resolve_ref(RepoSpec(url))
        assert "secret" not in str(caught.value)

    def test_a_repository_that_does_not_answer(self) -> None:
        with pytest.raises(RepositoryError, match=r"http://127\.0\.0\.1:9/repo can't be reached"):
            resolve_ref(RepoSpec("http://127.0.0.1:9/repo"), Fetching(private_addresses=True))

    @pytest.mark.parametrize(
        "url", ["https:///x", "https://ex\tample.org/x", "https://\uff11\uff12\uff17.0.0.1/x", "https://a%2eb/x"]
    )
    def test_a_host_that_programs_read_differently(self, url: str) -> None:
        with pytest.raises(RepositoryError, match="names no host in plain letters"):
            resolve_ref(RepoSpec(url, "1" * 40), Fetching(private_addresses=True))

    def test_a_full_commit_is_resolved_without_the_network(self) -> None:
        spec = RepoSpec("https://nowhere.invalid/x", "1" * 40)
        assert resolve_ref(spec) == Commit(spec, "1" * 40, "1" * 40)

    def test_a_service_takes_no_directories(self, repository: Path) -> None:
        for url in (str(repository), f"file://{repository}"):
            with pytest.raises(RepositoryError, match="is a directory of this machine"):
                resolve_ref(RepoSpec(url), Fetching(local=False))

    @pytest.mark.parametrize("url", ["git@github.com:team/repo", "ssh://git@github.com/team/repo"])
    def test_a_service_has_no_ssh_keys(self, url: str) -> None:
        with pytest.raises(RepositoryError, match="which a service has not; give the https URL"):
            resolve_ref(RepoSpec(url), Fetching(local=False))

    def test_a_host_that_keeps_us_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("builder.repository.remote._LISTING_SECONDS", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/repo"
            with pytest.raises(UnreachableError, match="does not answer; try again later"):
                resolve_ref(RepoSpec(url), Fetching(private_addresses=True))


class TestSlug:
    @pytest.mark.parametrize(
        ("url", "beginning"),
        [
            ("https://github.com/CoffeaTeam/agc.git", "coffeateam-agc-"),
            ("git@github.com:CoffeaTeam/agc.git", "coffeateam-agc-"),
            ("https://host/ümlaut/__x__", "mlaut-x-"),
            ("https://host/" + "x" * 200, "host-xxx"),
            ("/home/me/My Analysis/", "my-analysis-"),
            ("https://host/-/-", "repository-"),
        ],
    )
    def test_it_is_what_people_call_the_repository(self, url: str, beginning: str) -> None:
        assert RepoSpec(url).slug.startswith(beginning)

    def test_repositories_of_one_name_do_not_meet(self) -> None:
        assert RepoSpec("https://one/a/b").slug != RepoSpec("https://two/a/b").slug
        assert RepoSpec("https://u:p@one/a/b").slug == RepoSpec("https://one/a/b").slug

    @given(st.one_of(st.text(), st.from_regex(r"https?://[a-z.]{1,9}(:\d+)?/\S*", fullmatch=True)))
    def test_it_can_stand_in_an_image_reference(self, url: str) -> None:
        try:
            slug = RepoSpec(url.replace("\0", "")).slug
        except RepositoryError:
            return
        assert validate_repository(slug) == slug
        assert len(slug) <= 87


class TestTrees:
    def checked_out(self, repository: Path, tmp_path: Path, ref: str = "HEAD", subdirectory: str = "") -> Tree:
        spec = RepoSpec(str(repository), ref, subdirectory)
        return checkout(resolve_ref(spec), tmp_path / "cache")

    def test_only_the_commit_is_fetched(self, repository: Path, tmp_path: Path) -> None:
        first = git(repository, "rev-parse", "HEAD")
        second = commit_files(repository, {"a.txt": "two\n"})
        tree = self.checked_out(repository, tmp_path)
        assert tree.tree_id == git(repository, "rev-parse", "HEAD^{tree}")
        assert tree.read("a.txt") == b"two\n"
        assert git(tree.git_dir, "rev-list", "--all") == second
        older = self.checked_out(repository, tmp_path, first)
        assert older.git_dir == tree.git_dir
        assert older.read("a.txt") == b"one\n"

    def test_a_commit_that_is_here_needs_no_remote(self, repository: Path, tmp_path: Path) -> None:
        commit = resolved(repository, "HEAD")
        there = checkout(commit, tmp_path / "cache")
        repository.rename(tmp_path / "moved")
        assert checkout(commit, tmp_path / "cache") == there

    def test_a_commit_that_is_nowhere(self, repository: Path, tmp_path: Path) -> None:
        with pytest.raises(RepositoryError, match=f"has no commit {'0' * 40}"):
            self.checked_out(repository, tmp_path, "0" * 40)

    def test_a_commit_that_no_ref_points_at(self, repository: Path, tmp_path: Path) -> None:
        lost = commit_files(repository, {"a.txt": "lost\n"})
        git(repository, "reset", "--quiet", "--hard", "HEAD~1")
        assert self.checked_out(repository, tmp_path, lost).read("a.txt") == b"lost\n"

    def test_a_subdirectory_must_be_there(self, repository: Path, tmp_path: Path) -> None:
        commit_files(repository, {"sub/x": ""})
        assert self.checked_out(repository, tmp_path, subdirectory="sub").names("sub") == {"x"}
        with pytest.raises(RepositoryError, match="has no directory 'other' at"):
            self.checked_out(repository, tmp_path, subdirectory="other")

    def test_what_is_read_is_what_was_committed(self, repository: Path, tmp_path: Path) -> None:
        data = bytes(range(256)) + b"\n\n"
        commit_files(repository, {"däta bin": data, "*": b"star", "dir/x": b""}, links={"link": "dir/../däta bin"})
        tree = self.checked_out(repository, tmp_path)
        assert tree.read("däta bin") == data == tree.read("link")
        assert tree.read("*") == b"star"
        assert tree.read("dir") is None
        assert tree.read("nothing") is None
        assert tree.names("") == {"a.txt", "däta bin", "*", "dir", "link"}
        assert tree.names("a.txt") == tree.names("nothing") == set()
        assert tree.has_directory("dir")
        assert not tree.has_directory("a.txt")

    def test_a_file_of_the_repository_may_begin_with_dots(self, repository: Path, tmp_path: Path) -> None:
        commit_files(repository, {"..data": "x"}, links={"link": "..data"})
        assert self.checked_out(repository, tmp_path).read("link") == b"x"

    def test_an_environment_file_is_small(self, repository: Path, tmp_path: Path) -> None:
        commit_files(repository, {"big": b"x" * 2000})
        tree = self.checked_out(repository, tmp_path)
        with pytest.raises(RepositoryError, match="big has 2000 bytes; an environment file may have 1000"):
            tree.read("big", 1000)

    def test_the_users_git_settings_and_hooks_do_not_matter(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".gitconfig").write_text("[core]\n\tautocrlf = true\n[fetch]\n\tprune = true\n")
        monkeypatch.setenv("GIT_TERMINAL_PROMPT", "1")
        assert self.checked_out(repository, tmp_path).read("a.txt") == b"one\n"


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, Path]:
    """A tree with every kind of symlink, and where it is checked out for comparison."""
    directory = tmp_path_factory.mktemp("linked")
    files = {"a": "A", "d/b": "B", "d/e/c": "C"}
    links = {
        "to-a": "a",
        "d/up": "../a",
        "d/out": "../../a",
        "d/e/top": "../../to-a",
        "to-dir": "d",
        "loop": "loop2",
        "loop2": "loop",
        "abs": "/etc/passwd",
        "none": "missing",
        "odd": "./d/./e/../b",
    }
    commit_files(directory / "repo", files, links=links)
    return checkout(resolve_ref(RepoSpec(str(directory / "repo"))), directory / "cache"), directory / "repo"


NAMES = ["a", "b", "c", "d", "e", "up", "out", "top", "to-a", "to-dir", "loop", "loop2", "abs", "none", "odd"]


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
def test_nothing_outside_the_tree_is_ever_read(linked: tuple[Tree, Path], parts: list[str]) -> None:
    tree, work = linked
    path = "/".join(parts)
    try:
        content = tree.read(path)
    except RepositoryError as error:
        content, message = None, str(error)
        assert path in message or "symlink" in message
    if content is not None:
        target = Path(os.path.realpath(work / path))
        assert target.is_relative_to(work)
        assert content == target.read_bytes()
