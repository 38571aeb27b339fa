"""Layers as archives: what other readers find in them, that their bytes never change, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import tarfile
import time
import zlib
from typing import TYPE_CHECKING

import deflate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.layers import archive
from builder.layers.archive import PIECE, VERBATIM, check_compressor, check_path, write_layer
from builder.layers.content import content_size
from builder.layers.errors import LayerError
from builder.layers.layer import Deflated, Entry, Streamed
from builder.layers.tarheader import SOURCE_DATE, tar_header
from tests.unit.builder.layers.helpers import read_layer, written

if TYPE_CHECKING:
    from pathlib import Path

NOISE = random.Random(1).randbytes(3 * PIECE + 12345)


def deflated(data: bytes, **lie: int | str) -> Deflated:
    """Content as a wheel has it, with ``lie`` instead of the truth."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
    raw = compressor.compress(data) + compressor.flush()
    facts = {"compressed_size": len(raw), "crc32": zlib.crc32(data), "size": len(data), **lie}
    return Deflated(chunks=lambda: iter([raw[:1000], raw[1000:]]), **facts)  # type: ignore[arg-type]


def streamed(data: bytes, checksum: str = "") -> Streamed:
    return Streamed(lambda: io.BytesIO(data), len(data), checksum)


SAMPLE = (
    Entry("srv/repo", "directory", mode=0o750, uid=1000, gid=1000),
    Entry("srv/repo/start", "file", b"#!/bin/sh\n", mode=0o755, uid=1000, gid=1000),
    Entry("srv/repo/data", "symlink", target="../shared"),
    Entry("srv/repo/zürich/" + "long/" * 60 + "name.txt", "file", b"far down"),
    Entry("srv/repo/notes.txt", "file", streamed(b"some text\n" * 1000)),
    Entry("srv/env/old.py", "whiteout"),
)


def test_golden_digest() -> None:
    """The bytes of a layer are the same on every machine; a change of these digests is a change of RECIPE."""
    _, layer = written(SAMPLE)
    assert layer.digest == "sha256:8f8f70040344ac92ed6041bbe5437a4ee38895cd56ddd20f442ec8bf3425986f"
    assert layer.diff_id == "sha256:3f3d9aae1ee6d3515a2ea311c4bc11c95619ae4beb9589ee151777c73665e6d8"


def test_digest_and_diff_id_are_of_blob_and_tar() -> None:
    blob, layer = written([Entry("a", "file", deflated(NOISE)), Entry("b", "file", streamed(NOISE))])
    assert layer.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(blob)).hexdigest()}"
    assert layer.size == len(blob)


def test_readers_find_what_was_written() -> None:
    blob, _ = written(SAMPLE)
    found = read_layer(blob)
    assert list(found)[:4] == ["srv", "srv/env", "srv/env/.wh.old.py", "srv/repo"]
    assert found["srv"].kind == tarfile.DIRTYPE
    assert (found["srv"].mode, found["srv"].owner) == (0o755, (0, 0))
    assert (found["srv/repo"].mode, found["srv/repo"].owner) == (0o750, (1000, 1000))
    assert (found["srv/repo/start"].mode, found["srv/repo/start"].data) == (0o755, b"#!/bin/sh\n")
    assert (found["srv/repo/data"].kind, found["srv/repo/data"].target) == (tarfile.SYMTYPE, "../shared")
    assert found["srv/repo/zürich/" + "long/" * 60 + "name.txt"].data == b"far down"
    assert found["srv/repo/notes.txt"].data == b"some text\n" * 1000
    assert (found["srv/env/.wh.old.py"].mode, found["srv/env/.wh.old.py"].data) == (0, b"")


