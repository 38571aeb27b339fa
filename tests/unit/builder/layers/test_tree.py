"""Git trees as layers: what a checkout would give, whatever the checkout's settings, and what is refused."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from builder.layers import tree
from builder.layers.errors import LayerError
from builder.layers.layer import Entry, Streamed
from builder.layers.tree import tree_entries
from tests.unit.builder.layers.helpers import read_layer, written

if TYPE_CHECKING:
    from pathlib import Path


def git(directory: Path, *arguments: str, data: bytes = b"") -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    git(directory, "init", "--quiet")
    return directory


def blob(repository: Path, data: bytes) -> str:
    return git(repository, "hash-object", "-w", "--stdin", data=data)


def make_tree(repository: Path, items: dict[bytes | str, tuple[str, bytes]]) -> str:
    """Write a tree from ``{name: (mode, content)}`` without git's checks of names; ``/`` is not split."""
    listing = b""
    for name, (mode, content) in sorted(items.items(), key=lambda item: os.fsencode(item[0])):
        oid = content.decode() if mode in ("40000", "160000") else blob(repository, content)
        listing += mode.encode() + b" " + os.fsencode(name) + b"\0" + bytes.fromhex(oid)
    return git(repository, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", data=listing)


def test_the_layer_of_a_tree(repository: Path) -> None:
    inner = make_tree(repository, {"ü b.txt": ("100644", b"text\r\n"), " leading": ("100644", b"")})
    top = make_tree(
        repository,
        {
            "start": ("100755", b"#!/bin/sh\n"),
            "docs": ("40000", inner.encode()),
            "link": ("120000", b"docs/../start"),
            "vendor": ("160000", b"1" * 40),
            ".gitignore": ("100644", b"*.pyc\n"),
        },
    )
    entries = tree_entries(repository, top)
    found = read_layer(written(entries)[0])
    names = ["", "/.gitignore", "/docs", "/docs/ leading", "/docs/ü b.txt", "/link", "/start", "/vendor"]
    assert list(found) == ["srv", *(f"srv/repo{name}" for name in names)]
    assert {member.owner for path, member in found.items() if path != "srv"} == {(1000, 1000)}
    assert (found["srv/repo/start"].mode, found["srv/repo/docs"].mode) == (0o755, 0o755)
    assert (found["srv/repo/docs/ü b.txt"].mode, found["srv/repo/docs/ü b.txt"].data) == (0o644, b"text\r\n")
    assert found["srv/repo/link"].target == "docs/../start"
    assert entries[0] == Entry("srv/repo", "directory", mode=0o755, uid=1000, gid=1000)
    assert written(entries)[1].digest == "sha256:159d21977133e4d9a9688f44572825361e555f8f40d27451e11c7389d35b6ce1"


def test_settings_umask_and_kind_of_repository_have_no_influence(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "a.txt").write_bytes(b"one\ntwo\n")
    (repository / ".gitattributes").write_text("a.txt ident export-ignore\n* text=auto eol=crlf\n")
    git(repository, "add", ".")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    git(repository, *identity, "commit", "--quiet", "-m", "x")
    top = git(repository, "rev-parse", "HEAD^{tree}")
    _, before = written(tree_entries(repository, top))
    (repository / "a.txt").write_bytes(b"changed and not committed")
    git(repository, "config", "core.autocrlf", "true")
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), str(bare))
    monkeypatch.chdir("/")
    mask = os.umask(0o077)
    try:
        assert written(tree_entries(bare, top))[1] == before
        assert written(tree_entries(bare, git(repository, "rev-parse", "HEAD")))[1] == before
    finally:
        os.umask(mask)


