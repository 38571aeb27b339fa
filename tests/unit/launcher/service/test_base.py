"""What every handler does alike, asked over HTTP: who asks, whose change it is, errors, limits, streams."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from launcher.jobs.model import Asked, BuildRequest, Result
from launcher.service import api_builds, base
from launcher.site_config import Rate
from tests.testbed.service_app import RunningApp, running_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    from tornado.iostream import IOStream

    from launcher.jobs.model import Job

SITE = {
    "service": {
        "cors": ["https://book.example.org"],
        "trusted_proxies": ["127.0.0.1"],
        "banned_networks": ["203.0.113.0/24"],
        "rate": {"requests": 3, "seconds": 3600},
    }
}
REQUEST = BuildRequest(Asked("gh", "user/repo/HEAD"), "https://github.com/user/repo", "HEAD", "1" * 40)
CREDENTIAL = {"host": "git.example.org", "token": "secret"}


@pytest.fixture(scope="module")
def monkeymodule() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, monkeymodule: pytest.MonkeyPatch) -> Iterator[RunningApp]:
    """A service for everybody."""
    with running_app(tmp_path_factory.mktemp("app"), monkeymodule, SITE) as running:
        yield running


@pytest.fixture
def browser(app: RunningApp) -> Iterator[httpx.Client]:
    """A browser that nobody has seen before."""
    with app.client() as client:
        yield client


def job_of(app: RunningApp, owner: str, key: str) -> Job:
    job, _ = app.services.store.submit(key, REQUEST, owner, now=time.time())
    return job


def visitor(browser: httpx.Client) -> str:
    """Return under which name the service knows a browser."""
    browser.get("/api/servers")
    return browser.cookies["_xsrf"]


def owner_of(app: RunningApp, browser: httpx.Client) -> str:
    sessions = app.services.authentication.sessions
    browser.get("/api/servers")
    sealed = browser.cookies.get("casabinder-session", path="/api") or ""
    document = sessions.open("casabinder-session", sealed, 60)
    assert document is not None
    return f"visitor:{document['visitor']}"


def test_every_answer_has_the_headers_that_protect(browser: httpx.Client) -> None:
    """Pages, documents and errors."""
    for path in ("/", "/api/builds", "/api/nothing", "/versions"):
        headers = browser.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert len(headers["X-Request-Id"]) == 16
        assert "Server" not in headers


def test_errors_are_statuses_with_a_sentence(browser: httpx.Client) -> None:
    """As JSON below /api whoever asks, as a page for people elsewhere."""
    answer = browser.get("/api/builds/0123456789", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error == {"status": 404, "message": "there is no such build", "request_id": answer.headers["X-Request-Id"]}
    page = browser.get("/nothing", headers={"Accept": "text/html,*/*"})
    assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert browser.get("/nothing").json()["error"]["status"] == 404


def test_methods(browser: httpx.Client) -> None:
    """HEAD goes with GET, OPTIONS tells, others are refused with what there is."""
    assert browser.options("/api/builds").headers["Allow"] == "GET, HEAD, POST, OPTIONS"
    refused = browser.patch("/api/builds")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD, POST, OPTIONS")
    assert refused.json()["error"]["status"] == 405
    assert browser.head("/api/launches").status_code == 405
    for number in range(3):
        assert browser.request(f"MADEUP{number}", "/api/builds").status_code == 405
    counted = browser.get("/metrics").text
    assert 'method="other"' in counted
    assert "MADEUP" not in counted
    head, get = browser.head("/api/bases"), browser.get("/api/bases")
    assert head.content == b""
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


def test_bases_are_listed_with_the_python_of_what_they_extend(browser: httpx.Client) -> None:
    answer = browser.get("/api/bases")
    assert answer.status_code == 200
    listed = {base["name"]: base["python"] for base in answer.json()}
    assert next(iter(listed)) == "coffea-py313"
    assert listed["coffea-cuda-py313"] == "3.13"


def test_a_page_gives_a_visitor_cookies_that_no_notebook_server_gets(app: RunningApp, browser: httpx.Client) -> None:
    """The session goes to /api and /build alone; what goes everywhere opens nothing."""
    stated = browser.get("/").headers.get_list("Set-Cookie")
    assert len(stated) == 3
    for cookie in stated:
        assert "SameSite=Lax" in cookie
        if cookie.startswith("casabinder-session="):
            assert "Path=/api;" in cookie or "Path=/build;" in cookie
            assert "HttpOnly" in cookie
        else:
            assert cookie.startswith("_xsrf=")
            assert "HttpOnly" not in cookie
    assert browser.get("/").headers.get_list("Set-Cookie") == []
    first = owner_of(app, browser)
    assert owner_of(app, browser) == first
    sent = browser.build_request("GET", "/user/x/server/").headers.get("Cookie", "")
    assert "casabinder-session" not in sent


def test_a_change_with_a_cookie_needs_the_token_of_the_page(app: RunningApp, browser: httpx.Client) -> None:
    """A cookie alone is what another site's form would have; another visitor's token is not this one's."""
    job = job_of(app, owner_of(app, browser), "xsrf")
    with app.client() as other:
        stolen = visitor(other)
    for headers in ({}, {"X-Xsrftoken": "0" * 32}, {"X-Xsrftoken": stolen}, {"X-Xsrftoken": "x"}):
        refused = browser.delete(f"/api/builds/{job.id}", headers=headers)
        assert refused.status_code == 403
        assert "X-Xsrftoken" in refused.json()["error"]["message"]
    done = browser.delete(f"/api/builds/{job.id}", headers={"X-Xsrftoken": browser.cookies["_xsrf"]})
    assert (done.status_code, done.json()["state"]) == (200, "cancelled")


