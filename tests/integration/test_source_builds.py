"""Wheels from source: real backends in the real engine, on the real base, with build requirements of the real index."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from builder.base import load_base
from builder.container.engine import docker
from builder.environment.spec import SourceRequirement
from builder.events import Event, Progress
from builder.repository.checkout import checkout, resolve_ref
from builder.repository.spec import RepoSpec
from builder.sources.errors import SourceBuildError
from builder.sources.maker import SourceWheelMaker
from tests.testbed.git_repository import commit_files, git

if TYPE_CHECKING:
    from pathlib import Path

    from builder.base import Base
    from builder.facility import BaseChoice, Facility

pytestmark = pytest.mark.integration

SETUP = "from setuptools import setup\nsetup(name='{0}', version='1.5', py_modules=['{0}'])\n"
HATCH = """[project]
name = "dated"
dynamic = ["version"]
[build-system]
requires = ["hatchling", "hatch-vcs"]
build-backend = "hatchling.build"
[tool.hatch.version]
source = "vcs"
"""
# A backend of its own needs no build requirements, so that what it does is all that takes time.
BACKEND = """[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
HOOK = "def build_wheel(directory, config_settings=None, metadata_directory=None):\n"
MODULES = ("one", "two", "three")
FILES = {
    **{f"plain/{name}/setup.py": SETUP.format(name) for name in MODULES},
    **{f"plain/{name}/{name}.py": "X = 1\n" for name in MODULES},
    "dated/pyproject.toml": HATCH,
    "dated/dated/__init__.py": "",
    "compiled/setup.py": "from setuptools import setup, Extension\n"
    "setup(name='compiled', version='1', ext_modules=[Extension('compiled', ['compiled.c'])])\n",
    "compiled/compiled.c": "int x;\n",
    "asking/setup.py": "from setuptools import setup\n"
    "setup(name='asking', version='1', py_modules=[], setup_requires=['calver'])\n",
    "unknown/pyproject.toml": BACKEND.replace('"backend"', '"nowhere.backend"'),
    "empty/README": "",
}
HOSTILE = {
    "network": "    import socket\n    socket.create_connection(('1.1.1.1', 53), 3)\n",
    "name": "    import socket\n    socket.getaddrinfo('example.org', 443)\n",
    "outside": "    open('/srv/env/lib/x.py', 'w').write('x')\n",
    "root": "    import os\n    os.setuid(0)\n",
    "asleep": "    import time\n    time.sleep(600)\n",
    "forking": """    import os
    while True:
        try:
            os.fork()
        except OSError:
            pass
""",
    "filling": "    with open('/build/x', 'wb') as file:\n        while True:\n            file.write(bytes(2**20))\n",
    "hungry": "    x = []\n    while True:\n        x.append(bytearray(2**24))\n",
    "lying": "    return '../../etc/passwd'\n",
    "named": "    open(directory + '/x.whl', 'w').write('x')\n    return 'x.whl'\n",
    "broken": """    name = 'x-1.0-py3-none-any.whl'
    open(directory + '/' + name, 'w').write('x')
    return name
""",
}
WHY = {
    "network": "it asks the network for something, and a build from source has none",
    "name": "it asks the network for something, and a build from source has none",
    "outside": r"OSError: \[Errno 30\] Read-only file system",
    "root": r"PermissionError: \[Errno 1\] Operation not permitted",
    "asleep": r"it took more than 5 s",
    "forking": r"it took more than 5 s|more processes",
    "filling": "it needs more scratch space",
    "hungry": "needs more than 0.2 GiB of memory|MemoryError",
    "lying": "there is no such file",
    "named": "'x.whl' is not the name of a wheel",
    "broken": "its wheel can't be used",
}


@pytest.fixture(scope="module")
def base(real_base: BaseChoice, facility: Facility) -> Base:
    return load_base(facility.store, real_base.registry, real_base.repository, real_base.reference, facility.cache)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sources") / "repo"
    hostile = {f"{name}/pyproject.toml": BACKEND for name in HOSTILE}
    hostile |= {f"{name}/backend.py": HOOK + body for name, body in HOSTILE.items()}
    commit_files(directory, {**FILES, **hostile})
    git(directory, "tag", "v2.5")
    return directory


class Bench:
    """A maker, and what it said."""

    def __init__(self, facility: Facility, base: Base, repository: Path) -> None:
        self.said: list[str] = []
        tree = checkout(resolve_ref(RepoSpec(str(repository))), facility.cache)
        self.maker = SourceWheelMaker(facility, base, tree, Progress(self._hear, "lock"))

    def _hear(self, event: Event) -> None:
        self.said.append(event.message)


@pytest.fixture
def bench(facility: Facility, base: Base, repository: Path) -> Bench:
    return Bench(facility, base, repository)


@pytest.fixture
def idle(facility: Facility, base: Base, repository: Path, tmp_path: Path) -> Bench:
    """Another builder of the facility: with a cache of its own and without an engine."""
    containers = replace(facility.containers, engine=False)
    return Bench(replace(facility, cache=tmp_path / "other", containers=containers), base, repository)


def local(path: str) -> SourceRequirement:
    return SourceRequirement("local", "requirements.txt, line 3", path=path)


def test_a_directory_is_built_once_for_everybody(bench: Bench, idle: Bench) -> None:
    package = bench.maker.from_source(local("plain/one"))
    assert (package.name, package.version, package.url) == ("one", "1.5", "")
    with zipfile.ZipFile(bench.maker.facility.wheelhouse.path(package)) as zipped:
        assert zipped.namelist()[0] == "one.py"
        assert zipped.namelist()[-1] == "one-1.5.dist-info/RECORD"
    assert "making a wheel of the directory 'plain/one' of the repository" in bench.said
    assert idle.maker.from_source(local("plain/one")) == package
    assert idle.maker.facility.wheelhouse.path(package).exists()
    assert not any("making" in line for line in idle.said)


def test_two_builds_give_the_same_bytes(facility: Facility, base: Base, repository: Path, tmp_path: Path) -> None:
    """Two facilities that know nothing of each other: other caches, other places in the registry."""
    found = set()
    for prefix in ("first", "second"):
        cache = tmp_path / prefix
        cache.mkdir()
        (cache / "wheels").symlink_to(facility.cache / "wheels")
        bench = Bench(replace(facility, prefix=prefix, cache=cache), base, repository)
        found.add(bench.maker.from_source(local("plain/two")).sha256)
        assert any("making" in line for line in bench.said)
    assert len(found) == 1


def test_a_git_repository_at_a_tag(bench: Bench, idle: Bench, repository: Path) -> None:
    source = SourceRequirement(
        "git", "requirements.txt, line 1", url=f"file://{repository}", ref="v2.5", subdirectory="dated", name="dated"
    )
    package = bench.maker.from_source(source)
    assert (package.name, package.version) == ("dated", "2.5")
    assert any("resolved to commit" in line for line in bench.said)
    assert idle.maker.from_source(source) == package


def test_an_editable_directory_without_a_version_of_its_own(bench: Bench) -> None:
    package = bench.maker.from_source(replace(local("dated"), editable=True))
    assert package.version.startswith("0+g")
    assert any("is installed as a wheel" in line for line in bench.said)
    assert any("takes its version from git's history" in line for line in bench.said)


def test_a_source_distribution_of_the_index(bench: Bench, idle: Bench) -> None:
    """``docopt`` has no wheel, and has not had a release since 2014."""
    package = bench.maker.from_index(Requirement("docopt>=0.6"))
    assert (package.name, package.version, package.filename) == ("docopt", "0.6.2", "docopt-0.6.2-py2.py3-none-any.whl")
    assert any("docopt-0.6.2.tar.gz" in line for line in bench.said)
    assert idle.maker.from_index(Requirement("docopt>=0.6")) == package


def test_a_backend_that_asks_for_more_gets_it(bench: Bench) -> None:
    assert bench.maker.from_source(local("asking")).name == "asking"


@pytest.mark.parametrize(
    ("directory", "sentence"),
    [
        ("compiled", "it needs a compiler, which the base does not have"),
        ("unknown", "its build backend can't be used: No module named 'nowhere'"),
        ("empty", "there is neither a pyproject.toml nor a setup.py in it"),
    ],
)
def test_what_can_not_be_built_is_said_with_the_line_that_asks_for_it(
    bench: Bench, directory: str, sentence: str
) -> None:
    with pytest.raises(SourceBuildError, match=r"^requirements.txt, line 3: .* could not be made") as caught:
        bench.maker.from_source(local(directory))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_hostile_builds_get_nowhere(facility: Facility, base: Base, repository: Path, kind: str) -> None:
    seconds = 5 if kind in ("asleep", "forking") else 60
    memory = (1024 if kind == "forking" else 192) * 2**20  # its 64 processes must not meet that limit first
    tight = replace(facility.containers, seconds=seconds, memory=memory, disk=64 * 2**20, processes=64)
    bench = Bench(replace(facility, containers=tight), base, repository)
    with pytest.raises(SourceBuildError, match=WHY[kind]):
        bench.maker.from_source(local(kind))
    assert docker("ps", "--all", "--quiet", "--filter", "name=casabinder-source-") == ""
