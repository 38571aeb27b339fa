"""``pyproject.toml``: dependencies, groups, Python, and the repository's own project as an editable."""

from __future__ import annotations

import pytest

from builder.environment.spec import EnvironmentFileError
from tests.unit.builder.environment.in_memory import detected, requirements_of

PROJECT = '[project]\nname = "analysis"\nversion = "1.0"\n'
DYNAMIC = '[build-system]\nrequires = [{requires}]\nbuild-backend = "{backend}"\n[project]\nname = "ana"\n'
DYNAMIC += 'dynamic = ["version"]\n'


def dynamic(backend: str = "setuptools.build_meta", requires: str = '"setuptools"', rest: str = "") -> str:
    return DYNAMIC.format(backend=backend, requires=requires) + rest


def test_what_a_project_asks_for() -> None:
    text = (
        PROJECT
        + 'requires-python = ">=3.11,<4"\ndependencies = [\n"numpy>=2",\n"coffea[dask]; os_name == \'posix\'"]\n'
    )
    text += '[project.scripts]\nrun = "analysis.cli:main"\n[project.optional-dependencies]\nplots = ["mplhep"]\n'
    spec = detected({"pyproject.toml": text, "src/analysis/__init__.py": ""})
    assert (spec.kind, spec.file) == ("pyproject", "pyproject.toml")
    assert [(str(item.requirement), item.source) for item in spec.requirements] == [
        ("numpy>=2", "pyproject.toml, line 6"),
        ('coffea[dask]; os_name == "posix"', "pyproject.toml, line 7"),
    ]
    assert "3.13.5" in spec.python
    assert "3.10.1" not in spec.python
    assert spec.python_source == "pyproject.toml: requires-python"
    (project,) = spec.editables
    assert (project.name, project.version, project.import_paths) == ("analysis", "1.0", ("src",))
    assert project.entry_points == "[console_scripts]\nrun = analysis.cli:main\n"
    assert project.requires == ("numpy>=2", 'coffea[dask]; os_name == "posix"', 'mplhep; extra == "plots"')


@pytest.mark.parametrize(
    ("rest", "files", "version"),
    [
        (
            '[tool.setuptools.dynamic]\nversion = {attr = "ana.__version__"}\n',
            {"ana/__init__.py": '__version__ = "2.1"'},
            "2.1",
        ),
        ('[tool.setuptools.dynamic]\nversion = {file = "VERSION"}\n', {"VERSION": "3.0\n"}, "3.0"),
    ],
)
def test_a_version_that_stands_as_text(rest: str, files: dict[str, str | bytes], version: str) -> None:
    (project,) = detected({"pyproject.toml": dynamic(rest=rest), **files}).editables
    assert project.version == version


def test_hatch_and_flit_versions() -> None:
    files: dict[str, str | bytes] = {"src/ana/__init__.py": '__version__ = "2.1"\n'}
    hatch = dynamic("hatchling.build", '"hatchling"', '[tool.hatch.version]\npath = "src/ana/__init__.py"\n')
    assert detected({"pyproject.toml": hatch, **files}).editables[0].version == "2.1"
    assert (
        detected({"pyproject.toml": dynamic("flit_core.buildapi", '"flit_core"'), **files}).editables[0].version
        == "2.1"
    )


def test_a_version_of_the_history_is_not_known_and_its_module_is_written() -> None:
    text = dynamic(
        requires='"setuptools", "setuptools-scm>=8"', rest='[tool.setuptools_scm]\nversion_file = "ana/_version.py"\n'
    )
    spec = detected({"pyproject.toml": text, "ana/__init__.py": ""})
    (project,) = spec.editables
    assert project.version == "0+unknown"
    assert project.generated[0][0] == "ana/_version.py"
    assert "the version comes from the git history" in spec.notes[0]


@pytest.mark.parametrize(
    ("text", "others"),
    [
        (PROJECT + '[build-system]\nrequires = ["maturin"]\nbuild-backend = "maturin"\n', {}),
        (
            PROJECT
            + '[build-system]\nrequires = ["setuptools", "Cython>=3"]\nbuild-backend = "setuptools.build_meta"\n',
            {},
        ),
        (PROJECT, {"setup.py": "setup(ext_modules=[])"}),
        (dynamic(rest='[tool.setuptools.dynamic]\nversion = {attr = "ana.computed"}\n'), {"ana.py": "computed = f()"}),
        ('[build-system]\nrequires = ["setuptools"]\n', {"setup.py": "from setuptools import setup\nsetup(name='a')"}),
        ('[project]\nname = "a"\nversion = "1"\ndynamic = ["dependencies"]\n', {}),
    ],
)
def test_what_needs_code_is_built_from_source(text: str, others: dict[str, str | bytes]) -> None:
    spec = detected({"pyproject.toml": text, **others})
    assert not spec.editables
    assert [(source.kind, source.path, source.editable) for source in spec.sources] == [("local", "", True)]
    assert "is built from source, because" in " ".join(spec.notes)


def test_dynamic_dependencies_of_a_file_are_read() -> None:
    text = '[project]\nname = "a"\nversion = "1"\ndynamic = ["dependencies"]\n'
    text += '[tool.setuptools.dynamic]\ndependencies = {file = ["needs.txt"]}\n'
    spec = detected({"pyproject.toml": text, "needs.txt": "# all\nnumpy\n"})
    assert [(str(item.requirement), item.source) for item in spec.requirements] == [("numpy", "needs.txt, line 2")]


