"""A repository that a CI has checked out, and a facility for ``casabinder ci`` to build it for.

The git server is where the public finds the repository; the registry, with a base of a few kilobytes in it, and the
package index are real. Commands run as processes of their own, with just the environment that a test states.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry_sync.client import RegistryClient
from registry_sync.credentials import Credentials
from tests.testbed.git_repository import commit_files, git
from tests.testbed.git_server import GitServer, running_git_server
from tests.testbed.packages import built_wheel, running_index
from tests.testbed.registry import Registry, TokenServer, running_registry
from tests.testbed.tiny_base import REPOSITORY, tiny_base

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
LOGIN = ("robot", "a secret of the robot")
WHEELS = (
    built_wheel("core", "1.0"),
    built_wheel("core", "2.0"),
    built_wheel("plots", "3.0", requires=["core>=1"]),
    built_wheel("extra", "1.0"),
    built_wheel("extra", "1.1"),
)
INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR")


@dataclass(frozen=True)
class Run:
    """What a command gave."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed, which is JSON."""
        return json.loads(self.out)


@dataclass
class CiSite:
    """Where the test's CI runs: ``directory`` has its files, ``registry`` wants :data:`LOGIN` for everything."""

    directory: Path
    registry: Registry
    git: GitServer
    index: str

    @property
    def prefix(self) -> str:
        """Where images go."""
        return f"{self.registry.address}/fac"

    @property
    def base(self) -> str:
        """The base of the facility."""
        return f"{self.prefix}/{REPOSITORY}:current"

    @property
    def store(self) -> RegistryClient:
        """A client of the registry; close it."""
        return RegistryClient(self.registry.address, credentials=Credentials(*LOGIN))

    @property
    def site_file(self) -> Path:
        """The facility's configuration."""
        file = self.directory / "site.yaml"
        document = {
            "registry": self.prefix,
            "package_index": self.index,
            "repositories": {"private_addresses": True},
            "containers": {"engine": False},
            "service": {"url": "https://hub.example.org"},
        }
        file.write_text(json.dumps(document))
        return file

    def checkout(self, name: str, commits: int = 50) -> Path:
        """Publish the repository that is worked on in ``name``, and check it out as CI does: shallow, detached."""
        self.git.add(f"team/{name}.git", self.directory / name)
        target = self.directory / f"checkout-{name}-{len(list(self.directory.iterdir()))}"
        url = self.git.url(f"team/{name}.git")
        git(self.directory, "clone", "--quiet", f"--depth={commits}", url, str(target))
        git(target, "checkout", "--quiet", "--detach")
        return target

    def commit(self, name: str, files: Mapping[str, str]) -> str:
        """Commit to the repository that is worked on in ``name``."""
        return commit_files(self.directory / name, files)

    def environment(self, **more: str) -> dict[str, str]:
        """Return what a runner's job has in its environment."""
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        home = {"HOME": str(self.directory / "home"), "CASABINDER_CACHE": str(self.directory / "cache")}
        return {**inherited, **home, "CASABINDER_SITE": str(self.site_file), **more}

    def run(self, *arguments: str | Path, at: Path | None = None, **environment: str) -> Run:
        """Run a command of casabinder's in a directory."""
        command = [sys.executable, "-m", "launcher.cli", *map(str, arguments)]
        there = {"PYTHONPATH": str(ROOT), **self.environment(**environment)}
        done = subprocess.run(
            command, cwd=at or self.directory, env=there, capture_output=True, text=True, check=False, timeout=180
        )
        return Run(done.returncode, done.stdout, done.stderr)


@contextmanager
def running_ci_site(directory: Path, tokens: TokenServer | None = None) -> Iterator[CiSite]:
    """Run the registry, the git server and the package index of a :class:`CiSite` until the end.

    With a running ``tokens`` server the registry asks that one who may do what, instead of wanting a password.
    """
    with ExitStack() as stack:
        index = stack.enter_context(running_index(WHEELS))
        users = None if tokens else dict([LOGIN])
        registry = stack.enter_context(running_registry(directory / "registry", users=users, tokens=tokens))
        server = stack.enter_context(running_git_server(directory / "git"))
        site = CiSite(directory, registry, server, index.url)
        with site.store as store:
            tiny_base(
                store,
                WHEELS[1:3],
                directory / "base",
                requirements=("core", "plots"),
                repository=f"fac/{REPOSITORY}",
                registry=registry.address,
                index_url=index.url,
            )
        yield site
