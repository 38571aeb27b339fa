"""``pyproject.toml``: dependencies, the Python version, and where the project's packages lie."""

import pytest

from builder.environment.pyproject import read_pyproject
from builder.environment.spec import EnvironmentFileError

PROJECT = '[project]\nname = "analysis"\n'


def test_what_a_project_asks_for() -> None:
    text = (
        PROJECT + 'requires-python = ">=3.11,<4"\ndependencies = ["numpy>=2", "coffea[dask]; os_name == \'posix\'"]\n'
    )
    spec = read_pyproject("pyproject.toml", text.encode(), {"pyproject.toml", "src"})
    assert spec is not None
    assert (spec.kind, spec.file, spec.import_paths) == ("pyproject", "pyproject.toml", ("src",))
    assert [(str(item.requirement), item.source) for item in spec.requirements] == [
        ("numpy>=2", "pyproject.toml, dependency 1"),
        ('coffea[dask]; os_name == "posix"', "pyproject.toml, dependency 2"),
    ]
    assert "3.13.5" in spec.python
    assert "3.10.1" not in spec.python
    assert spec.python_source == "pyproject.toml: requires-python"


@pytest.mark.parametrize(
    ("path", "names", "expected"),
    [
        ("pyproject.toml", {"analysis"}, ("",)),
        ("pyproject.toml", {"src"}, ("src",)),
        ("sub/pyproject.toml", {"src"}, ("sub/src",)),
        ("sub/pyproject.toml", set(), ("sub",)),
    ],
)
def test_the_packages_are_imported_from_src_or_beside_the_file(
    path: str, names: set[str], expected: tuple[str, ...]
) -> None:
    spec = read_pyproject(path, PROJECT.encode(), names)
    assert spec is not None
    assert spec.import_paths == expected


def test_a_file_that_only_configures_tools_does_not_count() -> None:
    assert read_pyproject("pyproject.toml", b"[tool.ruff]\nline-length = 100\n", set()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[project", "pyproject.toml is not valid TOML"),
        (b"\xff", "pyproject.toml is not valid TOML"),
        ("project = 1", r"\[project\] is not a table"),
        (PROJECT + 'dynamic = ["version", "dependencies"]', "the dependencies are dynamic"),
        (PROJECT + 'requires-python = "three"', "requires-python 'three' is not a version specifier"),
        (PROJECT + 'dependencies = "numpy"', "dependencies is not a list"),
        (PROJECT + 'dependencies = ["numpy", "a b"]', "pyproject.toml, dependency 2: 'a b' is not a requirement"),
        (PROJECT + "dependencies = [1]", "pyproject.toml, dependency 1: 1 is not a requirement"),
        (PROJECT + 'dependencies = ["a @ https://host/a.whl"]', "dependency 1: .*does not come from the package index"),
    ],
)
def test_what_cannot_be_honoured_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(EnvironmentFileError, match=message):
        read_pyproject("pyproject.toml", text if isinstance(text, bytes) else text.encode(), set())