def test_blobs_are_read_in_batches_and_big_ones_streamed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "BATCH", 4000)
    contents = {f"f{number:03}": os.urandom(number * 12) for number in range(120)}
    top = make_tree(repository, {name: ("100644", data) for name, data in contents.items()})
    entries = tree_entries(repository, top)
    started: list[tuple[str, ...]] = []
    real = tree._git

    def counted(git_dir: Path, *arguments: str) -> list[str]:
        started.append(arguments)
        return real(git_dir, *arguments)

    monkeypatch.setattr(tree, "_git", counted)
    found = read_layer(written(entries)[0])
    assert {path.rpartition("/")[2]: member.data for path, member in found.items() if member.kind == b"0"} == contents
    assert 5 < sum(1 for call in started if "--batch" in call) < 30
    assert sum(1 for call in started if "--batch" not in call) == sum(len(data) >= 1000 for data in contents.values())
    content = entries[7].content
    assert isinstance(content, Streamed)
    with content.open() as file:
        assert file.read() == contents["f006"]


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../x", "a/../../x", "deep/out", "deep/up/../../x"])
def test_links_that_lead_out(repository: Path, target: str) -> None:
    deep = make_tree(repository, {"out": ("120000", b"../../etc"), "up": ("120000", b"..")})
    inner = make_tree(repository, {"x": ("120000", target.encode())})
    with pytest.raises(LayerError, match=r"the symlink '.*' points to '.*', outside the repository; remove it or make"):
        tree_entries(
            repository, make_tree(repository, {"x": ("120000", target.encode()), "deep": ("40000", deep.encode())})
        )
    if target == "../x":
        tree_entries(repository, make_tree(repository, {"inner": ("40000", inner.encode())}))


@pytest.mark.parametrize("target", [".", "a/..", "nowhere/yet", "dir/up/file", "dir/./up"])
def test_links_that_stay(repository: Path, target: str) -> None:
    inner = make_tree(repository, {"up": ("120000", b"..")})
    top = make_tree(repository, {"x": ("120000", target.encode()), "dir": ("40000", inner.encode())})
    entries = {entry.path: entry for entry in tree_entries(repository, top)}
    assert entries["srv/repo/x"].target == target


def test_links_in_circles_and_without_a_sensible_target(repository: Path) -> None:
    with pytest.raises(LayerError, match="circles"):
        tree_entries(repository, make_tree(repository, {"a": ("120000", b"b"), "b": ("120000", b"a")}))
    for target in (b"", b"x" * 5000, b"\xff"):
        with pytest.raises(LayerError, match="the symlink 'a'"):
            tree_entries(repository, make_tree(repository, {"a": ("120000", target)}))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (b"\xff", "not UTF-8"),
        (".git", "git directory"),
        (".GIT", "git directory"),
        ("..", "lead elsewhere"),
        (".", "lead elsewhere"),
        ("../evil", "lead elsewhere"),
        ("/etc", "lead elsewhere"),
        (".wh.start", "rename it"),
        ("n" * 300, "255 bytes"),
    ],
)
def test_names_that_are_refused(repository: Path, name: str | bytes, sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        tree_entries(repository, make_tree(repository, {name: ("100644", b"")}))


def test_trees_that_are_not_there(repository: Path) -> None:
    for tree_id in ("--help", "HEAD", "abc", "A" * 40):
        with pytest.raises(LayerError, match="not the id of a git tree"):
            tree_entries(repository, tree_id)
    with pytest.raises(LayerError, match="cannot be read from the repository"):
        tree_entries(repository, "1" * 40)


def test_a_repository_that_is_incomplete(repository: Path) -> None:
    top = make_tree(repository, {"a": ("100644", b"content")})
    entries = tree_entries(repository, top)
    oid = blob(repository, b"content")
    (repository / ".git/objects" / oid[:2] / oid[2:]).unlink()
    with pytest.raises(LayerError, match="incomplete"):
        written(entries)
    with pytest.raises(LayerError, match="incomplete"):
        written(tree_entries(repository, top))


def test_replaced_objects_are_not_followed(repository: Path) -> None:
    top = make_tree(repository, {"a": ("100644", b"true")})
    git(repository, "replace", blob(repository, b"true"), blob(repository, b"fake"))
    assert read_layer(written(tree_entries(repository, top))[0])["srv/repo/a"].data == b"true"
