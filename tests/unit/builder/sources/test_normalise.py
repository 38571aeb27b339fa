"""Wheels of the same content get the same bytes."""

import base64
import hashlib
import io
import random
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.layers.errors import LayerError
from builder.layers.wheel import InstallTarget, wheel_entries
from builder.layers.wheelfile import open_wheel
from builder.sources import normalise
from builder.sources.errors import SourceBuildError
from builder.sources.normalise import check_filename, normalise_wheel

NAME = "x-1.0-py3-none-any.whl"
INFO = "x-1.0.dist-info"


def wheel(files: dict[str, bytes], seed: int) -> bytes:
    """Return a wheel whose order, times, modes, compression and RECORD's order are of ``seed``."""
    chance = random.Random(seed)
    members = {
        **files,
        f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: x\nVersion: 1.0\n",
        f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{name},sha256={_hash(data)},{len(data)}" for name, data in members.items()] + [f"{INFO}/RECORD,,"]
    chance.shuffle(lines)
    members[f"{INFO}/RECORD"] = "\n".join([*lines, ""]).encode()
    names = list(members)
    chance.shuffle(names)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for name in names:
            about = zipfile.ZipInfo(name, (chance.randint(1980, 2100), 2, 3, 4, 5, 6))
            about.external_attr = chance.choice([0o100600, 0o100644, 0o100664]) << 16
            zipped.writestr(about, members[name], chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    return archive.getvalue()


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def normalised(directory: Path, content: bytes) -> bytes:
    raw, final = directory / NAME, directory / "final.whl"
    raw.write_bytes(content)
    normalise_wheel(raw, final)
    return final.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.from_regex(r"x/[a-z]{1,8}\.py", fullmatch=True), st.binary(max_size=3000), max_size=6),
    st.integers(),
    st.integers(),
)
def test_same_content_same_bytes(tmp_path: Path, files: dict[str, bytes], one: int, other: int) -> None:
    first = normalised(tmp_path, wheel(files, one))
    assert normalised(tmp_path, wheel(files, other)) == first
    assert normalised(tmp_path, first) == first
    (tmp_path / NAME).write_bytes(first)
    with open_wheel(tmp_path / NAME) as opened:
        paths = {entry.path for entry in wheel_entries(opened, InstallTarget())}
    assert {f"srv/env/lib/python3.13/site-packages/{name}" for name in files} <= paths


def test_the_record_comes_last(tmp_path: Path) -> None:
    content = normalised(tmp_path, wheel({"x/__init__.py": b"", "z.py": b""}, 3))
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        names = zipped.namelist()
    assert names == ["x/__init__.py", "z.py", f"{INFO}/METADATA", f"{INFO}/WHEEL", f"{INFO}/RECORD"]


@pytest.mark.parametrize("content", [b"", b"PK\5\6" + bytes(18), b"no zip"])
def test_what_is_no_wheel_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(LayerError):
        normalised(tmp_path, content)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalise, "MOST_UNPACKED", 1000)
    with pytest.raises(SourceBuildError, match=r"unpacks to more than"):
        normalised(tmp_path, wheel({"x/a.py": bytes(2000)}, 1))


@pytest.mark.parametrize("name", ["", "x.whl", "../x-1.0-py3-none-any.whl", "x-1.0-py3-none-a/y.whl", "x-1.0.tar.gz"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(SourceBuildError, match=r"is not the name of a wheel"):
        check_filename(name)
