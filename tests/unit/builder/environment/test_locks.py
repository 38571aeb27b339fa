"""Lock files of other tools: what is taken, for which Pythons, and what is refused."""

from __future__ import annotations

import json

import pytest

from builder.environment.spec import EnvironmentFileError
from tests.unit.builder.environment.in_memory import detected

H = "0" * 64
COMMIT = "c" * 40
PROJECT = '[project]\nname = "ana"\nversion = "1.0"\nrequires-python = ">=3.11"\n'
PROJECT += 'dependencies = ["numpy>=2", "win; sys_platform == \'win32\'"]\n'
WHEEL = f'wheels = [{{ url = "https://host/a-1.0-py3-none-any.whl", hashes = {{ sha256 = "{H}" }} }}]\n'
PYLOCK = 'lock-version = "1.0"\ncreated-by = "x"\nrequires-python = ">=3.11"\n'
PYLOCK += f'[[packages]]\nname = "a"\nversion = "1.0"\n{WHEEL}'

UV = f"""version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "ana"
version = "1.0"
source = {{ editable = "." }}
dependencies = [{{ name = "numpy" }}, {{ name = "win", marker = "sys_platform == 'win32'" }}, {{ name = "law" }}]

[package.metadata]
requires-dist = [
    {{ name = "numpy", specifier = ">=2" }}, {{ name = "win", marker = "sys_platform == 'win32'" }},
    {{ name = "law", git = "https://host/law.git?rev=v1" }},
]

[[package]]
name = "law"
version = "0.1"
source = {{ git = "https://host/law.git?rev=v1#{COMMIT}" }}

[[package]]
name = "numpy"
version = "2.1"
source = {{ registry = "https://host/simple" }}
wheels = [{{ url = "https://host/numpy-2.1-py3-none-any.whl", hash = "sha256:{H}" }}]

[[package]]
name = "win"
version = "1.0"
source = {{ registry = "https://host/simple" }}
wheels = [{{ url = "https://host/win-1.0-py3-none-any.whl", hash = "sha256:{H}" }}]
"""
UV_PROJECT = (
    PROJECT.replace('"numpy>=2"', '"numpy>=2", "law"') + '[tool.uv.sources]\nlaw = {git = "https://host/law.git"}\n'
)


def pins_of(files: dict[str, str | bytes]) -> list[str]:
    lock = detected(files).lock
    assert lock is not None
    return sorted(str(item.requirement) for item in lock.pins)


def test_pylock_with_other_sources() -> None:
    text = PYLOCK + '[[packages]]\nname = "ana"\ndirectory = { path = ".", editable = true }\n'
    text += (
        f'[[packages]]\nname = "law"\nvcs = {{ type = "git", url = "https://host/law.git", commit-id = "{COMMIT}" }}\n'
    )
    spec = detected({"pylock.toml": text, "pyproject.toml": PROJECT})
    assert (spec.kind, str(spec.python)) == ("pylock", ">=3.11")
    assert [project.name for project in spec.editables] == ["ana"]
    assert [(source.name, source.url, source.ref) for source in spec.sources] == [
        ("law", "https://host/law.git", COMMIT)
    ]
    assert spec.lock is not None
    import tomllib

    assert [package["name"] for package in tomllib.loads(spec.lock.pylock)["packages"]] == ["a"]
    assert spec.requirements == ()


def test_pylock_as_it_is() -> None:
    spec = detected({"pylock.dev.toml": PYLOCK})
    assert spec.lock is not None
    assert (spec.file, spec.lock.pylock) == ("pylock.dev.toml", PYLOCK)


def test_uv() -> None:
    spec = detected({"uv.lock": UV, "pyproject.toml": UV_PROJECT})
    assert spec.kind == "uv"
    assert spec.lock is not None
    assert "numpy-2.1-py3-none-any.whl" in spec.lock.pylock
    assert [(source.name, source.ref) for source in spec.sources] == [("law", COMMIT)]
    assert [project.name for project in spec.editables] == ["ana"]


def test_a_uv_lock_that_is_too_old() -> None:
    with pytest.raises(
        EnvironmentFileError, match=r"uv.lock is older than pyproject.toml: numpy changed since; run `uv lock`"
    ):
        detected({"uv.lock": UV, "pyproject.toml": UV_PROJECT.replace("numpy>=2", "numpy>=2.5")})


FILES = f'files = [{{file = "x-1.0.whl", hash = "sha256:{H}"}}]\n'
POETRY_PROJECT = (
    '[tool.poetry]\nname = "ana"\nversion = "1"\n[tool.poetry.dependencies]\npython = "^3.11"\nnumpy = "^2"\n'
)
POETRY_PROJECT += 'law = {git = "https://host/law.git"}\n'
POETRY_PROJECT += '[tool.poetry.group.docs]\noptional = true\n[tool.poetry.group.docs.dependencies]\nsphinx = "*"\n'


