"""pyproject.toml is read out of archives that nobody trusts."""

import io
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builder.sources import sdist
from builder.sources.errors import SourceBuildError
from builder.sources.sdist import read_pyproject


def archive(directory: Path, files: dict[str, bytes], suffix: str = ".tar.gz") -> Path:
    path = directory / f"x-1.0{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, data in files.items():
                zipped.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
@pytest.mark.parametrize(
    ("files", "subdirectory", "text"),
    [
        ({"x-1.0/setup.py": b"", "x-1.0/pyproject.toml": b"one"}, "", b"one"),
        ({"./pyproject.toml": b"one", "x/pyproject.toml": b"two"}, "", b"one"),
        ({"x-1.0/pyproject.toml": b"one", "x-1.0/sub/pyproject.toml": b"two"}, "sub", b"two"),
        ({"x-1.0/setup.py": b"", "x-1.0/docs/a/pyproject.toml": b"two"}, "", None),
        ({"x-1.0/setup.py": b""}, "", None),
    ],
)
def test_the_projects_own_file_is_found(
    tmp_path: Path, suffix: str, files: dict[str, bytes], subdirectory: str, text: bytes | None
) -> None:
    assert read_pyproject(archive(tmp_path, files, suffix), subdirectory) == text


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_a_text_that_is_too_long(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(SourceBuildError, match=r"pyproject.toml has more than 1 MiB"):
        read_pyproject(archive(tmp_path, {"x/pyproject.toml": bytes(2**20 + 1)}, suffix))


def test_an_archive_with_too_much_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdist, "MOST_UNPACKED", 10_000)
    with pytest.raises(SourceBuildError, match=r"has more in it than a source may have"):
        read_pyproject(archive(tmp_path, {"x/data": bytes(20_000), "x/pyproject.toml": b""}))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        about = tarfile.TarInfo("x/pyproject.toml")
        about.type, about.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(about)
    assert read_pyproject(path) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=2000), suffix=st.sampled_from(sdist.SUFFIXES), cut=st.integers(0, 200))
@example(data=b"\x04", suffix=".tar.gz", cut=3)
@example(data=b"\x1f\x8b\x08", suffix=".tar.gz", cut=0)
def test_damaged_archives_are_read_or_refused(tmp_path: Path, data: bytes, suffix: str, cut: int) -> None:
    path = tmp_path / f"y{suffix}"
    whole = archive(tmp_path, {"x/pyproject.toml": b"text"}, ".zip" if suffix == ".zip" else ".tar.gz").read_bytes()
    for content in (data, whole[:cut] + data + whole[cut:], whole[:-cut]):
        path.write_bytes(content)
        with suppress(SourceBuildError):
            read_pyproject(path)
