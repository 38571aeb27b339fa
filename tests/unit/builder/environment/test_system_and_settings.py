"""``runtime.txt``, ``apt.txt``, ``postBuild``, other languages, ``casabinder.yaml``, and precedence."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.environment.spec import ContainerSteps, EnvironmentFileError
from tests.unit.builder.environment.in_memory import detected, requirements_of

ALL = "base: hep\npython: '3.12'\nas_of: 2023-05-01\nextras: [plots]\nresources:\n"
ALL += "  cpus: 2\n  memory: 4G\nworkers: 3\n"
REAL = {
    "nanoaod": "awkward==2.9.0\nmatplotlib==3.10.9\nnumpy==2.2.6\nuproot==5.7.4\nfsspec_xrootd==0.5.4\nxrootd\n",
    "agc": "cabinetry>=0.6.0\nscikit-learn>=1.0\nxgboost>=1.0\ncoffea>=2024.9.0\nservicex>=3.0.0\n",
    "event-plotting": "awkward==1.10.3\ncoffea==0.7.21\nmatplotlib==3.7.1\n"
    "numpy==1.23.5\nparticle==0.21.0\nuproot==4.1.6\n",
    "pocket-coffea": "coffea==0.7.22\nawkward>=1.10.3,<2\nbokeh==2.4.2\nlaw\nparsl\nrucio-clients\n",
    "atlas": "coffea~=0.7.0\nawkward>=2.6.7\nuproot>=5.3.10\nhist>=2.8.0\nnumpy>=1.26.4\nuproot3\n",
    "cms-ttbar": "coffea>=0.7.22,<1.0\nsetuptools>=70,<71\nvector>=0.8.5,<1.2.0\n"
    "xgboost>=1.0,<1.8\nfunc-adl-servicex\n",
}


@pytest.mark.parametrize("text", REAL.values(), ids=REAL)
def test_real_lists(text: str) -> None:
    assert len(requirements_of(detected({"requirements.txt": text}))) == len(text.splitlines())


@pytest.mark.parametrize(
    ("text", "python", "as_of"),
    [
        ("python-3.11", "==3.11.*", ""),
        ("python-3.11.4\n", "==3.11.*", ""),
        ("python-3.11-2023-05-01", "==3.11.*", "2023-05-01"),
        ("python-2023-05-01", "", "2023-05-01"),
    ],
)
def test_runtime(text: str, python: str, as_of: str) -> None:
    spec = detected({"runtime.txt": text})
    assert (str(spec.python), spec.as_of) == (python, as_of)


def test_pythons_are_intersected_and_their_sources_named() -> None:
    project = '[project]\nname = "a"\nversion = "1"\nrequires-python = ">=3.10"\n'
    spec = detected(
        {
            "binder/runtime.txt": "python-3.11",
            "binder/pyproject.toml": project,
            "binder/casabinder.yaml": "python: '<3.13'",
        }
    )
    assert ("3.11.2" in spec.python, "3.12.0" in spec.python) == (True, False)
    assert spec.python_source == (
        "binder/casabinder.yaml: python (<3.13) and binder/runtime.txt (==3.11.*) and "
        "binder/pyproject.toml: requires-python (>=3.10)"
    )


def test_steps() -> None:
    files: dict[str, str | bytes] = {"apt.txt": "# x\nvim\n\nffmpeg=7:5.1-1  # c\nvim\n", "postBuild": "#!/bin/sh\n"}
    assert detected(files).container == ContainerSteps(("ffmpeg=7:5.1-1", "vim"), "postBuild")
    spec = detected({"binder/Dockerfile": "FROM x", "binder/apt.txt": "git && x", "binder/requirements.txt": "$"})
    assert (spec.kind, spec.container) == ("dockerfile", ContainerSteps(dockerfile="binder/Dockerfile"))
    assert len(spec.notes) == 2


@pytest.mark.parametrize(
    ("files", "kind", "buildpack"),
    [
        ({"install.R": "", "requirements.txt": "numpy"}, "r", "r"),
        ({"DESCRIPTION": "Package: a\n"}, "r", "r"),
        ({"runtime.txt": "r-4.3-2023-05-01"}, "r", "r"),
        ({"Project.toml": ""}, "julia", "julia"),
        ({"JuliaProject.toml": "", "requirements.txt": "numpy"}, "julia", "julia"),
        ({"default.nix": ""}, "nix", "nix"),
    ],
)
def test_other_languages(files: dict[str, str | bytes], kind: str, buildpack: str) -> None:
    spec = detected(files)
    assert spec.kind == kind
    assert spec.container is not None
    assert spec.container.buildpack == buildpack
    assert requirements_of(spec) == (["numpy"] if "requirements.txt" in files else [])


@pytest.mark.parametrize(
    ("files", "steps"),
    [
        ({"runtime.txt": "r-4.3-2023-05-01"}, ContainerSteps(version="4.3", snapshot="2023-05-01")),
        ({"runtime.txt": "r-2023-05-01", "install.R": ""}, ContainerSteps(snapshot="2023-05-01", install="install.R")),
        ({"DESCRIPTION": "Package: a\n", "install.R": ""}, ContainerSteps(install="install.R", project="DESCRIPTION")),
        ({"runtime.txt": "r-4.3", "DESCRIPTION": "Package: a\n"}, ContainerSteps(version="4.3", project="DESCRIPTION")),
        ({"binder/install.R": "", "DESCRIPTION": "Package: a\n"}, ContainerSteps(install="binder/install.R")),
        ({"install.R": "", "DESCRIPTION": "no package"}, ContainerSteps(install="install.R")),
    ],
)
def test_what_r_is_asked_for(files: dict[str, str | bytes], steps: ContainerSteps) -> None:
    assert detected(files).container == replace(steps, buildpack="r")


def test_which_julia_a_project_is_compatible_with() -> None:
    files: dict[str, str | bytes] = {"Project.toml": "[compat]\njulia = '1.6'", "JuliaProject.toml": ""}
    steps = ContainerSteps(buildpack="julia", project="JuliaProject.toml")
    assert detected(files).container == steps
    del files["JuliaProject.toml"]
    assert detected(files).container == replace(steps, version="1.6", project="Project.toml")
    with pytest.raises(EnvironmentFileError, match=r"Project.toml: julia of \[compat\] is not a string; write it like"):
        detected({"Project.toml": "[compat]\njulia = 1.6"})
    with pytest.raises(EnvironmentFileError, match="is not valid TOML"):
        detected({"Project.toml": "["})


def test_files_that_do_not_count() -> None:
    assert detected({"default.nix": "", "requirements.txt": "numpy"}).container is None
    assert detected({"DESCRIPTION": "some text"}).kind == "none"
    assert detected({"binder/x": "", "DESCRIPTION": "Package: a\n"}).kind == "none"


PYLOCK = 'lock-version = "1.0"\npackages = []\n'
ROWS = [
    ("Dockerfile", "FROM x"),
    ("pylock.toml", PYLOCK),
    ("Pipfile.lock", "{}"),
    ("Pipfile", ""),
    ("requirements.txt", ""),
]


@pytest.mark.parametrize("first", range(len(ROWS)))
def test_the_stronger_file_decides(first: int) -> None:
    spec = detected(dict(ROWS[first:]))
    assert spec.file == ROWS[first][0]
    companion = ROWS[first][0] == "Pipfile.lock"  # its Pipfile is where it came from
    assert len(spec.notes) == len(ROWS) - first - 1 - companion


def test_conda_files() -> None:
    assert detected({"pylock.toml": PYLOCK, "environment.yml": ""}).notes == (
        "environment.yml is not read: a stronger file decides",
    )
    for name in ("pixi.lock", "pixi.toml", "conda-lock.yml", "environment.yml", "environment.yaml"):
        with pytest.raises(
            EnvironmentFileError, match=f"^binder/{name} decides this environment and conda packages are not"
        ):
            detected({f"binder/{name}": "", "binder/requirements.txt": ""})


def test_settings_lie_in_the_root_where_there_is_no_binder() -> None:
    assert detected({"casabinder.yaml": "base: hep", "requirements.txt": ""}).base == "hep"
    assert detected({"casabinder.yaml": "base: hep", "binder/requirements.txt": ""}).base == ""


def test_settings() -> None:
    spec = detected({"binder/casabinder.yaml": ALL, "casabinder.yaml": "nonsense: 1"})
    found = spec.settings
    assert (spec.base, str(spec.python), spec.as_of) == ("hep", "==3.12.*", "2023-05-01")
    assert (found.extras, found.groups, found.cpus, found.memory, found.workers) == (
        ("plots",),
        None,
        2.0,
        4 * 2**30,
        3,
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"runtime.txt": "python-three"}, "runtime.txt, line 1: 'python-three' is not understood"),
        ({"runtime.txt": "python-3.11-2023-13-01"}, "runtime.txt, line 1: 2023-13-01 is not a date"),
        ({"apt.txt": "vim\ngit && curl x|sh\n"}, "apt.txt, line 2: 'git && curl x|sh' is not a Debian package"),
        ({"apt.txt": "-y"}, "apt.txt, line 1: '-y' is not a Debian package"),
        ({"apt.txt": "vim=1 ;x"}, "apt.txt, line 1"),
        ({"REQUIRE": ""}, "REQUIRE is of Julia before 1.0"),
        ({"binder/casabinder.yaml": "base: a\nbases: b\n"}, "line 2: 'bases' is not a setting; there are base, python"),
        (
            {"binder/casabinder.yaml": "resources:\n  cpus: 1\n  gpus: 1\n"},
            "line 3: 'resources.gpus' is not a setting; there are cpus",
        ),
        ({"binder/casabinder.yaml": "python: 3.13"}, "line 1: python is .*quote it"),
        ({"binder/casabinder.yaml": "\nas_of: yesterday"}, "line 2: as_of is 'yesterday': write `commit` or a date"),
        ({"binder/casabinder.yaml": "resources: {memory: lots}"}, "line 1: resources.memory is 'lots': write a number"),
        ({"binder/casabinder.yaml": "workers: -1"}, "line 1: workers is '-1'"),
        ({"binder/casabinder.yaml": "a: [\n"}, "line 2: this is not YAML"),
        ({"binder/casabinder.yaml": "- a"}, "line 1: this is not a table"),
        ({"binder/casabinder.yaml": "base: a\nbase: b\n"}, "line 2: 'base' is there twice"),
        ({"binder/casabinder.yaml": "base: &x a\npython: *x\n"}, r"line 2: \*aliases"),
        ({"binder/casabinder.yaml": "as_of: 2023-02-31"}, "is not YAML"),
    ],
)
def test_what_cannot_be_honoured_is_refused(files: dict[str, str | bytes], message: str) -> None:
    with pytest.raises(EnvironmentFileError, match=message.replace("&& curl x|sh", r"&& curl x\|sh")):
        detected(files)


NAMES = [
    "pylock.toml", "poetry.lock", "pdm.lock", "Pipfile.lock", "Pipfile", "requirements.txt", "pyproject.toml",
    "setup.cfg", "runtime.txt", "apt.txt", "binder/casabinder.yaml", "binder/apt.txt", "binder/pyproject.toml",
]  # fmt: skip
WORDS = st.sampled_from(
    [
        "name",
        "version",
        '"a"',
        "=",
        "[",
        "]",
        "{",
        "}",
        "\n",
        "[project]",
        "[tool.poetry]",
        "[tool.poetry.dependencies]",
        "[[package]]",
        "[[packages]]",
        "[metadata]",
        "lock-version",
        '"1.0"',
        '"2.1"',
        "dependencies",
        '["numpy>=1"]',
        "files",
        "hash",
        ":",
        ",",
        "python",
        '"^3"',
        '"~"',
        '"*"',
        "dynamic",
        '["version"]',
        "{}",
        "[]",
        "\n",
        'source = {type = "git", url = 1}\n',
        "groups = 3\n",
        'markers = "((("\n',
        '[project]\nname = "a"\n',
        "base: [\n",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("==1"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["default", "_meta", "requires", "version", "hashes", "git", "path", "markers", "extras"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.one_of(st.binary(max_size=60), st.text(max_size=60), st.lists(WORDS, max_size=15).map(" ".join)),
        max_size=3,
    )
)
def test_any_files_are_either_read_or_refused_in_one_line(files: dict[str, str | bytes]) -> None:
    check({name: text.encode("utf-8", "replace") if isinstance(text, str) else text for name, text in files.items()})


def toml(value: object) -> str:
    from builder.environment.pylock_file import toml_text

    return toml_text(value if isinstance(value, dict) else {"x": str(value)})


KEYS = st.sampled_from(
    [
        "name",
        "version",
        "source",
        "type",
        "url",
        "path",
        "git",
        "rev",
        "extras",
        "markers",
        "optional",
        "groups",
        "files",
        "hash",
        "dependencies",
        "python",
        "package",
        "packages",
        "metadata",
        "lock-version",
        "python-versions",
        "project",
        "dynamic",
        "scripts",
        "tool",
        "poetry",
        "setuptools",
        "build-system",
        "requires",
        "wheels",
        "vcs",
        "directory",
        "hashes",
        "sha256",
        "dependency-groups",
        "include-group",
        "editable",
        "optional-dependencies",
        "extra",
    ]
)
VALUES = st.recursive(
    st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["a", "1.0", "^1", "*", ">=1", "2.1", "git", ".", "..", "https://h/a.whl", "x:y", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=200)
@given(
    st.sampled_from(["pylock.toml", "poetry.lock", "pdm.lock", "Pipfile", "pyproject.toml"]),
    st.dictionaries(KEYS, VALUES, max_size=6),
    st.dictionaries(KEYS, VALUES, max_size=4),
)
def test_any_toml_is_either_read_or_refused(name: str, document: dict[str, object], poetry: dict[str, object]) -> None:
    base: dict[str, str | bytes] = {"pyproject.toml": toml({"tool": {"poetry": {"name": "a", **poetry}}})}
    check({**base, name: toml({"lock-version": "1.0", **document})})


@settings(max_examples=100)
@given(JSON)
def test_any_json_is_either_read_or_refused(document: object) -> None:
    import json

    check({"Pipfile.lock": json.dumps(document), "pyproject.toml": '[project]\nname = "a"\n'})


def check(files: dict[str, str | bytes]) -> None:
    with suppress(EnvironmentFileError):
        try:
            detected(files)
        except EnvironmentFileError as error:
            if "\n" in str(error) or len(str(error)) > 1500:
                raise AssertionError(str(error)) from error
            raise
