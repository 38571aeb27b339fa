"""Ten wrong inputs, through the command line: one clear sentence, a status, and nothing half-written."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.repository.spec import RepoSpec
from registry_sync.client import RegistryClient
from tests.testbed.git_repository import commit_files, git
from tests.testbed.packages import built_wheel, running_index
from tests.testbed.registry import registry_is_installed, running_http_server, running_registry
from tests.testbed.tiny_base import REPOSITORY, tiny_base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.packages import Index
    from tests.testbed.registry import Registry

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry (and htpasswd)"),
]

ROOT = Path(__file__).parents[2]
BIG = built_wheel("big", "1.0", {"big/data.bin": random.Random(1).randbytes(3_000_000)})
WHEELS = (
    built_wheel("core", "2.0"),
    built_wheel("plots", "3.0", requires=["core>=1"]),
    BIG,
    built_wheel("needy", "1.0", requires=["core<1"]),
    built_wheel("narrow", "1.0", requires_python="<3.13"),
    built_wheel("windows", "1.0", tag="cp313-cp313-win_amd64"),
)


@dataclass(frozen=True)
class Outcome:
    """What a run of the command line gave."""

    status: int
    sentence: str
    error: str


@dataclass
class Site:
    """A directory to build in, a registry with a tiny base, and a package index."""

    directory: Path
    index: Index
    registry: Registry
    cache: Path = field(init=False)

    def __post_init__(self) -> None:
        self.cache = self.directory / "cache"

    def fails(self, repository: str | Path, *options: str, registry: str | None = None) -> Outcome:
        """Run `casabinder build`, check that it fails as every error should, and return what it said."""
        site = self.directory / "site.yaml"
        site.write_text(json.dumps({"package_index": self.index.url, "repositories": {"private_addresses": True}}))
        base = f"{self.registry.address}/fac/{REPOSITORY}:current"
        arguments = ["build", str(repository), "--json", "--quiet", "--site", str(site), "--base", base]
        arguments += ["--registry", registry or f"{self.registry.address}/fac", *options]
        done = subprocess.run(
            [sys.executable, "-m", "launcher.cli", *arguments],
            cwd=ROOT,
            env={**os.environ, "CASABINDER_CACHE": str(self.cache), "HOME": str(self.directory)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("casabinder: ")
        sentence = lines[0].removeprefix("casabinder: ")
        assert json.loads(done.stdout) == {"error": sentence}
        assert done.returncode == 1
        assert len(sentence) < 400
        self.is_clean()
        return Outcome(done.returncode, sentence, done.stderr)

    def is_clean(self) -> None:
        """Nothing half-written in the cache, no image in the registry."""
        found = [path for path in self.cache.rglob("*") if re.search(r"\.part(ial)?|^\.new|^tmp_|\.lock$", path.name)]
        assert found == []
        with RegistryClient(self.registry.address, credentials=None) as store:
            images = f"fac/{RepoSpec(str(self.directory / 'repo')).slug}"
            assert store.tags(images) == []

    def repository(self, files: dict[str, str], links: dict[str, str] | None = None) -> Path:
        commit_files(self.directory / "repo", files, links=links)
        return self.directory / "repo"


@pytest.fixture(scope="module")
def tiny_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Index]]:
    with running_index(WHEELS) as index, running_registry(tmp_path_factory.mktemp("registry")) as registry:
        with RegistryClient(registry.address, credentials=None) as store:
            scratch = tmp_path_factory.mktemp("base")
            requirements = ("core>=2", "plots")
            tiny_base(
                store,
                WHEELS[:2],
                scratch,
                requirements=requirements,
                repository=f"fac/{REPOSITORY}",
                registry=registry.address,
                index_url=index.url,
            )
        yield registry, index


@pytest.fixture
def site(tiny_registry: tuple[Registry, Index], tmp_path: Path) -> Site:
    registry, index = tiny_registry
    return Site(tmp_path, index, registry)


def test_no_such_repository(site: Site) -> None:
    assert site.fails("/nowhere/repo").sentence == "there is no directory /nowhere/repo; give a path or a git URL"
    with running_http_server(_answering(404)) as address:
        said = site.fails(f"http://{address}/a/b.git").sentence
    assert said == f"there is no git repository at http://{address}/a/b.git; check the address"


def test_no_such_ref(site: Site) -> None:
    repository = site.repository({"a.py": ""})
    git(repository, "branch", "develop")
    said = site.fails(repository, "--ref", "devel").sentence
    assert said == f"{repository} has no branch or tag 'devel'; it has develop"


def test_a_private_repository(site: Site) -> None:
    with running_http_server(_answering(401)) as address:
        said = site.fails(f"http://{address}/a/b").sentence
    assert said == f"http://{address}/a/b does not exist or is private; check the address, or give git access to it"


def test_a_broken_line(site: Site) -> None:
    said = site.fails(site.repository({"binder/requirements.txt": "core\nplots=>3\n"})).sentence
    assert said.startswith("binder/requirements.txt, line 2: 'plots=>3' is not a requirement")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("plots==99", "the package index has no version that fits `plots==99`; choose another version"),
        ("nonesuch", "the package index has no package 'nonesuch'; check the spelling"),
        ("needy", "`needy` can't be had together with core of the base tiny"),
    ],
)
def test_an_unsatisfiable_pin(site: Site, line: str, sentence: str) -> None:
    said = site.fails(site.repository({"requirements.txt": f"# first\n{line}\n"})).sentence
    assert said.startswith(f"requirements.txt, line 2: {sentence}")


def test_a_package_for_another_python(site: Site) -> None:
    said = site.fails(site.repository({"requirements.txt": "core\nnarrow==1.0\n"})).sentence
    assert said == (
        "requirements.txt, line 2: narrow 1.0 is for Python <3.13, and the base tiny has 3.13.5; "
        "choose another version of it, or another base with --base"
    )


def test_a_package_for_another_platform(site: Site) -> None:
    said = site.fails(site.repository({"requirements.txt": "core\nwindows==1.0\n"})).sentence
    assert said == (
        "requirements.txt, line 2: `windows==1.0` has no wheel for the base tiny (Python 3.13), "
        "and can't be made from source here; choose another version, or another base with --base"
    )


def test_the_index_does_not_answer(site: Site) -> None:
    site.index = replace(site.index, url="http://127.0.0.1:9/simple")
    said = site.fails(site.repository({"requirements.txt": "core<2\n"})).sentence
    assert said.startswith("the package index could not be asked, so nothing was resolved; try again")


def test_the_registry_is_down(site: Site) -> None:
    said = site.fails(site.repository({"a.py": ""}), registry="127.0.0.1:9/fac").sentence
    assert "127.0.0.1:9" in said


def test_the_registry_refuses(site: Site, tmp_path: Path) -> None:
    with running_registry(tmp_path / "private", users={"me": "secret"}) as private:
        said = site.fails(site.repository({"a.py": ""}), registry=f"{private.address}/fac").sentence
    assert private.address in said


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[None]:
    """Mount a file system of a few megabytes; only root can."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small file system")