def test_workspace_members_outside_of_the_repository() -> None:
    for pattern in ("/usr/**", "../**", "a/../../**"):
        project = UV_PROJECT + f'[tool.uv.workspace]\nmembers = ["{pattern}"]\n'
        with pytest.raises(EnvironmentFileError, match=r"pyproject.toml, line 9: .* leads out of the repository"):
            detected({"uv.lock": UV, "pyproject.toml": project})


def package(name: str, version: str, rest: str = "", files: str = FILES) -> str:
    return (
        f'[[package]]\nname = "{name}"\nversion = "{version}"\noptional = false\npython-versions = "*"\n{files}{rest}\n'
    )


@pytest.mark.parametrize(("version", "flat"), [("2.0", False), ("2.1", True)])
def test_poetry(version: str, flat: bool) -> None:
    main, docs = ('groups = ["main"]\n', 'groups = ["docs"]\n') if flat else ("", "")
    old = "markers = \"python_version < '3.12'\"\n" if flat else ""
    win = "markers = \"sys_platform == 'win32'\"\n" if flat else ""
    requires = '[package.dependencies]\nold = {version = "*", markers = "python_version < \'3.12\'"}\n'
    requires += 'win = {version = "*", markers = "sys_platform == \'win32\'"}\n'
    text = (
        package("numpy", "2.1", main + requires) + package("old", "1.0", main + old) + package("win", "1.0", main + win)
    )
    text += package("sphinx", "8.0", docs)
    text += package(
        "law",
        "0.1",
        main + f'[package.source]\ntype = "git"\nurl = "https://host/law.git"\nresolved_reference = "{COMMIT}"\n',
        "files = []\n",
    )
    text += f'[metadata]\nlock-version = "{version}"\npython-versions = "^3.11"\ncontent-hash = "x"\n'
    files: dict[str, str | bytes] = {"poetry.lock": text, "pyproject.toml": POETRY_PROJECT}
    assert pins_of(files) == ["numpy==2.1", 'old==1.0; python_version == "3.11"']
    spec = detected(files)
    assert [(source.name, source.ref) for source in spec.sources] == [("law", COMMIT)]
    assert spec.lock is not None
    assert {item.hashes for item in spec.lock.pins} == {(H,)}
    files = {f"binder/{name}": content for name, content in files.items()}
    files["binder/casabinder.yaml"] = "groups: [docs]"
    assert "sphinx==8.0" in pins_of(files)
    with pytest.raises(EnvironmentFileError, match=r"poetry.lock is older than pyproject.toml: it lacks hist"):
        detected({"poetry.lock": text, "pyproject.toml": POETRY_PROJECT.replace("law = ", 'hist = "*"\nlaw = ')})


def test_poetry_of_old() -> None:
    text = package("numpy", "2.1", files="") + package("law", "1", files="")
    text += '[metadata]\nlock-version = "1.1"\npython-versions = "^3.11"\n[metadata.files]\n'
    text += f'numpy = [{{file = "n", hash = "sha256:{H}"}}]\n'
    assert pins_of(
        {"poetry.lock": text, "pyproject.toml": POETRY_PROJECT.replace('law = {git = "https://host/law.git"}\n', "")}
    ) == ["numpy==2.1"]


def test_pdm() -> None:
    text = '[metadata]\ngroups = ["default", "dev"]\nlock_version = "4.5.0"\n'
    for name, groups, rest in [
        ("numpy", "default", ""),
        ("pytest", "dev", ""),
        ("win", "default", "marker = \"sys_platform == 'win32'\"\n"),
    ]:
        text += f'[[package]]\nname = "{name}"\nversion = "2.1"\ngroups = ["{groups}"]\n{rest}{FILES}'
    text += '[[package]]\nname = "law"\nversion = "1"\ngroups = ["default"]\n'
    text += f'git = "https://host/law.git"\nrevision = "{COMMIT}"\n'
    project = PROJECT + '[dependency-groups]\ndev = ["pytest"]\n'
    files: dict[str, str | bytes] = {"pdm.lock": text, "pyproject.toml": project}
    assert pins_of(files) == ["numpy==2.1", "pytest==2.1"]
    assert [source.name for source in detected(files).sources] == ["law"]
    assert [project.name for project in detected(files).editables] == ["ana"]


def pipfile_lock(**packages: object) -> str:
    document = {"_meta": {"requires": {"python_version": "3.11"}}, "default": packages, "develop": {}}
    return json.dumps(document, indent=4)


