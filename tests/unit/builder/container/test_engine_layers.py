from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.container.engine_layers import copied_roots, is_dropped, read_changes, read_entries, whiteouts_of
from builder.layers.archive import write_layer
from builder.layers.content import read_content
from builder.layers.errors import LayerError
from builder.layers.layer import Entry

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.text("ab.-_é", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(st.one_of(NAMES, st.sampled_from(["usr", "var", "srv", "home", "etc"])), min_size=1, max_size=5).map(
    "/".join
)


@pytest.mark.parametrize(
    "path",
    [
        "etc/resolv.conf",
        "etc/hostname",
        "etc/passwd-",
        ".dockerenv",
        "run/x",
        "tmp",
        "tmp/a/b",
        "root/.wget-hsts",
        "var/lib/apt/lists/deb_main",
        "var/cache/apt/pkgcache.bin",
        "var/cache/ldconfig/aux-cache",
        "var/log/dpkg.log",
        "var/lib/dpkg/lock",
        "var/lib/dpkg/triggers/Lock",
        "var/lib/dpkg/status-old",
        "home/jovyan/.cache/pip/x",
        "home/jovyan/.npm/_cacache/a",
        "usr/lib/python3/dist-packages/__pycache__/a.cpython-313.pyc",
    ],
)
def test_what_says_only_when_and_where_a_step_ran_is_left_out(path: str) -> None:
    assert is_dropped(path)


@pytest.mark.parametrize(
    "path",
    [
        "etc/passwd",
        "etc/ld.so.cache",
        "usr/bin/tree",
        "var/lib/dpkg/status",
        "home/jovyan",
        "home/jovyan/.local/bin/mine",
        "srv/repo/tmp/x",
        "srv/repo/root",
        "runner/x",
        "srv/repo/.cache/x",
        "var/log/shiny-server",
        "var/log/shiny-server.log",
        "run/shiny-server.pid",
    ],
)
def test_what_a_step_made_is_kept(path: str) -> None:
    assert not is_dropped(path)


def test_reading_what_the_engine_says_of_changes() -> None:
    changes = read_changes("C /usr\nA /usr/bin/trée x\nD /etc/motd\nA /tmp/a\nD /run/b\n".encode())
    assert changes.there == {"usr", "usr/bin/trée x"}
    assert changes.gone == {"etc/motd"}


@pytest.mark.parametrize("said", [b"A /a\nb\n", b"A /\xff\n", b"X /a\n"])
def test_names_that_can_not_be_read_are_refused(said: bytes) -> None:
    with pytest.raises(LayerError, match="rename it"):
        read_changes(said)


@given(st.sets(PATHS))
def test_all_that_changed_lies_in_what_is_copied(paths: set[str]) -> None:
    roots = copied_roots(paths)
    for path in paths:
        if path not in ("usr", "var", "srv", "home", "opt"):
            assert [root for root in roots if path == root or path.startswith(f"{root}/")]


def archive(*members: tuple[str, bytes, dict[str, object]]) -> io.BytesIO:
    """A tar as ``docker cp`` gives it: (name, content, attributes)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content, attributes in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mtime = 1_700_000_000
            for key, value in attributes.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    stream.seek(0)
    return stream


def entries_of(stream: io.BytesIO, root: str, wanted: set[str], spool: Path) -> dict[str, Entry]:
    with spool.open("ab") as sink:
        return {entry.path: entry for entry in read_entries(stream, root, frozenset(wanted), sink, spool)}


DIRECTORY = {"type": tarfile.DIRTYPE, "mode": 0o750, "uid": 1000, "gid": 1000}


def test_entries_of_a_copied_directory(tmp_path: Path) -> None:
    stream = archive(
        ("repo/", b"", DIRECTORY),
        ("repo/old.txt", b"unchanged", {}),
        ("repo/new.txt", b"new", {"mode": 0o4755, "uid": 1000, "gid": 1000, "uname": "jovyan"}),
        ("repo/same.txt", b"", {"type": tarfile.LNKTYPE, "linkname": "repo/new.txt"}),
        ("repo/link", b"", {"type": tarfile.SYMTYPE, "linkname": "../../etc/passwd"}),
        ("repo/pipe", b"", {"type": tarfile.FIFOTYPE}),
    )
    wanted = {"srv/repo", *(f"srv/repo/{name}" for name in ("new.txt", "same.txt", "link", "pipe"))}
    found = entries_of(stream, "srv/repo", wanted, tmp_path / "spool")
    assert set(found) == wanted - {"srv/repo/pipe"}
    assert found["srv/repo"] == Entry("srv/repo", "directory", mode=0o750, uid=1000, gid=1000)
    new = found["srv/repo/new.txt"]
    assert (new.mode, new.uid, b"".join(read_content(new))) == (0o4755, 1000, b"new")
    assert b"".join(read_content(found["srv/repo/same.txt"])) == b"new"
    assert found["srv/repo/link"].target == "../../etc/passwd"


def test_when_a_step_ran_does_not_decide_its_layer(tmp_path: Path) -> None:
    digests = set()
    for number, mtime in enumerate((1_000_000_000, 1_700_000_000)):
        stream = archive(
            ("etc/", b"", {"type": tarfile.DIRTYPE, "mtime": mtime}), ("etc/a", b"a" * 3000, {"mtime": mtime})
        )
        found = entries_of(stream, "etc", {"etc", "etc/a"}, tmp_path / f"spool{number}")
        digests.add(write_layer(found.values(), io.BytesIO()).digest)
    assert len(digests) == 1


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_a_device_is_refused(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="device /srv/repo/sda"):
        entries_of(archive(("repo/sda", b"", {"type": kind})), "srv/repo", {"srv/repo/sda"}, tmp_path / "spool")


def test_a_hard_link_to_something_unchanged_is_refused(tmp_path: Path) -> None:
    stream = archive(("etc/b", b"", {"type": tarfile.LNKTYPE, "linkname": "etc/passwd"}))
    with pytest.raises(LayerError, match="copy it instead"):
        entries_of(stream, "etc", {"etc/b"}, tmp_path / "spool")


def test_members_that_were_not_asked_for_never_become_entries(tmp_path: Path) -> None:
    stream = archive(("../../etc/passwd", b"x", {}), ("/etc/shadow", b"x", {}))
    assert entries_of(stream, "srv/repo", {"srv/repo/a"}, tmp_path / "spool") == {}


def test_only_the_topmost_of_what_is_gone_is_whited_out() -> None:
    there = {"etc/b": Entry("etc/b", "file", b""), "etc/d": Entry("etc/d", "directory")}
    gone = frozenset({"etc/a", "etc/a/x", "etc/b/below-a-file", "etc/d/x", "etc/b"})
    assert [entry.path for entry in whiteouts_of(gone, there)] == ["etc/a", "etc/d/x"]


@given(st.sets(PATHS), st.sets(PATHS))
def test_whiteouts_and_files_never_clash(there: set[str], gone: set[str]) -> None:
    files = {path for path in there if not any(other.startswith(f"{path}/") for other in there)}
    found = {path: Entry(path, "file" if path in files else "directory") for path in there}
    for path in there:
        while "/" in path:
            path = path.rpartition("/")[0]
            found.setdefault(path, Entry(path, "directory"))
    entries = whiteouts_of(frozenset(gone), found)
    write_layer([*found.values(), *entries], io.BytesIO())
