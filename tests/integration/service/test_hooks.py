"""Webhooks and status badges of the real service: a push is built, and the README says so."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree

import httpx
import pytest

from registry_sync.client import RegistryClient
from tests.testbed.git_repository import commit_files
from tests.testbed.git_server import GitServer, running_git_server
from tests.testbed.packages import built_wheel, running_index
from tests.testbed.registry import registry_is_installed, running_registry
from tests.testbed.service_process import RunningService, running_service
from tests.testbed.tiny_base import tiny_base

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
]

PATIENCE = 120.0
BASE = "fac/bases/tiny"
WHEEL = built_wheel("core")


@dataclass
class House:
    """A service, and the git servers whose repositories it builds."""

    service: RunningService
    public: GitServer
    private: GitServer
    registry: str
    index: str
    scratch: Path

    def repository(self, name: str, files: dict[str, str] | None = None, *, private: bool = False) -> tuple[str, str]:
        """Serve a repository; return its URL and commit."""
        server = self.private if private else self.public
        commit = commit_files(self.scratch / "work" / name, {"name.txt": name, **(files or {})})
        server.add(name, self.scratch / "work" / name)
        return server.url(name), commit

    def badge(self, url: str, ref: str = "HEAD", **options: Any) -> httpx.Response:
        """Ask for the badge of a repository as a browser without cookies does."""
        address = f"{self.service.url}/badge/git/{quote(url, safe='')}/{ref}.svg"
        answer = httpx.get(address, trust_env=False, timeout=60, **options)
        assert "Set-Cookie" not in answer.headers
        return answer

    def says(self, url: str, ref: str = "HEAD", query: str = "") -> str:
        """Return the word on the badge."""
        return word(self.badge(url, ref, params={"as_of": query} if query else None))

    def builds(self, **query: str) -> list[dict[str, Any]]:
        """Return the builds, newest first."""
        answer = httpx.get(f"{self.service.url}/api/builds", params=query, trust_env=False, timeout=60)
        return list(answer.raise_for_status().json())

    def ended(self, build: str) -> dict[str, Any]:
        """Wait until a build has ended and return it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = httpx.get(f"{self.service.url}/api/builds/{build}", trust_env=False, timeout=60)
            job: dict[str, Any] = answer.raise_for_status().json()
            if job["state"] in ("built", "failed", "cancelled"):
                return job
            assert time.monotonic() < deadline, f"{job} {self.service.log()[-2000:]}"
            time.sleep(0.1)

    def build(self, url: str, ref: str = "HEAD") -> dict[str, Any]:
        """Build a repository as a visitor and return the build that has ended."""
        sent = {"url": url, "ref": ref}
        answer = httpx.post(f"{self.service.url}/api/builds", json=sent, trust_env=False, timeout=60)
        return self.ended(answer.raise_for_status().json()["id"])


def word(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "image/svg+xml"
    root = ElementTree.fromstring(answer.text)
    assert root.get("role") == "img"
    return str(root.get("aria-label")).removeprefix("casabinder: ")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("hooks")
    with (
        running_registry(directory / "registry") as registry,
        running_index([WHEEL]) as index,
        running_git_server(directory / "public") as public,
        running_git_server(directory / "private", login=("oauth2", "a-token")) as private,
    ):
        with RegistryClient(registry.address, credentials=None) as client:
            tiny_base(client, [WHEEL], directory / "base", repository=BASE, index_url=index.url)
        site = {
            "registry": f"{registry.address}/fac",
            "base": f"{registry.address}/{BASE}:current",
            "package_index": index.url,
            "repositories": {"private_addresses": True},
        }
        with running_service(directory / "service", site) as service:
            yield House(service, public, private, registry.address, index.url, directory)


def test_a_badge_tells_how_it_stands(house: House) -> None:
    url, _ = house.repository("team/badge")
    assert house.says(url) == "not built"
    job = house.build(url)
    assert job["state"] == "built", job
    assert house.says(url, "main") == "built"
    assert house.says(url) == "not built", "a badge is kept for a minute"
    broken, _ = house.repository("team/broken", {"requirements.txt": "there-is-no-such-package\n"})
    assert house.build(broken)["state"] == "failed"
    assert house.says(broken) == "failed"
    before = len(house.builds())
    assert house.says(url, query="commit") == "not built"
    assert len(house.builds()) == before, "a badge began a build"


def test_a_badge_is_sent_once(house: House) -> None:
    url, _ = house.repository("team/cached")
    first = house.badge(url)
    assert first.headers["Cache-Control"] == "public, max-age=60"
    again = house.badge(url, headers={"If-None-Match": first.headers["Etag"]})
    assert (again.status_code, again.content) == (304, b"")
    listings = len(house.public.requests)
    assert all(word(house.badge(url)) == "not built" for _ in range(20))
    assert len(house.public.requests) == listings


def test_what_is_not_public_is_not_built(house: House) -> None:
    url, _ = house.repository("team/secret", private=True)
    nobody = house.private.url("team/nobody")
    answers = [house.badge(address) for address in (url, nobody, "https://not a url/")]
    assert [word(answer) for answer in answers] == ["not built"] * 3
    assert len({answer.text for answer in answers}) == 1


def test_a_base_that_was_made_anew_makes_images_stale(house: House) -> None:
    url, _ = house.repository("team/stale")
    assert house.build(url)["state"] == "built"
    assert house.says(url) == "built"
    with RegistryClient(house.registry, credentials=None) as client:
        newer = [WHEEL, built_wheel("other")]
        tiny_base(client, newer, house.scratch / "newer", repository=BASE, index_url=house.index)
    assert house.says(url, "main") == "stale base"
