"""Which file decides a repository's environment, in real git trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.environment.detect import detect
from builder.environment.spec import EnvironmentFileError, EnvironmentSpec
from builder.repository.checkout import checkout, resolve_ref
from builder.repository.spec import RepoSpec
from registry_sync.errors import CasabinderError
from tests.testbed.git_repository import commit_files

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = '[project]\nname = "a"\nversion = "1"\ndependencies = ["hist"]\n'


def detected(
    tmp_path: Path, files: dict[str, str], links: dict[str, str] | None = None, subdirectory: str = ""
) -> EnvironmentSpec:
    commit_files(tmp_path / "repo", files, links=links)
    spec = RepoSpec(str(tmp_path / "repo"), subdirectory=subdirectory)
    return detect(checkout(resolve_ref(spec), tmp_path / "cache"))


@pytest.mark.parametrize(
    ("files", "kind", "file"),
    [
        ({"README.md": ""}, "none", ""),
        ({"requirements.txt": "numpy"}, "requirements", "requirements.txt"),
        ({"binder/requirements.txt": "numpy", "requirements.txt": "hist"}, "requirements", "binder/requirements.txt"),
        ({".binder/requirements.txt": "numpy"}, "requirements", ".binder/requirements.txt"),
        ({"binder/README": "", "requirements.txt": "hist"}, "none", ""),
        ({"pyproject.toml": PROJECT}, "pyproject", "pyproject.toml"),
        ({"pyproject.toml": PROJECT, "requirements.txt": "numpy"}, "requirements", "requirements.txt"),
        ({"pyproject.toml": "[tool.x]\n"}, "none", ""),
        ({"pyproject.toml": PROJECT, "setup.py": ""}, "pyproject", "pyproject.toml"),
        ({"setup.py": "", "pyproject.toml": "[tool.x]\n"}, "setup", "setup.py"),
        ({"binder": "a file, not a directory", "requirements.txt": "numpy"}, "requirements", "requirements.txt"),
    ],
)
def test_the_file_that_decides(tmp_path: Path, files: dict[str, str], kind: str, file: str) -> None:
    spec = detected(tmp_path, files)
    assert (spec.kind, spec.file) == (kind, file)


def test_below_a_subdirectory_only_its_files_count(tmp_path: Path) -> None:
    files = {"requirements.txt": "numpy", "sub/pyproject.toml": PROJECT, "sub/src/a.py": ""}
    spec = detected(tmp_path, files, subdirectory="sub")
    assert (spec.file, spec.editables[0].import_paths) == ("sub/pyproject.toml", ("sub/src",))


def test_binder_twice(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFileError, match=r"both binder/ and \.binder/; keep one"):
        detected(tmp_path, {"binder/requirements.txt": "", ".binder/requirements.txt": ""})


@pytest.mark.parametrize(("text", "fits"), [("python-3.13", True), ("python-3.13.5\n", True), ("python-3.11", False)])
def test_runtime_txt_narrows_the_python_version(tmp_path: Path, text: str, fits: bool) -> None:
    spec = detected(tmp_path, {"runtime.txt": text, "requirements.txt": ""})
    assert ("3.13.5" in spec.python) is fits
    assert spec.python_source == "runtime.txt"


def test_runtime_txt_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFileError, match=r"runtime.txt, line 1: 'ruby-3' is not understood"):
        detected(tmp_path, {"runtime.txt": "ruby-3"})


def test_a_symlink_within_the_repository_is_followed(tmp_path: Path) -> None:
    spec = detected(tmp_path, {"env/all.txt": "numpy"}, links={"binder/requirements.txt": "../env/all.txt"})
    assert [str(item.requirement) for item in spec.requirements] == ["numpy"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/etc/passwd", "requirements.txt is a symlink that leads out of the repository; remove it"),
        ("../outside", "requirements.txt is a symlink that leads out of the repository; remove it"),
        ("nowhere.txt", "requirements.txt is not a file, or a symlink to none"),
        ("directory", "requirements.txt is not a file, or a symlink to none"),
        ("requirements.txt", "requirements.txt is a symlink that leads nowhere"),
    ],
)
def test_a_symlink_that_leads_elsewhere_is_refused(tmp_path: Path, target: str, message: str) -> None:
    with pytest.raises(CasabinderError, match=message):
        detected(tmp_path, {"directory/file": ""}, links={"requirements.txt": target})


def test_a_directory_of_the_name_of_a_file(tmp_path: Path) -> None:
    for name in ("requirements.txt", "pyproject.toml"):
        with pytest.raises(EnvironmentFileError, match=f"{name} is not a file"):
            detected(tmp_path / name, {f"{name}/file": ""})