@pytest.mark.parametrize("wheel_fits", [False, True])
def test_the_disk_of_the_cache_is_full(site: Site, wheel_fits: bool) -> None:
    """Once while the wheel comes in, once while its layer is written."""
    repository = site.repository({"requirements.txt": "big\n"})
    with small_disk(site.cache, 5 if wheel_fits else 2):
        said = site.fails(repository).sentence
    assert "CASABINDER_CACHE" in said
    assert str(site.cache) in said


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small file system")
def test_the_disk_is_full_before_the_repository_is_there(site: Site) -> None:
    repository = site.repository({"requirements.txt": "core\n"})
    (repository / "data").write_bytes(random.Random(2).randbytes(3_000_000))
    commit_files(repository, {})
    with small_disk(site.cache, 1):
        said = site.fails(repository).sentence
        assert "CASABINDER_CACHE" in said


def test_a_symlink_to_a_file_of_the_machine(site: Site) -> None:
    said = site.fails(site.repository({"a.py": ""}, links={"etc": "/etc"})).sentence
    assert said == "the symlink 'etc' points to '/etc', outside the repository; remove it or make it relative"
    (site.directory / "repo" / "etc").unlink()
    said = site.fails(site.repository({}, links={"requirements.txt": "/etc/hostname"})).sentence
    assert said == "requirements.txt is a symlink that leads out of the repository; remove it"


def _answering(status: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="private"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep the test's output clean."""

    return Handler