def test_a_change_that_another_sites_page_asks_for_is_refused(app: RunningApp, browser: httpx.Client) -> None:
    """Its Origin or Sec-Fetch-Site tells; what the site allows by name may, and a program with a token."""
    body = {"text": "https://github.com/a/b"}
    own = {"X-Xsrftoken": visitor(browser)}
    for headers in (
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert browser.post("/api/parse", json=body, headers=own | headers).status_code == 403
    for headers in (
        {"Origin": app.url, "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://book.example.org", "Sec-Fetch-Site": "cross-site"},
    ):
        assert browser.post("/api/parse", json=body, headers=own | headers).status_code == 200
    with app.client(headers={"Authorization": "token user-ada", "Origin": "https://evil.example.org"}) as program:
        assert program.post("/api/parse", json=body).status_code == 200


def test_other_sites_may_read_as_the_site_says(browser: httpx.Client) -> None:
    """One origin, without cookies."""
    for origin, allowed in (("https://book.example.org", "https://book.example.org"), ("https://evil.org", None)):
        headers = browser.get("/api/builds", headers={"Origin": origin}).headers
        assert headers.get("Access-Control-Allow-Origin") == allowed
        assert "Access-Control-Allow-Credentials" not in headers
        assert headers["Vary"] == "Origin"
    asked = {"Origin": "https://book.example.org", "Access-Control-Request-Method": "POST"}
    answer = browser.options("/api/builds", headers=asked)
    assert answer.status_code == 204
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "cache-control" in answer.headers["Access-Control-Allow-Headers"]


def test_a_token_says_who_asks(app: RunningApp) -> None:
    """In both words for it; one that the hub does not know is refused, not taken for nobody's."""
    for word in ("token", "Bearer", "bearer"):
        with app.client(headers={"Authorization": f"{word} user-ada"}) as program:
            assert program.put("/api/credentials", json=CREDENTIAL).status_code == 200
            assert [entry["host"] for entry in program.get("/api/credentials").json()] == ["git.example.org"]
            assert "secret" not in program.get("/api/credentials").text
    for stated in ("token nobody", "Basic dXNlcg==", "token", "token a b"):
        with app.client(headers={"Authorization": stated}) as program:
            answer = program.get("/api/builds")
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_visitors_keep_no_tokens(browser: httpx.Client) -> None:
    """They could not come back for them."""
    own = {"X-Xsrftoken": visitor(browser)}
    assert browser.put("/api/credentials", json=CREDENTIAL, headers=own).status_code == 403


def test_only_who_asked_first_may_cancel_and_see_what_is_private(app: RunningApp, browser: httpx.Client) -> None:
    """A private build does not exist for others."""
    browser.headers["X-Xsrftoken"] = visitor(browser)
    job = job_of(app, "user:ada", "public")
    assert browser.get(f"/api/builds/{job.id}").json()["mine"] is False
    assert browser.delete(f"/api/builds/{job.id}").status_code == 403
    hidden, _ = app.services.store.submit("hidden", REQUEST, "user:ada", private=True, now=time.time())
    for path in ("", "/events", "/log"):
        assert browser.get(f"/api/builds/{hidden.id}{path}").status_code == 404
    assert browser.delete(f"/api/builds/{hidden.id}").status_code == 404
    assert browser.post(f"/api/builds/{hidden.id}/rebuild").status_code == 404
    assert hidden.id not in browser.get("/api/builds").text
    with app.client(headers={"Authorization": "token user-ada"}) as ada:
        assert ada.get(f"/api/builds/{hidden.id}").json()["mine"] is True
        assert [job["id"] for job in ada.get("/api/builds?mine=true&limit=2").json()] == [hidden.id, job.id]


def test_banned_networks_and_what_the_proxy_says(browser: httpx.Client) -> None:
    """The address is the one that the trusted proxy adds."""
    assert browser.get("/api/builds", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 403
    assert browser.get("/", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 403
    spoofed = {"X-Forwarded-For": "203.0.113.9, 198.51.100.1"}
    assert browser.get("/api/builds", headers=spoofed).status_code == 200


def test_visitors_are_counted_by_their_address(app: RunningApp) -> None:
    """The fourth request of an hour is refused with the time that is left; people with a token are not counted."""
    headers = {"X-Forwarded-For": "198.51.100.77"}
    asked = {"provider": "gh", "spec": "no-repository"}
    for _ in range(3):
        with app.client(headers=headers) as browser:
            answer = browser.post("/api/builds", json=asked)
            assert answer.status_code == 400, answer.text
            assert "no-repository" in answer.json()["error"]["message"]
    with app.client(headers=headers) as browser:
        refused = browser.post("/api/builds", json=asked)
        assert refused.status_code == 429
        assert 3500 < int(refused.headers["Retry-After"]) <= 3600
    with app.client(headers=headers | {"Authorization": "token user-ada"}) as ada:
        assert ada.post("/api/builds", json=asked).status_code == 400


def test_visitors_of_one_ipv6_network_are_counted_together(app: RunningApp) -> None:
    """A new address for every request is no new visitor."""
    asked = {"provider": "gh", "spec": "no-repository"}
    statuses = []
    for address in ("2001:db8::1", "2001:db8::2", "2001:db8::3:1", "2001:db8::4", "2001:db8:0:1::1"):
        with app.client(headers={"X-Forwarded-For": address}) as browser:
            statuses.append(browser.post("/api/builds", json=asked).status_code)
    assert statuses == [400, 400, 400, 429, 400]


def test_who_only_wants_to_know_of_images_is_counted_too(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question may be one to the repository's host."""
    monkeypatch.setattr(api_builds, "QUESTIONS", Rate(requests=2, seconds=60))
    with app.client(headers={"X-Forwarded-For": "198.51.100.78"}) as browser:
        statuses = [browser.get("/api/images/gh/no-repository").status_code for _ in range(3)]
        assert statuses == [400, 400, 429]
        browser.headers["Authorization"] = "token user-ada"
        assert browser.get("/api/images/gh/no-repository").status_code == 400


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"{}", "text/plain", 415, "application/json"),
        (b"{", "application/json", 400, "Invalid JSON"),
        (b"[]", "application/json", 400, "can't be used"),
        (b"[" * 60_000, "application/json", 400, "can't be used"),
        (b'{"text": 1}', "application/json", 400, "text: Input should be a valid string"),
        (b'{"text": "a", "x": 1}', "application/json", 400, "x: Extra inputs are not permitted"),
        (b'{"text": "\xff"}', "application/json", 400, "can't be used"),
        (b'{"text": "a\\u0000"}', "application/json", 400, "text: String should match pattern"),
        (b" " * 65_537, "application/json", 413, "larger than 64 kB"),
        (b" " * 10_000_000, "application/json", 413, "larger than 64 kB"),
    ],
)
def test_bodies(browser: httpx.Client, content: bytes, kind: str, status: int, said: str) -> None:
    """What is wrong is said in a sentence; what is too large is not read into memory."""
    answer = browser.post("/api/parse", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


def test_a_header_that_is_too_long_ends_the_connection(app: RunningApp) -> None:
    """The service goes on."""
    host, port = app.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b"200" not in connection.recv(100)
    with app.client() as browser:
        assert browser.get("/versions").status_code == 200


def events(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for line in lines:
        if line.startswith("id:"):
            number = int(line[3:])
        elif line.startswith("data:"):
            yield number, json.loads(line[5:])


def test_a_stream_is_resumed_after_the_last_event_that_was_seen(app: RunningApp, browser: httpx.Client) -> None:
    """It ends with the job; an EventSource that comes back then is told to stay away (204)."""
    store = app.services.store
    job = job_of(app, "user:ada", "stream")
    path = f"/api/builds/{job.id}/events"
    assert store.claim(job.id, "here", 1.0)
    with browser.stream("GET", path) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        lines = answer.iter_lines()
        assert next(lines) == "retry: 3000"
        first = next(events(lines))
        assert (first[0], first[1]["number"], first[1]["state"]) == (1, 1, "queued")
    said = [(2.0, {"kind": "message", "phase": "lock", "message": f"<b>{number}\n"}) for number in range(3)]
    store.append(job.id, "here", said)

    def end() -> None:
        store.finish(job.id, "here", Result("failed", "it does not work"), 3.0)
        app.services.feed.nudge(job.id)

    with browser.stream("GET", path, headers={"Last-Event-ID": "2"}) as answer:
        threading.Timer(0.3, end).start()
        seen = list(events(answer.iter_lines()))
    assert [number for number, _ in seen] == [3, 4, 5, 6]
    assert seen[0][1]["message"] == "<b>0\n"
    assert (seen[-1][1]["state"], seen[-1][1]["message"]) == ("failed", "it does not work")
    assert browser.get(path, headers={"Last-Event-ID": "6"}).status_code == 204
    assert browser.get(f"{path}?after=6").status_code == 204
    assert browser.get(path, headers={"Last-Event-ID": "nonsense"}).status_code == 200
    assert browser.get(f"{path}?after=-1").status_code == 400
    assert browser.head(path).headers["Content-Type"] == "text/event-stream; charset=utf-8"
    log = browser.get(f"/api/builds/{job.id}/log")
    assert log.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert log.text.splitlines()[2:] == [
        *(f"1970-01-01T00:00:02Z lock      <b>{number}" for number in range(3)),
        "1970-01-01T00:00:03Z failed    it does not work",
    ]


def test_a_silent_stream_is_kept_alive_and_given_up_with_its_client(
    app: RunningApp, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comment now and then; whoever has left is not watched for any more."""
    monkeypatch.setattr(base, "KEEPALIVE", 0.05)
    job = job_of(app, "user:ada", "silent")
    with browser.stream("GET", f"/api/builds/{job.id}/events") as answer:
        lines = answer.iter_lines()
        while next(lines) != ":keepalive":
            pass
        assert app.services.feed.watchers == 1
    wait_until(lambda: app.services.feed.watchers == 0)


def test_a_client_that_does_not_read_is_let_go(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was sent does not stay in memory."""
    monkeypatch.setattr(base, "SLOW", 0.2)
    let_go, detach = threading.Event(), base.BaseHandler.detach

    def noted(handler: base.BaseHandler) -> IOStream:
        let_go.set()
        return detach(handler)

    monkeypatch.setattr(base.BaseHandler, "detach", noted)
    store, job = app.services.store, job_of(app, "user:ada", "slow")
    assert store.claim(job.id, "here", 1.0)
    store.append(job.id, "here", [(2.0, {"kind": "message", "phase": "lock", "message": "x" * 4000})] * 4000)
    host, port = app.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(f"GET /api/builds/{job.id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert let_go.wait(30)
        wait_until(lambda: app.services.feed.watchers == 0)


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_services_address_at_the_hub_leads_to_the_start(browser: httpx.Client) -> None:
    """And nowhere else."""
    for path, target in (
        ("/services/launch", "/"),
        ("/services/launch/", "/"),
        ("/services/launch/v2/gh/a/b/HEAD?labpath=x", "/v2/gh/a/b/HEAD?labpath=x"),
        ("/services/launch//evil.example.org", "/evil.example.org"),
        ("/services/launch/%2Fevil.example.org", "/evil.example.org"),
        ("/services/launch/%5C%5Cevil.example.org", "/"),
    ):
        answer = browser.get(path)
        assert (answer.status_code, answer.headers["Location"]) == (302, target), path
