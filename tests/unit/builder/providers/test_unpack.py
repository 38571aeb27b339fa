"""Archives of strangers: what comes out, and what is refused."""

from __future__ import annotations

import io
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.providers.unpack import is_archive, unpack
from builder.repository.fetching import Fetching
from builder.repository.spec import RepositoryError


def tar(path: Path, *members: tuple[str, bytes, str, str], mode: str = "w:gz") -> Path:
    """Write a tar file; a member is name, type, content or target, and mode (octal)."""
    with tarfile.open(path, mode) as target:  # type: ignore[call-overload]
        for name, kind, content, bits in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, int(bits, 8)
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = content
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            target.addfile(info, io.BytesIO(content.encode()))
    return path


def zipped(path: Path, *members: tuple[str, bytes, int]) -> Path:
    """Write a zip file; a member is name, content and Unix mode."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            target.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def came_out(archive: Path, fetching: Fetching = Fetching()) -> dict[str, tuple[str, bytes]]:  # noqa: B008 - frozen
    with tempfile.TemporaryDirectory() as directory:
        members = unpack(archive, Path(directory) / "out", "the record", fetching)
        return {member.path: (member.mode, member.content.read_bytes()) for member in members}


REG, SYM, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def test_files_links_and_executable_bits(tmp_path: Path) -> None:
    expected = {
        "a": ("100644", b"A"),
        "d/run": ("100755", b"#!"),
        "d/link": ("120000", b"../a"),
    }
    members = (("./a", REG, "A", "600"), ("d/run", REG, "#!", "755"), ("d/link", SYM, "../a", "777"))
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        assert came_out(tar(tmp_path / "x", *members, mode=mode)) == expected
    linked = tar(tmp_path / "hard", ("a", REG, "A", "755"), ("b", HARD, "a", "644"))
    assert came_out(linked)["b"] == ("100755", b"A")
    zip_ = zipped(tmp_path / "z", ("a", b"A", 0), ("d/run", b"#!", 0o100755), ("d/link", b"../a", stat.S_IFLNK | 0o777))
    assert came_out(zip_) == expected


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("../x", REG, "", "644"), "has no place in a repository"),
        (("/etc/x", REG, "", "644"), "has no place in a repository"),
        (("a/../x", REG, "", "644"), "has no place in a repository"),
        ((".git/hooks/x", REG, "", "644"), "has no place in a repository"),
        (("d/.GIT/x", REG, "", "644"), "has no place in a repository"),
        (("x", SYM, "/etc/passwd", "777"), "is a symlink that leads out of it"),
        (("d/x", SYM, "../../x", "777"), "is a symlink that leads out of it"),
        (("x", HARD, "nothing", "644"), "is a link to what is not there"),
        (("x", HARD, "../x", "644"), "has no place in a repository"),
        (("x", tarfile.CHRTYPE, "", "644"), "is a device or a pipe"),
        (("x", tarfile.FIFOTYPE, "", "644"), "is a device or a pipe"),
        (("a", REG, "again", "644"), "is there twice"),
    ],
)
def test_what_is_refused(tmp_path: Path, member: tuple[str, bytes, str, str], message: str) -> None:
    with pytest.raises(RepositoryError, match=message):
        came_out(tar(tmp_path / "x.tar", ("a", REG, "A", "644"), member))


def test_what_is_refused_of_a_zip(tmp_path: Path) -> None:
    for name, mode, content in (("../x", 0, b""), ("x", stat.S_IFLNK, b"/etc"), ("x", stat.S_IFCHR, b"")):
        with pytest.raises(RepositoryError, match="the archive of the record holds"):
            came_out(zipped(tmp_path / "x", (name, content, mode)))


def test_limits(tmp_path: Path) -> None:
    many = zipped(tmp_path / "many", *((str(number), b"", 0) for number in range(20)))
    with pytest.raises(RepositoryError, match="has more than the 5 files"):
        came_out(many, Fetching(max_files=5))
    bomb = zipped(tmp_path / "bomb", ("zeros", bytes(60 * 2**20), 0))
    with pytest.raises(RepositoryError, match="unpacks to more than 200 times its size"):
        came_out(bomb)
    with pytest.raises(RepositoryError, match="a file may have 1 MB"):
        came_out(bomb, Fetching(max_file_bytes=10**6))
    with pytest.raises(RepositoryError, match="more than the 1 MB"):
        came_out(bomb, Fetching(max_bytes=10**6))
    with pytest.raises(RepositoryError, match="is empty"):
        came_out(zipped(tmp_path / "empty"))


@given(data=st.data())
def test_a_damaged_archive_is_refused_with_a_sentence(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("damaged")
    whole = zipped(directory / "x", ("a", b"A" * 100, 0), ("b/c", b"BC" * 50, 0o755))
    if data.draw(st.booleans()):
        whole = tar(directory / "y", ("a", REG, "A" * 100, "644"), ("b", SYM, "a", "777"), mode="w")
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    whole.write_bytes(content)
    if not is_archive(whole):
        return
    try:
        for path in came_out(whole):
            assert not path.startswith("/")
            assert ".." not in path.split("/")
    except RepositoryError:
        return
