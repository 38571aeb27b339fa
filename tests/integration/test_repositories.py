"""Fetching from a real git server: submodules, LFS, a user's token, limits, redirects, processes, a damaged cache."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.repository.checkout import checkout, resolve_ref
from builder.repository.fetching import Fetching, GitCredentials
from builder.repository.spec import RepositoryError, RepoSpec
from tests.testbed.git_repository import commit_files, git
from tests.testbed.git_server import GitServer, pointer, running_git_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.repository.tree import Tree

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
HERE = Fetching(private_addresses=True)
TOKEN = "glpat-" + "s3cret" * 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with running_git_server(tmp_path / "served") as running:
        yield running


def fetched(url: str, cache: Path, fetching: Fetching = HERE, ref: str = "HEAD") -> Tree:
    return checkout(resolve_ref(RepoSpec(url, ref), fetching), cache, fetching)


def with_submodule(directory: Path, path: str, url: str, commit: str) -> str:
    """Add a submodule as `git submodule add` does, without fetching it."""
    text = (directory / ".gitmodules").read_text() if (directory / ".gitmodules").exists() else ""
    (directory / ".gitmodules").write_text(f'{text}[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
    git(directory, "add", ".gitmodules")
    git(directory, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    git(directory, "commit", "--quiet", "-m", "submodule")
    return git(directory, "rev-parse", "HEAD")


class TestSubmodules:
    def test_they_become_files_of_the_one_tree(self, server: GitServer, tmp_path: Path) -> None:
        inner = commit_files(tmp_path / "inner", {"deep.txt": "deep"})
        middle = commit_files(tmp_path / "middle", {"m.txt": "m", "run": "#!/bin/sh"})
        middle = with_submodule(tmp_path / "middle", "sub/inner", "../inner.git", inner)
        commit_files(tmp_path / "inner", {"deep.txt": "newer"})
        commit_files(tmp_path / "outer", {"a.txt": "a"})
        with_submodule(tmp_path / "outer", "vendor/middle", "../middle", middle)
        for name in ("inner.git", "middle", "outer"):
            server.add(f"group/{name}", tmp_path / name.removesuffix(".git"))
        tree = fetched(server.url("group/outer"), tmp_path / "cache")
        assert tree.read("vendor/middle/m.txt") == b"m"
        assert tree.read("vendor/middle/sub/inner/deep.txt") == b"deep"
        again = fetched(server.url("group/outer"), tmp_path / "elsewhere")
        assert again.tree_id == tree.tree_id
        flat = {"a.txt": "a", "vendor/middle/m.txt": "m", "vendor/middle/run": "#!/bin/sh"}
        for path in (".gitmodules", "vendor/middle/.gitmodules"):
            flat[path] = (tree.read(path) or b"").decode()
        commit_files(tmp_path / "flat", {**flat, "vendor/middle/sub/inner/deep.txt": "deep"})
        assert tree.tree_id == git(tmp_path / "flat", "rev-parse", "HEAD^{tree}")

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("../missing", "there is no git repository at"),
            ("file:///etc", "is a directory of this machine"),
            ("/etc", "is a directory of this machine"),
            ("ext::sh -c true", "is a directory of this machine"),
            ("-oProxyCommand=x", "is neither a URL nor a ref"),
            ("http://169.254.169.254/latest", "is an address of the local network"),
        ],
    )
    def test_what_can_not_be_had(self, server: GitServer, tmp_path: Path, url: str, why: str) -> None:
        commit_files(tmp_path / "outer", {"a.txt": "a"})
        with_submodule(tmp_path / "outer", "vendor/x", url, "1" * 40)
        server.add("group/outer", tmp_path / "outer")
        commit = resolve_ref(RepoSpec(server.url("group/outer")), HERE)
        fetched_before = checkout_without_submodules(server, tmp_path, commit.id)
        fetching = replace(HERE, private_addresses="169" not in url)
        with pytest.raises(RepositoryError, match=f"the submodule vendor/x can't be had: .*{why}"):
            checkout(commit, fetched_before, fetching)

    def test_a_submodule_in_a_circle(self, server: GitServer, tmp_path: Path) -> None:
        commit_files(tmp_path / "outer", {"a.txt": "a"})
        first = commit_files(tmp_path / "outer", {"b.txt": "b"})
        with_submodule(tmp_path / "outer", "self", "./", first)
        server.add("group/outer", tmp_path / "outer")
        assert fetched(server.url("group/outer"), tmp_path / "cache").read("self/b.txt") == b"b"

    def test_no_address(self, server: GitServer, tmp_path: Path) -> None:
        commit_files(tmp_path / "outer", {"a.txt": "a"})
        git(tmp_path / "outer", "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/x")
        git(tmp_path / "outer", "commit", "--quiet", "-m", "link")
        server.add("outer", tmp_path / "outer")
        with pytest.raises(RepositoryError, match=r"the submodule vendor/x has no address in \.gitmodules"):
            fetched(server.url("outer"), tmp_path / "cache")


def checkout_without_submodules(server: GitServer, tmp_path: Path, commit: str) -> Path:
    """Return a cache in which the commit is, so that only its submodules have to be fetched."""
    cache = tmp_path / "cache"
    with pytest.raises(RepositoryError):
        checkout(resolve_ref(RepoSpec(server.url("group/outer"), commit), HERE), cache, HERE)
    return cache


class TestLfs:
    def test_pointers_become_their_objects(self, server: GitServer, tmp_path: Path) -> None:
        big = random.Random(3).randbytes(300_000)
        files = {
            ".gitattributes": "*.root filter=lfs diff=lfs merge=lfs -text\n",
            "data/events.root": server.add_object(big),
            "same.root": pointer(big),
            "text.txt": "version https://git-lfs.github.com/spec/v1\nnot a pointer\n",
        }
        commit_files(tmp_path / "work", files)
        server.add("lfs.git", tmp_path / "work")
        tree = fetched(server.url("lfs.git"), tmp_path / "cache")
        assert tree.read("data/events.root") == big == tree.read("same.root")
        assert (tree.read("text.txt") or b"").startswith(b"version")
        assert [path for path, _ in server.requests if path.startswith("/lfs-objects/")] == [
            f"/lfs-objects/{next(iter(server.objects))}"
        ]
        seen = len(server.requests)
        checkout(tree.commit, tmp_path / "cache", HERE)
        assert len(server.requests) == seen

    def test_a_repository_of_this_machine(self, tmp_path: Path) -> None:
        content = b"local object"
        files = {".gitattributes": "*.bin filter=lfs\n", "x.bin": pointer(content)}
        commit_files(tmp_path / "work", files)
        with pytest.raises(RepositoryError, match=r"x\.bin is an LFS pointer whose object is not there"):
            fetched(str(tmp_path / "work"), tmp_path / "cache")
        oid = pointer(content).split("sha256:")[1][:64]
        place = tmp_path / "work" / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
        assert fetched(str(tmp_path / "work"), tmp_path / "cache").read("x.bin") == content

    def test_objects_that_lie(self, server: GitServer, tmp_path: Path) -> None:
        text = server.add_object(b"right")
        server.objects[next(iter(server.objects))] = b"wrong"
        missing = pointer(b"nowhere")
        for name, content, message in (
            ("lying", text, "the LFS object of x.bin has not the sha256 checksum"),
            ("missing", missing, "does not hand out x.bin: Object does not exist"),
            ("huge", text.replace("size 5", "size 99999999999"), "x.bin of .* has 100000 MB"),
        ):
            commit_files(tmp_path / name, {".gitattributes": "*.bin filter=lfs\n", "x.bin": content})
            server.add(name, tmp_path / name)
            with pytest.raises(RepositoryError, match=message):
                fetched(server.url(name), tmp_path / "cache")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"me:{TOKEN}\n")
    file.chmod(0o600)
    return file


class TestToken:
    def test_it_is_given_to_git_and_to_nobody_else(self, tmp_path: Path, token_file: Path) -> None:
        files = {".gitattributes": "*.bin filter=lfs\n", "x.bin": pointer(b"private object"), "a.txt": "a"}
        commit_files(tmp_path / "work", files)
        seen: list[str] = []
        stop = threading.Event()
        watcher = threading.Thread(target=_watch_processes, args=(seen, stop))
        with running_git_server(tmp_path / "served", login=("me", TOKEN)) as server:
            server.add_object(b"private object")
            server.add("private", tmp_path / "work")
            with pytest.raises(RepositoryError, match="does not exist or is private"):
                fetched(server.url("private"), tmp_path / "cache")
            fetching = replace(HERE, credentials=GitCredentials(token_file, server.address))
            watcher.start()
            try:
                tree = fetched(server.url("private"), tmp_path / "cache", fetching)
            finally:
                stop.set()
                watcher.join()
            assert tree.read("x.bin") == b"private object"
            # Without the token the cache gives nothing away, even by the commit's id.
            with pytest.raises(RepositoryError, match="does not exist or is private"):
                fetched(server.url("private"), tmp_path / "cache", HERE, tree.commit.id)
        assert any("credential.py" in text for text in seen)
        assert any("git-remote-http" in text for text in seen)
        assert not any(TOKEN in text for text in seen)
        assert not any(TOKEN.encode() in path.read_bytes() for path in _files(tmp_path / "cache"))

    def test_it_goes_to_its_host_only(self, server: GitServer, tmp_path: Path, token_file: Path) -> None:
        commit_files(tmp_path / "work", {"a.txt": "a"})
        server.add("there", tmp_path / "work")
        with running_git_server(tmp_path / "private", login=("me", TOKEN)) as first:
            first.moved["here"] = server.url("there/")
            fetching = replace(HERE, credentials=GitCredentials(token_file, first.address))
            assert fetched(first.url("here"), tmp_path / "cache", fetching).read("a.txt") == b"a"
        assert {authorization for _, authorization in server.requests} == {None}

    def test_a_file_that_others_can_read(self, server: GitServer, tmp_path: Path, token_file: Path) -> None:
        token_file.chmod(0o640)
        fetching = replace(HERE, credentials=GitCredentials(token_file, server.address))
        with pytest.raises(RepositoryError, match="can be read by others; run `chmod 600"):
            fetched(server.url("private"), tmp_path / "cache", fetching)


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def _watch_processes(seen: list[str], stop: threading.Event) -> None:
    """Note arguments and environment of every process that there is."""
    me = os.getpid()
    while not stop.is_set():
        for directory in Path("/proc").iterdir():
            if directory.name.isdecimal() and int(directory.name) != me:
                try:
                    text = (directory / "cmdline").read_bytes() + (directory / "environ").read_bytes()
                except OSError:
                    continue
                seen.append(text.decode(errors="replace"))


class TestLimits:
    def test_a_fetch_that_grows_too_big_is_ended(self, server: GitServer, tmp_path: Path) -> None:
        commit_files(tmp_path / "work", {"big": random.Random(1).randbytes(20_000_000)})
        server.add("big", tmp_path / "work")
        with pytest.raises(RepositoryError, match=r"is bigger than the 1 MB that this site fetches|more than the 1 MB"):
            fetched(server.url("big"), tmp_path / "cache", replace(HERE, max_bytes=10**6))
        assert not [path for path in _files(tmp_path / "cache") if path.name.startswith("tmp_")]

    def test_files(self, server: GitServer, tmp_path: Path) -> None:
        commit_files(tmp_path / "work", {f"{number}": "x" for number in range(30)} | {"zeros": bytes(2_000_000)})
        server.add("many", tmp_path / "work")
        for limits, message in (
            ({"max_files": 10}, "has more than the 10 files"),
            ({"max_file_bytes": 10**6}, "zeros of .* has 2 MB, and a file may have 1 MB"),
            ({"max_bytes": 10**6}, "have more than the 1 MB"),
        ):
            with pytest.raises(RepositoryError, match=message):
                fetched(server.url("many"), tmp_path / "cache", replace(HERE, **limits))  # type: ignore[arg-type]
        assert fetched(server.url("many"), tmp_path / "cache").read("7") == b"x"


class TestAddresses:
    def test_the_local_network_is_not_asked(self, server: GitServer, tmp_path: Path) -> None:
        with pytest.raises(RepositoryError, match="is an address of the local network"):
            fetched(server.url("x"), tmp_path / "cache", Fetching())
        assert server.requests == []

    def test_redirects_keep_the_rules(self, server: GitServer, tmp_path: Path) -> None:
        commit_files(tmp_path / "work", {"a.txt": "a"})
        server.add("new/name", tmp_path / "work")
        server.moved["old/name"] = server.url("new/name/")
        server.moved["round"] = server.url("round/")
        assert fetched(server.url("old/name"), tmp_path / "cache").read("a.txt") == b"a"
        denied = replace(HERE, deny=("*/new/*",))
        with pytest.raises(RepositoryError, match=r"this site does not build .*/new/name"):
            fetched(server.url("old/name"), tmp_path / "cache", denied)
        with pytest.raises(RepositoryError, match="redirects in circles"):
            fetched(server.url("round"), tmp_path / "cache")


class TestCache:
    def test_a_damaged_repository_is_fetched_again(self, server: GitServer, tmp_path: Path) -> None:
        commit_files(tmp_path / "work", {"a.txt": "a", "b.txt": "b" * 5000})
        server.add("repo", tmp_path / "work")
        tree = fetched(server.url("repo"), tmp_path / "cache")
        for damage in ("truncate", "remove", "garbage"):
            for pack in tree.git_dir.glob("objects/pack/pack-*"):
                pack.chmod(0o644)
                if damage == "remove":
                    pack.unlink()
                elif pack.suffix in (".pack", ".idx"):
                    content = pack.read_bytes()
                    pack.write_bytes(content[:40] if damage == "truncate" else os.urandom(len(content)))
            assert fetched(server.url("repo"), tmp_path / "cache") == tree, damage
            assert tree.read("b.txt") == b"b" * 5000

    def test_what_was_not_used_for_longest_goes_unless_it_is_in_use(self, server: GitServer, tmp_path: Path) -> None:
        trees = []
        for number in range(3):
            commit_files(tmp_path / str(number), {"x": random.Random(number).randbytes(400_000)})
            server.add(str(number), tmp_path / str(number))
            trees.append(fetched(server.url(str(number)), tmp_path / "cache"))
            use = trees[-1].git_dir.with_suffix(".use")
            os.utime(use, (number, number))
        held, freed = trees[0], trees[1].git_dir
        del trees[1]
        commit_files(tmp_path / "3", {"x": random.Random(9).randbytes(400_000)})
        server.add("3", tmp_path / "3")
        fetched(server.url("3"), tmp_path / "cache", replace(HERE, cache_bytes=1_600_000))
        assert not freed.exists()
        assert held.read("x") is not None
        assert trees[1].read("x") is not None

    def test_many_processes_share_it(self, server: GitServer, tmp_path: Path) -> None:
        commit_files(tmp_path / "work", {f"{number}": random.Random(number).randbytes(20_000) for number in range(50)})
        server.add("repo", tmp_path / "work")
        program = (
            "import sys; from pathlib import Path; from builder.repository.checkout import *\n"
            "fetching = Fetching(private_addresses=True, cache_bytes=1)\n"
            "tree = checkout(resolve_ref(RepoSpec(sys.argv[1]), fetching), Path(sys.argv[2]), fetching)\n"
            "print(tree.tree_id, len(tree.read('7')))"
        )
        command = [sys.executable, "-c", program, server.url("repo"), str(tmp_path / "cache")]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(6)]
        said = {process.communicate()[0] for process in running}
        assert said == {f"{git(tmp_path / 'work', 'rev-parse', 'HEAD^{tree}')} 20000\n"}
