"""One facility for all that speak BinderHub's language, with a repository to build and a web page elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.testbed.binder_clients import thebe_page
from tests.testbed.facility import RunningFacility, fresh, running_facility
from tests.testbed.git_repository import commit_files
from tests.testbed.git_server import GitServer, running_git_server
from tests.testbed.registry import running_http_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Binder:
    """A facility, the git server that it builds from, and the address of a page of another origin."""

    facility: RunningFacility
    git: GitServer
    directory: Path
    page: str

    def add(self, name: str, files: dict[str, str] | None = None) -> str:
        """Serve a new repository and return its spec."""
        work = self.directory / name
        commit_files(work, {**(files or {}), **fresh()})
        self.git.add(f"lab/{name}.git", work)
        self.git.add(f"lab/{name}", work)  # as it is named at GitHub
        return self.spec(name)

    def repository(self, name: str) -> str:
        """Return a repository's URL."""
        return self.git.url(f"lab/{name}.git")

    def spec(self, name: str, ref: str = "HEAD") -> str:
        """Return a spec of the provider ``git``."""
        return f"git/{quote(self.repository(name), safe='')}/{ref}"


def _serving(directory: Path) -> type[SimpleHTTPRequestHandler]:
    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(directory))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the access log out of the tests' output."""

    return Handler


@pytest.fixture(scope="package")
def binder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binder]:
    """A facility in which a visitor has ten requests an hour, and which pages of one other origin may use."""
    directory = tmp_path_factory.mktemp("binder")
    with (
        running_git_server(directory / "served") as git,
        running_http_server(_serving(thebe_page())) as elsewhere,
    ):
        page = f"http://{elsewhere}"
        service = {"rate": {"requests": 10}, "cors": [page], "launches": {"per_user": 0}}
        site = {"service": service, "repositories": {"hosts": {"gh": f"http://{git.address}"}}}
        with running_facility(directory / "facility", site=site) as facility:
            yield Binder(facility, git, directory / "work", page)


@pytest.fixture(scope="package")
def built(binder: Binder) -> str:
    """The spec of a repository that is built."""
    spec = binder.add("ana", {"analysis.py": "print(1)\n"})
    binder.facility.build(binder.repository("ana"))
    return spec