def test_pipfile_lock() -> None:
    text = pipfile_lock(
        numpy={"version": "==2.1", "hashes": [f"sha256:{H}"], "markers": "python_version >= '3.12'"},
        win={"version": "==1", "hashes": [f"sha256:{H}"], "markers": "sys_platform == 'win32'"},
        law={"git": "https://host/law.git", "ref": COMMIT},
        ana={"path": ".", "editable": True},
    )
    spec = detected({"Pipfile.lock": text, "pyproject.toml": PROJECT, "Pipfile": "not read"})
    assert spec.lock is not None
    (found,) = spec.lock.pins
    assert found.requirement.name == "numpy"
    assert not found.requirement.marker or "3.12" in str(found.requirement.marker)
    assert [source.ref for source in spec.sources] == [COMMIT]
    assert [project.name for project in spec.editables] == ["ana"]
    assert ("3.11.1" in spec.python, "3.12.0" in spec.python) == (True, False)


def test_pipfile() -> None:
    text = '[packages]\nnumpy = "*"\nhist = {version = ">=2", extras = ["plot"], sys_platform = "== \'linux\'"}\n'
    text += 'law = {git = "https://host/law.git", ref = "v1"}\n'
    text += '[dev-packages]\npytest = "==8.0"\n[requires]\npython_full_version = "3.11.4"\n'
    spec = detected({"Pipfile": text})
    assert [str(item.requirement) for item in spec.requirements] == [
        "numpy",
        'hist[plot]>=2; sys_platform == "linux"',
        "pytest==8.0",
    ]
    assert [source.ref for source in spec.sources] == ["v1"]
    assert (str(spec.python), spec.python_source) == ("==3.11.*", "Pipfile: python_full_version")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pylock.a.toml": PYLOCK, "pylock.b.toml": PYLOCK}, "pylock.a.toml and pylock.b.toml are several locks"),
        ({"pylock.toml": ""}, "pylock.toml: lock-version is 'None'"),
        ({"pylock.toml": PYLOCK.replace("sha256", "md5")}, "pylock.toml, line 5: a file of 'a' has no sha256"),
        ({"pylock.toml": PYLOCK.replace('"a"', '"../a"')}, "a package is called '../a'"),
        (
            {"pylock.toml": PYLOCK + '[[packages]]\nname = "b"\ndirectory = {path = "../b"}\n'},
            "'../b' is not a directory",
        ),
        (
            {"pylock.toml": PYLOCK + '[[packages]]\nname = "b"\nvcs = {type = "git", url = "https://h/b"}\n'},
            "not locked to a commit",
        ),
        ({"uv.lock": UV}, "uv.lock needs the pyproject.toml"),
        ({"uv.lock": "version = 99\n", "pyproject.toml": PROJECT}, "uv.lock can't be used"),
        ({"uv.lock": "version =", "pyproject.toml": PROJECT}, "uv.lock is not valid TOML"),
        ({"poetry.lock": ""}, "poetry.lock needs the pyproject.toml"),
        ({"poetry.lock": "", "pyproject.toml": "[tool.x]"}, "has neither"),
        (
            {"poetry.lock": "[metadata]\nlock-version = '9'\n", "pyproject.toml": POETRY_PROJECT},
            "lock-version '9' is not known",
        ),
        ({"poetry.lock": package("a", "x"), "pyproject.toml": POETRY_PROJECT}, "poetry.lock: lock-version ''"),
        ({"pdm.lock": "", "pyproject.toml": "[tool.x]"}, "has no"),
        ({"pdm.lock": "package = 1", "pyproject.toml": PROJECT}, "pdm.lock: package is not an array of tables"),
        ({"Pipfile.lock": "{,"}, "Pipfile.lock, line 1 is not valid JSON"),
        ({"Pipfile.lock": "[]"}, "Pipfile.lock is not a JSON object"),
        ({"Pipfile.lock": pipfile_lock(a={"version": ">=1"})}, "Pipfile.lock, line 8: a is '>=1' and not locked"),
        ({"Pipfile.lock": pipfile_lock(a={"version": "==1"})}, "Pipfile.lock, line 8: a has no sha256"),
        ({"Pipfile": "[packages]\na = 1\n"}, "Pipfile, line 1: 'a' is '1'"),
        ({"Pipfile": '[packages]\nzeta = {version = "*", index = "x"}\n'}, "Pipfile, line 2: the index of 'zeta'"),
    ],
)
def test_what_cannot_be_honoured_is_refused(files: dict[str, str | bytes], message: str) -> None:
    with pytest.raises(EnvironmentFileError, match=message):
        detected(files)
