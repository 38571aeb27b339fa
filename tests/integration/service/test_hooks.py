"""Webhooks and status badges of the real service: a push is built, and the README says so."""

from __future__ import annotations

import hmac
import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
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
    from collections.abc import Callable, Iterator, Mapping

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
]

PATIENCE = 120.0
BASE = "fac/bases/tiny"
SECRET = b"a-secret-that-nobody-may-see"
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

    def registry_says(self, message: Mapping[str, Any], token: str = SECRET.decode()) -> httpx.Response:
        """Send a message as a registry does."""
        sent = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/vnd.docker.distribution.events.v2+json",
        }
        address = f"{self.service.url}/api/webhooks/registry"
        return httpx.post(address, content=json.dumps(message), headers=sent, trust_env=False, timeout=60)

    def prebuild(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command at the same site."""
        command = [str(Path(sys.executable).parent / "casabinder"), "prebuild", *arguments]
        environment = {**os.environ, "CASABINDER_CACHE": str(self.service.cache)}
        environment.pop("CASABINDER_SITE", None)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)

    def audit(self) -> list[dict[str, Any]]:
        """Return the lines of the audit log."""
        text = (self.service.cache / "service" / "audit.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def builds(self, **query: str) -> list[dict[str, Any]]:
        """Return the builds, newest first."""
        answer = httpx.get(f"{self.service.url}/api/builds", params=query, trust_env=False, timeout=60)
        return list(answer.raise_for_status().json())

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < deadline, self.service.log()[-2000:]
            time.sleep(0.1)

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

    def github(
        self,
        message: Mapping[str, Any] | bytes,
        *,
        secret: bytes = SECRET,
        number: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a message as GitHub does."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        signature = hmac.new(secret, body, "sha256").hexdigest()
        sent = {"X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Event": "push"}
        sent |= {"Content-Type": "application/json", "X-GitHub-Delivery": number or str(uuid.uuid4())}
        sent |= headers or {}
        address = f"{self.service.url}/api/webhooks/github"
        return httpx.post(address, content=body, headers=sent, trust_env=False, timeout=60)

    def gitlab(self, message: Mapping[str, Any], token: str = SECRET.decode()) -> httpx.Response:
        """Send a message as GitLab does."""
        sent = {"X-Gitlab-Token": token, "X-Gitlab-Event": "Push Hook"}
        address = f"{self.service.url}/api/webhooks/gitlab"
        return httpx.post(address, json=message, headers=sent, trust_env=False, timeout=60)

    def build(self, url: str, ref: str = "HEAD") -> dict[str, Any]:
        """Build a repository as a visitor and return the build that has ended."""
        sent = {"url": url, "ref": ref}
        answer = httpx.post(f"{self.service.url}/api/builds", json=sent, trust_env=False, timeout=60)
        return self.ended(answer.raise_for_status().json()["id"])


def secret_file(file: Path, secret: bytes) -> Path:
    file.write_bytes(secret + b"\n")
    file.chmod(0o600)
    return file


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
        listed = directory / "list.txt"
        listed.write_text(f"# none yet\n{public.url('scheduled/repo')} main\n{public.url('scheduled/none')}\n")
        site = {
            "registry": f"{registry.address}/fac",
            "base": f"{registry.address}/{BASE}:current",
            "package_index": index.url,
            "repositories": {"private_addresses": True},
            "service": {
                "webhooks": {
                    "github": {"secret": str(secret_file(directory / "github", SECRET))},
                    "gitlab": {"secret": str(secret_file(directory / "gitlab", SECRET))},
                    "registry": {"secret": str(secret_file(directory / "notifications", SECRET))},
                    "repositories": [f"{public.address}/hooked/*"],
                    "branches": ["main", "release/*"],
                },
                "prebuild": {"list": str(listed)},
            },
        }
        commit_files(directory / "work" / "scheduled", {"name.txt": "scheduled"})
        public.add("scheduled/repo", directory / "work" / "scheduled")
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


def push(url: str, commit: str, branch: str = "main") -> dict[str, Any]:
    return {"ref": f"refs/heads/{branch}", "after": commit, "repository": {"clone_url": url}, "pusher": {"name": "x"}}


def sentence(answer: httpx.Response, status: int) -> str:
    """Return why a message was refused, which is JSON whatever was wrong."""
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"]["message"])


def test_a_push_at_github_is_built_and_found(house: House) -> None:
    url, commit = house.repository("hooked/pushed")
    answer = house.github(push(url, commit))
    assert answer.status_code == 202, answer.text
    build = answer.json()["builds"][0]
    assert (build["commit"], build["repo"]) == (commit, url)
    assert house.ended(build["id"])["state"] == "built"
    # What a visitor asks for afterwards is there.
    found = httpx.post(f"{house.service.url}/api/builds", json={"url": url, "ref": "main"}, trust_env=False)
    assert (found.status_code, found.json()["state"]) == (200, "built")
    assert "Set-Cookie" not in answer.headers
    assert SECRET.decode() not in house.service.log()
    first = next(line for line in house.audit() if line["job"] == build["id"])
    assert (first["action"], first["owner"]) == ("build", "service:webhook")


def test_a_push_at_gitlab_is_built(house: House) -> None:
    url, commit = house.repository("hooked/project")
    message = {"ref": "refs/heads/release/1", "after": commit, "project": {"git_http_url": url}}
    assert "not signed" in sentence(house.gitlab(message, token="x" * 20), 403)
    answer = house.gitlab(message)
    assert answer.status_code == 202, answer.text
    assert house.ended(answer.json()["builds"][0]["id"])["state"] == "built"
    assert "taken before" in sentence(house.gitlab(message), 409)


def test_what_is_forged_is_refused(house: House) -> None:
    url, commit = house.repository("hooked/forged")
    message = push(url, commit)
    before = len(house.builds(limit="200"))
    assert "not signed" in sentence(house.github(message, secret=b"another-secret-altogether"), 403)
    assert "not signed" in sentence(house.github(message, headers={"X-Hub-Signature-256": ""}), 403)
    # That of SHA-1, which GitHub still sends along.
    assert "not signed" in sentence(house.github(message, headers={"X-Hub-Signature-256": "sha1=" + "0" * 40}), 403)
    assert len(house.builds(limit="200")) == before


def test_what_was_taken_is_not_taken_again(house: House) -> None:
    url, commit = house.repository("hooked/replayed")
    message = push(url, commit)
    number = str(uuid.uuid4())
    assert house.github(message, number=number).status_code == 202
    assert "taken before" in sentence(house.github(message, number=number), 409)
    # The number is not signed: with another one the message is the same.
    assert "taken before" in sentence(house.github(message), 409)
    assert "taken before" in sentence(house.github({**message, "more": 1}, number=number), 409)


def test_only_the_repositories_and_branches_of_the_lists(house: House) -> None:
    url, commit = house.repository("hooked/branches")
    other, others = house.repository("other/branches")
    for message in (push(url, commit, "develop"), push(other, others), push("https://github.com/t/r.git", commit)):
        assert "builds no pushes" in sentence(house.github(message), 403)
    secret, commits = house.repository("hooked/private", private=True)
    assert "builds no pushes" in sentence(house.github(push(secret, commits)), 403)
    for message in ({"zen": "x"}, push(url, "0" * 40), {**push(url, commit), "ref": "refs/tags/v1"}):
        answer = house.github(message)
        assert (answer.status_code, answer.json()["builds"]) == (200, [])
    assert house.github(push(url, commit), headers={"X-GitHub-Event": "issues"}).json()["builds"] == []


def test_what_can_t_be_read_is_refused(house: House) -> None:
    url, commit = house.repository("hooked/wrong")
    large = json.dumps({**push(url, commit), "commits": "x" * 2**20}).encode()
    assert "larger than 1024 kB" in sentence(house.github(large), 413)
    assert "JSON" in sentence(house.github(b"a=b", headers={"Content-Type": "application/x-www-form-urlencoded"}), 415)
    sentence(house.github(b"{"), 400)
    sentence(house.github(b"\xff\xfe"), 400)
    assert "after" in sentence(house.github({**push(url, commit), "after": "main"}), 400)
    sentence(house.github(push("file:///etc", commit)), 400)
    # 100 kB, more than other requests may have.
    assert house.github({**push(url, commit), "commits": "x" * 100_000}).status_code == 202
    answer = httpx.get(f"{house.service.url}/api/webhooks/github", trust_env=False)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")


def test_what_is_listed_is_built_before_anybody_asks(house: House) -> None:
    [job] = house.builds(repo=house.public.url("scheduled/repo"))
    assert house.ended(job["id"])["state"] == "built"
    house.until(lambda: "scheduled%2Fnone/HEAD is not pre-built" in house.service.log())


def test_a_list_is_built_by_hand_and_found_by_a_click(house: House) -> None:
    url, _ = house.repository("team/by-hand")
    broken, _ = house.repository("team/by-hand-broken", {"requirements.txt": "there-is-no-such-package\n"})
    file = house.scratch / "by-hand.yaml"
    file.write_text(f"- {url} main\n- {{repo: '{broken}'}}\n")
    done = house.prebuild(str(file), "--json")
    first, second = json.loads(done.stdout)
    assert (done.returncode, first["state"], second["state"]) == (1, "built", "failed"), done.stderr
    assert "there-is-no-such-package" in second["message"]
    found = httpx.post(f"{house.service.url}/api/builds", json={"url": url}, trust_env=False, timeout=60)
    assert (found.status_code, found.json()["digest"]) == (200, first["digest"])
    file.write_text(f"- {url} main\n")
    done = house.prebuild(str(file), "--popular", "3")  # of which there are none
    assert (done.returncode, "0 built, 1 there already, 0 failed" in done.stdout) == (0, True), done.stderr


def test_a_base_that_was_made_anew_makes_images_stale(house: House) -> None:
    url, _ = house.repository("team/stale")
    assert house.build(url)["state"] == "built"
    assert house.says(url) == "built"
    with RegistryClient(house.registry, credentials=None) as client:
        newer = [WHEEL, built_wheel("other")]
        tiny_base(client, newer, house.scratch / "newer", repository=BASE, index_url=house.index)
    assert house.says(url, "main") == "stale base"

    # The registry tells of the base, and what is on the list is built on it.
    (house.scratch / "list.txt").write_text(f"{url}\n")
    event = {"action": "push", "target": {"repository": BASE, "tag": "current"}}
    assert "not signed" in sentence(house.registry_says({"events": [event]}, token="x" * 20), 403)
    pull = {"events": [{**event, "action": "pull"}]}
    harbor = {
        "type": "PUSH_ARTIFACT",
        "event_data": {"resources": [{"tag": "1"}], "repository": {"repo_full_name": BASE}},
    }
    others: list[dict[str, Any]] = [pull, harbor, {"events": []}]
    for message in others:
        assert "nothing to do" in house.registry_says(message).json()["message"]
    answer = house.registry_says({"events": [event, event]})
    assert (answer.status_code, "looked at" in answer.json()["message"]) == (200, True)
    house.until(lambda: len(house.builds(repo=url)) == 2)
    newest = house.builds(repo=url)[0]
    assert house.ended(newest["id"])["state"] == "built"
    assert house.says(url, "refs/heads/main") == "built"