def test_nothing_of_time_and_names_is_in_it() -> None:
    blob, _ = written(SAMPLE)
    assert blob[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as tar:
        assert {(member.mtime, member.uname, member.gname) for member in tar} == {(SOURCE_DATE, "", "")}


def test_deflated_content_is_kept_verbatim_unless_it_is_tiny() -> None:
    big, small = deflated(NOISE), deflated(b"small" * 1000)
    blob, _ = written([Entry("big", "file", big), Entry("small", "file", small)])
    assert big.compressed_size >= VERBATIM > small.compressed_size
    assert b"".join(big.chunks()) in blob
    assert b"".join(small.chunks()) not in blob


names = st.text("abcZ09 .-_é漢", min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and not name.startswith(".wh.")
)
paths = st.lists(names, min_size=1, max_size=12).map("/".join)
contents = st.binary(max_size=3000).flatmap(
    lambda data: st.sampled_from([(data, data), (data, deflated(data)), (data, streamed(data))])
)


@given(st.dictionaries(paths, st.tuples(contents, st.sampled_from([0o644, 0o755, 0o4711]), st.integers(0, 70000))))
def test_tarfile_reads_back_exactly(files: dict[str, tuple[tuple[bytes, bytes], int, int]]) -> None:
    clash = {path for path in files for other in files if other.startswith(f"{path}/")}
    files = {path: file for path, file in files.items() if path not in clash}
    entries = [Entry(path, "file", content, mode, uid, uid) for path, ((_, content), mode, uid) in files.items()]
    blob, layer = written(entries)
    found = read_layer(blob)
    assert {path: member.data for path, member in found.items() if member.kind == tarfile.REGTYPE} == {
        path: data for path, ((data, _), _, _) in files.items()
    }
    for path, (_, mode, uid) in files.items():
        assert (found[path].mode, found[path].owner) == (mode, (uid, uid))
    assert list(found) == sorted(found)
    assert written(reversed(entries))[1] == layer


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 200, 255, 256, 257, 300])
def test_headers_at_the_limits_of_ustar(length: int) -> None:
    path = ("d" * 49 + "/") * (length // 50) + "f" * (length % 50 or 1)
    target = "t" * length
    blob, _ = written([Entry(path, "file", b"x"), Entry("link", "symlink", target=target)])
    found = read_layer(blob)
    assert found[path].data == b"x"
    assert found["link"].target == target


def test_a_size_too_large_for_ustar() -> None:
    header = tar_header(Entry("big", "file"), 9 * 1024**3)
    member = tarfile.TarInfo.frombuf(header[-512:], "utf-8", "strict")
    assert b"19 size=9663676416\n" in header
    assert member.name == "big"


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", "./a", "a\0b", "a/.wh.b", ".wh..wh..opq", "a\udc80", "x" * 256],
)
def test_unusable_paths_are_refused(path: str) -> None:
    with pytest.raises(LayerError, match=r"^the path "):
        written([Entry(path, "file")])


@given(st.text(max_size=30))
def test_a_path_that_is_accepted_stays_inside(path: str) -> None:
    try:
        check_path(path)
    except LayerError:
        return
    assert os.path.normpath(os.path.join("/image", path)) == f"/image/{path}"  # noqa: PTH118


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([Entry("a", "file"), Entry("a", "file")], "two entries"),
        ([Entry("a", "directory"), Entry("a", "directory", mode=0o700)], "two entries"),
        ([Entry("a", "file"), Entry("a/b", "file")], "not a directory"),
        ([Entry("a", "symlink", target="/etc"), Entry("a/b/c", "file")], "not a directory"),
        ([Entry("a", "whiteout"), Entry("a/b", "file")], "not a directory"),
        ([Entry("a", "symlink", target="")], "unusable target"),
        ([Entry("a", "symlink", target="b\0")], "unusable target"),
        ([Entry("a", "symlink", target="\udc80")], "not UTF-8"),
        ([Entry("a", "file", mode=0o10000)], "mode"),
        ([Entry("a", "file", uid=1 << 21)], "owner"),
    ],
)
def test_entries_that_contradict_each_other_are_refused(entries: list[Entry], sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        written(entries)


def test_identical_directories_are_one() -> None:
    entry = Entry("a", "directory", mode=0o755)
    blob, _ = written([entry, Entry("a", "directory", mode=0o755)])
    assert list(read_layer(blob)) == ["a"]


@pytest.mark.parametrize("data", [b"", b"tiny" * 50, NOISE[:100_000]])
@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        ({"crc32": 12}, "CRC-32"),
        ({"size": 0xFFFF}, "bytes it is said|and not the"),
        ({"size": 100}, "longer|and not the"),
        ({"compressed_size": 200_000}, "too early or too late"),
        ({"checksum": "sha256:" + "0" * 64}, "sha256 checksum"),
    ],
)
def test_content_that_lies_is_refused(data: bytes, lie: dict[str, int | str], sentence: str) -> None:
    with pytest.raises(LayerError, match=f"'dir/liar'.*({sentence})"):
        written([Entry("dir/liar", "file", deflated(data, **lie))])


