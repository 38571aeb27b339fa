"""Which packages a repository asks for, in every format, and which of them are for CUDA."""

from __future__ import annotations

import json

import pytest

from builder.asked import asked_packages
from builder.cuda import for_cuda
from builder.environment.spec import StatedLock
from builder.locking.pylock import LockError
from builder.locking.stated import stated_pins
from builder.target import PythonTarget
from tests.unit.builder.environment.in_memory import detected

H = "0" * 64
TARGET = PythonTarget("3.13", "3.13.5", "2.41")
ON_WINDOWS = "sys_platform == 'win32'"


def locked(name: str, version: str, marker: str = "") -> str:
    """An entry of a ``pylock.toml``."""
    wheel = f'{{ url = "https://host/{name}-{version}-py3-none-any.whl", hashes = {{ sha256 = "{H}" }} }}'
    condition = f'marker = "{marker}"\n' if marker else ""
    return f'[[packages]]\nname = "{name}"\nversion = "{version}"\n{condition}wheels = [{wheel}]\n'


def project(*dependencies: str) -> str:
    return f'[project]\nname = "ana"\nversion = "1"\ndependencies = {json.dumps(dependencies)}\n'


PYLOCK = 'lock-version = "1.0"\ncreated-by = "x"\ndefault-groups = ["main"]\n'
UV = f"""version = 1
requires-python = ">=3.11"
[[package]]
name = "ana"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "torch" }}]
[package.metadata]
requires-dist = [{{ name = "torch" }}]
[[package]]
name = "torch"
version = "2.9.0"
source = {{ registry = "https://host/simple" }}
wheels = [{{ url = "https://host/torch-2.9.0-py3-none-any.whl", hash = "sha256:{H}" }}]
"""
POETRY = f"""[[package]]
name = "cupy-cuda12x"
version = "13.6.0"
python-versions = ">=3.9"
groups = ["main"]
files = [{{file = "x.whl", hash = "sha256:{H}"}}]
[metadata]
lock-version = "2.1"
python-versions = ">=3.11"
"""
PIPFILE_LOCK = json.dumps(
    {"_meta": {"sources": []}, "default": {"numba-cuda": {"version": "==0.20.0", "hashes": [f"sha256:{H}"]}}}
)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"requirements.txt": "numpy\n\ncupy-cuda12x>=13\n"}, "requirements.txt, line 3 asks for cupy-cuda12x>=13"),
        ({"binder/requirements.txt": "cupy"}, "binder/requirements.txt, line 1 asks for cupy"),
        (
            {"requirements.txt": "-c c.txt\ntorch", "c.txt": "torch==2.9.0\nnumpy<2"},
            "requirements.txt, line 2 and c.txt, line 1 ask for torch==2.9.0",
        ),
        (
            {"requirements.txt": "git+https://host/cupy.git@v13#egg=cupy"},
            "requirements.txt, line 1 asks for cupy",
        ),
        ({"pyproject.toml": project("jax[cuda12]")}, "pyproject.toml, line 4 asks for jax[cuda12]"),
        ({"setup.cfg": "[metadata]\nname = a\n[options]\ninstall_requires =\n  nvidia-cublas-cu12\n"}, "setup.cfg"),
        ({"Pipfile": '[packages]\nnumba-cuda = "*"\n'}, "Pipfile, line 2 asks for numba-cuda"),
        ({"Pipfile.lock": PIPFILE_LOCK}, "Pipfile.lock, line 1 asks for numba-cuda==0.20.0"),
        ({"pylock.toml": PYLOCK + locked("cudf-cu12", "25.10")}, "pylock.toml asks for cudf-cu12==25.10"),
        ({"uv.lock": UV, "pyproject.toml": project("torch")}, "uv.lock asks for torch==2.9.0"),
        (
            {"poetry.lock": POETRY, "pyproject.toml": project("cupy-cuda12x")},
            "poetry.lock, line 2 asks for cupy-cuda12x==13.6.0",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_for_cuda_in_every_format(files: dict[str, str | bytes], sentence: str) -> None:
    (found,) = for_cuda(asked_packages(detected(files), TARGET))
    assert str(found).startswith(sentence)


@pytest.mark.parametrize(
    "lines",
    [
        "numpy\nnumba\njax\ntensorflow",
        "xgboost\nnvidia-nccl-cu12\nnvidia-ml-py",
        "torch==2.9.0+cpu",
        f"cupy-cuda12x; {ON_WINDOWS}",
        "cupy; python_version < '3.12'",
        "cupyx\nmy-torch\ntorchvision-cu",
    ],
)
def test_what_is_not_for_cuda(lines: str) -> None:
    assert for_cuda(asked_packages(detected({"requirements.txt": lines}), TARGET)) == []


def test_constraints_alone_ask_for_nothing() -> None:
    files: dict[str, str | bytes] = {"requirements.txt": "-c c.txt\nnumpy", "c.txt": "cupy==13.0"}
    assert [package.name for package in asked_packages(detected(files), TARGET)] == ["numpy"]


def test_the_entries_of_a_lock_that_apply() -> None:
    entries = [
        locked("torch", "2.9.0", "sys_platform == 'darwin'"),
        locked("torch", "2.9.0+cpu", "sys_platform == 'linux'"),
        locked("hist", "2.9", "python_version < '3.12'"),
        locked("docs", "1.0", "'docs' in dependency_groups"),
        locked("vector", "1.6", "'main' in dependency_groups and sys_platform == 'linux'"),
    ]
    spec = detected({"pylock.toml": PYLOCK + "".join(entries)})
    asked = asked_packages(spec, TARGET)
    assert [f"{package.name}{package.versions}" for package in asked] == ["torch==2.9.0+cpu", "vector==1.6"]
    assert for_cuda(asked) == []
    older = asked_packages(spec, PythonTarget("3.11", "3.11.2", "2.36"))
    assert [package.name for package in older] == ["torch", "hist", "vector"]


def test_a_lock_with_an_odd_version() -> None:
    lock = StatedLock("pylock.toml", PYLOCK + locked("a", "of yesterday"))
    with pytest.raises(LockError, match=r"pylock.toml: a has the version 'of yesterday', which is none"):
        stated_pins(lock)
