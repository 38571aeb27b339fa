"""What people with bad intentions try, tried for real: each is refused, with the status that says so.

What needs a server or a build is tried against a whole facility; the rest against a service whose site is as strict as
the default is.
"""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from launcher.database import open_database
from launcher.hub.plan import ServePlan
from launcher.jobs.model import Asked, BuildRequest
from launcher.jobs.store import JobStore
from launcher.security.keys import Keys
from launcher.service.build_tokens import USES, BuildTokens
from launcher.site_config import Service
from tests.testbed.facility import fresh
from tests.testbed.git_repository import commit_files, git
from tests.testbed.service_process import running_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.testbed.facility import RunningFacility
    from tests.testbed.git_server import GitServer
    from tests.testbed.service_process import RunningService

pytestmark = pytest.mark.integration

HTML = "<img/src=x/onerror=alert(1)><script>alert(1)</script>"
RECORD = {"image": "127.0.0.1:5000/a/b:c", "digest": f"sha256:{'d' * 64}", "env_id": "e" * 16}
AWAY = (
    "https://example.org/",
    "//example.org/",
    "/\\example.org",
    "%2f%2fexample.org",
    "..%2f..%2fhub",
    "javascript:a",
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service without a hub, as strict as by default."""
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


def ask(service: RunningService, method: str, path: str, **options: Any) -> httpx.Response:
    """Send a request of a visitor who comes for the first time."""
    return httpx.request(method, f"{service.url}{path}", trust_env=False, timeout=60, **options)


def message(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])


def raw(url: str, path: str) -> http.client.HTTPResponse:
    """GET a path just as it is written: clients put `..` and the like in order."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.putrequest("GET", path, skip_accept_encoding=True)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_a_stolen_hub_token_starts_no_image(anonymous: RunningFacility) -> None:
    plan = ServePlan.read(anonymous.cache)
    token = Keys.load(anonymous.cache / "service" / "secret").hex("service")
    before = anonymous.containers()
    headers = {"Authorization": f"token {token}"}
    with httpx.Client(base_url=f"{plan.hub_api_url}/", headers=headers, trust_env=False, timeout=60) as hub:
        assert hub.post("users/thief").status_code == 201
        for options in ({"image": "docker.io/library/busybox"}, {"vouched": "a.b.c"}, {}):
            hub.post("users/thief/server", json=options)
            deadline = time.monotonic() + 60
            while (server := hub.get("users/thief").json()["servers"].get("", {})).get("pending"):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert not server.get("ready")
        hub.delete("users/thief")
    assert anonymous.containers() == before
    anonymous.wait_for("only the launch service starts servers here")
    anonymous.wait_for("is not signed by the launch service")


@pytest.mark.parametrize("path", AWAY)
def test_a_launch_never_leads_away(service: RunningService, path: str) -> None:
    sent = {"provider": "gh", "spec": "user/repo/HEAD", "urlpath": path}
    assert ask(service, "POST", "/api/launches", json=sent).status_code == 400
    assert ask(service, "GET", f"/v2/gh/user/repo/HEAD?urlpath={quote(path)}").status_code == 400
    login = ask(service, "GET", f"/login?next={quote(path)}")
    assert urlsplit(login.headers.get("Location", "/")).netloc in ("", urlsplit(service.url).netloc)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file:///root/.ssh",
        "http://169.254.169.254/latest/meta-data/repo.git",
        "http://[fd00:ec2::254]/repo.git",
        "http://127.0.0.1:5000/repo.git",
        "http://2130706433/repo.git",
        "ssh://-oProxyCommand=touch@example.org/repo.git",
        "ext::sh -c id",
    ],
)
def test_nothing_of_this_machine_or_its_cloud_is_fetched(service: RunningService, url: str) -> None:
    for sent in ({"url": url}, {"provider": "git", "spec": f"{quote(url, safe='')}/HEAD"}):
        answer = ask(service, "POST", "/api/builds", json=sent)
        assert answer.status_code in (400, 403), answer.text
        assert answer.headers["Content-Type"] == "application/json"


def test_a_ref_carries_no_header(service: RunningService) -> None:
    spec = "user/repo/main\r\nX-Evil: 1"
    for sent in ({"provider": "gh", "spec": spec}, {"url": "https://github.com/user/repo", "ref": "main\r\nX-Evil: 1"}):
        assert ask(service, "POST", "/api/builds", json=sent).status_code == 400
    for path in (f"/v2/gh/{quote(spec)}", f"/build/gh/{quote(spec)}", f"/repo/user/{quote('repo' + spec)}"):
        answer = raw(service.url, path)
        assert answer.getheader("X-Evil") is None
        assert "\n" not in (answer.getheader("Location") or "")