@pytest.mark.parametrize("junk", [b"junk", b"\0"])
@pytest.mark.parametrize("data", [b"", b"tiny" * 50, NOISE[:100_000]])
def test_bytes_after_a_deflate_stream_are_refused(data: bytes, junk: bytes) -> None:
    honest = deflated(data)
    chunks = [*honest.chunks(), junk]
    for arrangement in (chunks, [b"".join(chunks)]):
        content = Deflated(lambda a=arrangement: iter(a), honest.compressed_size, honest.crc32, honest.size)  # type: ignore[misc]
        with pytest.raises(LayerError, match=r"after the end|too late"):
            written([Entry("liar", "file", content)])


def test_a_damaged_or_cut_stream_is_refused() -> None:
    honest = deflated(NOISE[:100_000])
    raw = b"".join(honest.chunks())
    for damaged in (raw[:-10], raw[:20_000], b"\xff" * len(raw)):
        content = Deflated(lambda d=damaged: iter([d]), honest.compressed_size, honest.crc32, honest.size)  # type: ignore[misc]
        with pytest.raises(LayerError, match="'cut'"):
            written([Entry("cut", "file", content)])


def test_streams_of_the_wrong_size_or_checksum_are_refused() -> None:
    for content in (Streamed(lambda: io.BytesIO(b"abc"), 2), Streamed(lambda: io.BytesIO(b"abc"), 4)):
        with pytest.raises(LayerError, match="said to have"):
            written([Entry("a", "file", content)])
    with pytest.raises(LayerError, match="checksum"):
        written([Entry("a", "file", streamed(b"abc", "sha512:" + "0" * 128))])


def test_a_bomb_is_inflated_in_small_steps_and_stopped_at_its_announced_size() -> None:
    bomb = deflated(bytes(200 * 1024 * 1024), size=10_000)
    with pytest.raises(LayerError, match="longer than the 10000 bytes"):
        written([Entry("bomb", "file", bomb)])


def test_content_that_fills_the_buffer_exactly() -> None:
    """The decompressor may hold back output when the buffer is full though it has all its input."""
    for size in (PIECE - 1, PIECE, PIECE + 1, 2 * PIECE):
        blob, _ = written([Entry("a", "file", deflated(bytes(size)))])
        assert read_layer(blob)["a"].data == bytes(size)


def test_the_environment_has_no_influence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, before = written(SAMPLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("HOME", str(tmp_path))
    time.tzset()
    mask = os.umask(0o077)
    try:
        assert written(SAMPLE)[1] == before
    finally:
        os.umask(mask)
        monkeypatch.undo()
        time.tzset()


def test_another_compressor_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = deflate.deflate_compress

    def other(data: bytes, level: int) -> bytearray:
        return bytearray(real(data, level + 1))

    check_compressor.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(archive.deflate, "deflate_compress", other)  # type: ignore[attr-defined]
        with pytest.raises(LayerError, match="install deflate=="):
            write_layer([], io.BytesIO())
    check_compressor()


def test_sizes_are_of_files_only() -> None:
    assert content_size(Entry("a", "directory", b"ignored")) == 0
    assert content_size(Entry("a", "file", streamed(b"abc"))) == 3