def test_groups_and_extras_as_configured() -> None:
    text = PROJECT + '[project.optional-dependencies]\nplots = ["mplhep"]\nall = ["analysis[plots]", "hist"]\n'
    text += '[dependency-groups]\nbinder = ["jupytext"]\ndev = [{include-group = "binder"}, "pytest"]\n'
    pairs: list[tuple[str, list[str]]] = [
        ("", ["jupytext"]),
        ("groups: [dev]\nextras: [all]\n", ["hist", "mplhep", "jupytext", "pytest"]),
        ("groups: []", []),
    ]
    for settings, expected in pairs:
        files: dict[str, str | bytes] = {"binder/casabinder.yaml": settings, "binder/pyproject.toml": text}
        assert sorted(requirements_of(detected(files))) == sorted(expected)


def test_only_groups() -> None:
    text = '[dependency-groups]\nbinder = ["numpy"]\n'
    assert requirements_of(detected({"pyproject.toml": text})) == ["numpy"]
    assert detected({"pyproject.toml": "[tool.ruff]\nline-length = 100\n"}).kind == "none"


def test_requirements_beside_a_package_install_both() -> None:
    text = PROJECT + '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    spec = detected({"requirements.txt": "numpy", "pyproject.toml": text, "analysis/__init__.py": ""})
    assert (requirements_of(spec), [project.name for project in spec.editables]) == (["numpy"], ["analysis"])
    spec = detected({"requirements.txt": "-e .", "pyproject.toml": text})
    assert len(spec.editables) == 1
    assert not detected({"binder/requirements.txt": "numpy", "pyproject.toml": text}).editables


def test_poetry() -> None:
    text = (
        '[tool.poetry]\nname = "ana"\nversion = "1.2"\n[tool.poetry.dependencies]\npython = "^3.11"\nnumpy = "^1.24"\n'
    )
    text += 'hist = {version = "~2.7", extras = ["plot"], markers = "sys_platform == \'linux\'"}\nuproot = "5.*"\n'
    text += 'awkward = [{version = "2.6", python = "<3.12"}, {version = ">=2.7", python = ">=3.12"}]\n'
    text += 'law = {git = "https://host/law.git", tag = "v1"}\n[tool.poetry.scripts]\ngo = "ana:main"\n'
    spec = detected({"pyproject.toml": text})
    assert requirements_of(spec) == [
        "numpy<2,>=1.24",
        'hist[plot]<2.8,>=2.7; sys_platform == "linux"',
        "uproot==5.*",
        'awkward==2.6; python_version < "3.12"',
        'awkward>=2.7; python_version >= "3.12"',
    ]
    assert [(source.url, source.ref, source.name) for source in spec.sources] == [("https://host/law.git", "v1", "law")]
    assert ("3.11.0" in spec.python, "4.0" in spec.python) == (True, False)
    assert spec.editables[0].version == "1.2"


def test_setup_cfg() -> None:
    text = "[metadata]\nname = ana\nversion = attr: ana.__version__\n[options]\npackage_dir =\n    = lib\n"
    text += "python_requires = >=3.10\ninstall_requires =\n    numpy\n    hist>=2\n"
    text += "[options.entry_points]\nconsole_scripts =\n    go = ana:main\n"
    files: dict[str, str | bytes] = {"setup.cfg": text, "lib/ana.py": "__version__ = '4.2'"}
    files["setup.py"] = "from setuptools import setup\n\nsetup()\n"
    spec = detected(files)
    (project,) = spec.editables
    assert (spec.kind, project.version, project.import_paths) == ("setup", "4.2", ("lib",))
    assert requirements_of(spec) == ["numpy", "hist>=2"]
    assert project.entry_points == "[console_scripts]\ngo = ana:main\n"
    assert [(source.kind, source.path) for source in detected({"setup.py": "x"}).sources] == [("local", "")]
    assert detected({"setup.cfg": "[flake8]\nmax-line-length = 100\n"}).kind == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[project]\na = ", r"pyproject.toml is not valid TOML: "),
        (b"\xff", "pyproject.toml, line 1: the file is not UTF-8"),
        ("project = 1", r"\[project\] is not a table"),
        ("[project]\n", "the project's name 'None' is not one"),
        (PROJECT + 'requires-python = "three"', "requires-python 'three' is not a version specifier"),
        (PROJECT + 'dependencies = "numpy"', "dependencies is not a list"),
        (PROJECT + 'dependencies = ["numpy",\n "a b"]', "pyproject.toml, line 5: 'a b' is not a requirement"),
        (PROJECT + "dependencies = [1]", "dependencies is not a list of strings"),
        (PROJECT + '[project.scripts]\n"a/b" = "x:y"\n', "the entry point 'a/b'"),
        (PROJECT + '[project.scripts]\na = "x:y\\nz"\n', "the entry point 'a'"),
        ('[project]\nname = "a"\nversion = "one"\n', "the version 'one' is not one"),
        (PROJECT + '[dependency-groups]\nbinder = [{include-group = "binder"}]\n', "include each other"),
        (PROJECT + '[dependency-groups]\na = [{include-group = "b"}]\n', "there is no dependency group 'b'"),
        ('[tool.poetry.dependencies]\nnumpy = "new"\n', "line 2: numpy 'new' is not a version constraint"),
        (
            '[tool.poetry.dependencies]\nnumpy = {path = "/etc"}\n',
            "line 2: '/etc' is not a directory of the repository",
        ),
        ("[tool.pixi.workspace]\nname = 'a'\n", r"\[tool.pixi\] of pyproject.toml decides"),
        ("a = " + "[" * 5000, "pyproject.toml is not valid TOML"),
    ],
)
def test_what_cannot_be_honoured_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(EnvironmentFileError, match=message):
        detected({"pyproject.toml": text})