def test_ten_megabytes_are_too_much(service: RunningService, anonymous: RunningFacility) -> None:
    spec = "user/repo/" + "a" * 10_000_000
    answer = ask(service, "POST", "/api/builds", json={"provider": "gh", "spec": spec})
    assert answer.status_code == 413
    with anonymous.visitor() as client:
        assert client.post("/api/builds", json={"provider": "gh", "spec": spec}).status_code == 413
    path = f"/build/gh/user/repo/{'a' * 10_000}"
    assert ask(service, "GET", path, headers={"Accept": "application/json"}).status_code == 400


def test_a_hundred_thousand_lines_are_cut(
    anonymous: RunningFacility, add_repository: Callable[[str, Mapping[str, bytes | str]], str]
) -> None:
    url = add_repository("talkative", {"postBuild": "#!/bin/sh\nseq 100000\n", **fresh()})
    job = anonymous.build(url)
    log = anonymous.client.get(job["log"]).text
    most = Service().builds.log_lines
    assert most - 100 < log.count("\n") < most + 200
    assert "the log ends here" in log


def test_html_in_a_branch_is_text(anonymous: RunningFacility, git_server: GitServer, tmp_path: Path) -> None:
    commit_files(tmp_path / "html", {"a.txt": "1\n"})
    git(tmp_path / "html", "branch", HTML)
    git_server.add("html.git", tmp_path / "html")
    spec = f"{quote(git_server.url('html.git'), safe='')}/{quote(HTML, safe='')}"
    with anonymous.visitor() as client:
        page = client.get(f"/v2/git/{spec}", headers={"Accept": "text/html"})
        assert "<script>alert" not in page.text
        assert "<img/src=x" not in page.text
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert "unsafe-inline" not in page.headers["Content-Security-Policy"].partition("style-src")[0]
        answer = client.post("/api/builds", json={"provider": "git", "spec": spec})
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.status_code in (200, 202, 400)


def test_a_build_token_is_for_one_repository_one_page_and_a_few_times(service: RunningService) -> None:
    tokens = BuildTokens(Keys.load(service.cache / "service" / "secret"))
    host, spec, now = urlsplit(service.url).netloc, "user/repo/HEAD", time.time()
    headers = {"Accept": "application/json"}

    def refused(token: str) -> bool:
        path = f"/build/gh/{spec}?build_only=true&build_token={token}"
        answer = ask(service, "GET", path, headers=headers)
        return answer.status_code == 403 and "build token" in message(answer)

    assert refused("nonsense")
    assert refused(tokens.issue("gh", "other/repo/HEAD", host, now))
    assert refused(tokens.issue("gh", spec, "example.org", now))
    assert refused(tokens.issue("gh", spec, host, now - 100_000))
    assert refused(BuildTokens(Keys(b"1" * 32)).issue("gh", spec, host, now))
    good = tokens.issue("gh", spec, host, now)
    assert [refused(good) for _ in range(USES.requests + 2)] == [False] * USES.requests + [True] * 2


def test_somebody_elses_private_build_is_not_there(service: RunningService) -> None:
    engine = open_database(Service(), service.cache)
    request = BuildRequest(Asked("gh", "lab/secret/HEAD"), "https://github.com/lab/secret", "HEAD", "2" * 40)
    store = JobStore(engine)
    job = store.add_built("private-key", request, "user:somebody", RECORD, private=True, now=time.time())
    engine.dispose()
    for path in ("", "/events", "/log"):
        assert ask(service, "GET", f"/api/builds/{job.id}{path}").status_code == 404
    for method, path in (("DELETE", ""), ("POST", "/rebuild")):
        assert ask(service, method, f"/api/builds/{job.id}{path}").status_code == 404
    sent = {"build": job.id}
    assert ask(service, "POST", "/api/launches", json=sent).status_code == 404
    assert job.id not in ask(service, "GET", "/api/builds").text
    assert "lab/secret" not in ask(service, "GET", "/metrics").text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/app.py",
        "/static/..%2f..%2fapp.py",
        "/static/000000000000/..%5c..%5capp.py",
        "/static//etc/passwd",
        "/static/dom.js%00.svg",
        "/static/../templates/home.html",
    ],
)
def test_static_files_are_those_and_no_others(service: RunningService, path: str) -> None:
    assert raw(service.url, path).status == 404


def test_another_sites_page_changes_nothing(anonymous: RunningFacility) -> None:
    with anonymous.visitor() as client:
        client.get("/")
        for headers in ({"Origin": "https://example.org"}, {"Sec-Fetch-Site": "cross-site"}, {"X-Xsrftoken": "wrong"}):
            answer = client.post("/api/builds", json={"provider": "gh", "spec": "user/repo/HEAD"}, headers=headers)
            assert answer.status_code == 403, (headers, answer.text)
        form = client.post("/api/builds", data={"x": json.dumps({"provider": "gh"})})
        assert form.status_code in (403, 415)
