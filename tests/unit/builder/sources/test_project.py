"""What a project says about its own build."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.sources.errors import SourceBuildError
from builder.sources.project import BuildSystem, read_build_system


def test_projects_that_state_nothing_get_setuptools() -> None:
    legacy = BuildSystem(("setuptools>=40.8.0",), "setuptools.build_meta:__legacy__")
    assert read_build_system(None, "x") == legacy
    assert read_build_system(b"[project]\nname = 'x'\n", "x") == legacy
    stated = read_build_system(b"[build-system]\nrequires = ['setuptools', 'wheel']\n", "x")
    assert stated == BuildSystem(("setuptools", "wheel"), "setuptools.build_meta:__legacy__")


def test_a_stated_build_system() -> None:
    text = b'[build-system]\nrequires = ["Hatchling >=1"]\nbuild-backend = "a.b:c"\nbackend-path = ["tools"]\n'
    assert read_build_system(text, "x") == BuildSystem(("Hatchling>=1",), "a.b:c", ("tools",))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[build-system", "pyproject.toml is not valid TOML"),
        ("[build-system]\n", "`requires` must be a list"),
        ("build-system = 3", "`requires` must be a list"),
        ("[build-system]\nrequires = [1]", "`requires` must be a list"),
        ("[build-system]\nrequires = ['-r /etc/passwd']", "'-r /etc/passwd' is not a requirement"),
        ("[build-system]\nrequires = ['a\\n--index-url=x']", "is not a requirement"),
        ("[build-system]\nrequires = ['a @ file:///etc/x']", "is not from the package index"),
        ("[build-system]\nrequires = []\nbuild-backend = 'a; import os'", "`build-backend` must be a module"),
        ("[build-system]\nrequires = []\nbackend-path = ['../x']", "`backend-path` must be a list of directories"),
        ("[build-system]\nrequires = []\nbackend-path = ['/x']", "`backend-path` must be a list of directories"),
    ],
)
def test_wrong_tables_are_named(text: str, sentence: str) -> None:
    with pytest.raises(SourceBuildError, match=r"^the thing: ") as caught:
        read_build_system(text.encode(), "the thing")
    assert sentence in str(caught.value)


@given(st.binary())
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    with suppress(SourceBuildError):
        read_build_system(text, "x")
