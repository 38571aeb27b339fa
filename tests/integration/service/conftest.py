"""One facility for most tests of the launch service, and a git server with repositories for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.testbed.facility import running_facility
from tests.testbed.git_repository import commit_files
from tests.testbed.git_server import running_git_server
from tests.testbed.launching import engine_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from playwright.sync_api import Browser

    from tests.testbed.facility import RunningFacility
    from tests.testbed.git_server import GitServer

CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A git server that lasts as long as the tests do."""
    with running_git_server(tmp_path_factory.mktemp("git")) as server:
        yield server


@pytest.fixture(scope="session")
def add_repository(
    git_server: GitServer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Mapping[str, bytes | str]], str]:
    """A function that serves a repository of these files and returns its URL."""

    def add(name: str, files: Mapping[str, bytes | str]) -> str:
        work = tmp_path_factory.mktemp("work") / name
        commit_files(work, files)
        git_server.add(f"{name}.git", work)
        return git_server.url(f"{name}.git")

    return add


@pytest.fixture(scope="session")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    """A facility in which everybody gets a temporary user. Leave it as you found it."""
    if not engine_answers():
        pytest.skip("no Docker Engine answers: run scripts/bootstrap")
    with running_facility(tmp_path_factory.mktemp("anonymous")) as facility:
        yield facility


@pytest.fixture(scope="session")
def with_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    """A facility in which people log in, all with one password. Leave it as you found it."""
    if not engine_answers():
        pytest.skip("no Docker Engine answers: run scripts/bootstrap")
    settings = {"SharedPasswordAuthenticator": {"user_password": PASSWORD, "admin_password": ADMIN_PASSWORD}}
    hub = {"mode": "login", "admins": ["admin"], "settings": settings}
    with running_facility(tmp_path_factory.mktemp("login"), site={"hub": hub}) as facility:
        yield facility


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for the tests of a module."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(CHROMIUM))
        yield browser
        browser.close()


PASSWORD = "a-password-for-tests"
ADMIN_PASSWORD = "another-and-much-longer-password-for-tests"
