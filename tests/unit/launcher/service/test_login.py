"""The login mode, with tokens that say whose they are: what needs a login, and how one comes by it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from launcher.jobs.model import Asked, BuildRequest
from tests.testbed.service_app import RunningApp, running_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """A service for people who log in."""
    site = {"hub": {"mode": "login", "admins": ["grace"]}, "service": {"url": "https://hub.example.org"}}
    with pytest.MonkeyPatch.context() as patch, running_app(tmp_path_factory.mktemp("app"), patch, site) as running:
        yield running


@pytest.fixture
def browser(app: RunningApp) -> Iterator[httpx.Client]:
    with app.client() as client:
        yield client


def cookies_of(answer: httpx.Response) -> dict[str, str]:
    """Return all cookies that an answer sets, by name; they are marked for https, so that a client here keeps none."""
    return dict(line.partition(";")[0].split("=", 1) for line in answer.headers.get_list("Set-Cookie"))


def header(cookies: dict[str, str]) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


def logged_in(browser: httpx.Client, name: str, after: str = "/") -> tuple[httpx.Response, dict[str, str]]:
    """Log in and return the callback's answer with the session's cookies."""
    begun = browser.get("/login", params={"next": after})
    state = parse_qs(urlsplit(begun.headers["Location"]).query)["state"][0]
    query = {"state": state, "code": f"user-{name}"}
    answer = browser.get("/oauth_callback", params=query, headers=header(cookies_of(begun)))
    return answer, cookies_of(answer)


@pytest.mark.parametrize("path", ["/", "/servers", "/v2/gh/a/b/HEAD?labpath=x"])
def test_pages_send_to_the_login_and_back(browser: httpx.Client, path: str) -> None:
    """To the hub's page, with what it comes back to."""
    answer = browser.get(path)
    assert answer.status_code == 302
    assert parse_qs(urlsplit(answer.headers["Location"]).query) == {"next": [path]}
    back, cookies = logged_in(browser, "ada", path)
    assert (back.status_code, back.headers["Location"]) == (302, path)
    assert browser.get(path, headers=header(cookies)).status_code == 200


@pytest.mark.parametrize("path", ["/api/builds", "/api/bases", "/api/servers", "/api/builds/0123456789/events"])
def test_the_api_answers_403_for_event_sources_follow_no_redirects(browser: httpx.Client, path: str) -> None:
    """As JSON."""
    answer = browser.get(path, headers={"Accept": "text/event-stream"})
    assert answer.status_code == 403
    assert "log in first" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/versions", "/badge.svg", "/metrics", "/api/openapi.json", "/api/repoproviders"])
def test_what_needs_no_login(browser: httpx.Client, path: str) -> None:
    """Programs that watch over the service, badges in READMEs, and the document."""
    assert browser.get(path).status_code == 200


def test_a_session_is_a_persons(app: RunningApp, browser: httpx.Client) -> None:
    """Its cookies are for https; the page's own cookie opens no API, and the session's no page."""
    answer, cookies = logged_in(browser, "ada")
    stated = [line for line in answer.headers.get_list("Set-Cookie") if not line.startswith("casabinder-login=")]
    assert len(stated) == 4
    assert all("Secure" in cookie and "SameSite=Lax" in cookie for cookie in stated)
    assert "user-ada" not in str(cookies)
    own = header(cookies)
    assert browser.get("/api/credentials", headers=own).status_code == 200
    page_only = {name: value for name, value in cookies.items() if name != "casabinder-session"}
    assert browser.get("/api/credentials", headers=header(page_only)).status_code == 403
    moved = {"casabinder-page": cookies["casabinder-session"], "_xsrf": cookies["_xsrf"]}
    assert browser.get("/", headers=header(moved)).status_code == 302
    change = {"host": "git.example.org", "token": "t"}
    assert browser.put("/api/credentials", json=change, headers=own).status_code == 403
    meant = own | {"X-Xsrftoken": cookies["_xsrf"]}
    kept = browser.put("/api/credentials", json=change, headers=meant)
    assert kept.status_code == 200
    assert app.services.vault.find("user:ada", "git.example.org") == kept.json()["id"]
    assert browser.delete(f"/api/credentials/{kept.json()['id']}", headers=meant).status_code == 204
    assert browser.delete(f"/api/credentials/{kept.json()['id']}", headers=meant).status_code == 404


def test_a_login_that_was_not_begun_here_is_refused(browser: httpx.Client) -> None:
    """Somebody else's code would log this browser in as somebody else."""
    begun = browser.get("/login")
    state = parse_qs(urlsplit(begun.headers["Location"]).query)["state"][0]
    own = header(cookies_of(begun))
    for query, headers in (
        ({"state": state, "code": "user-eve"}, {}),
        ({"state": "other", "code": "user-eve"}, own),
        ({"code": "user-eve"}, own),
        ({"state": state}, own),
    ):
        answer = browser.get("/oauth_callback", params=query, headers=headers)
        assert answer.status_code == 403
        assert "casabinder-session" not in str(answer.headers)


@pytest.mark.parametrize("after", ["//evil.example.org", "https://evil.example.org", "/\\evil.example.org", "\t//evil"])
def test_nobody_is_sent_elsewhere_after_the_login(browser: httpx.Client, after: str) -> None:
    """Only to places here."""
    answer, _ = logged_in(browser, "ada", after)
    assert answer.headers["Location"] == "/"


def test_logging_out_deletes_the_cookies(browser: httpx.Client) -> None:
    """And goes on to the hub's logout."""
    answer = browser.get("/logout")
    assert answer.headers["Location"] == "/hub/logout"
    gone = [cookie for cookie in answer.headers.get_list("Set-Cookie") if cookie.startswith("casabinder-session=;")]
    assert len(gone) == 2
    assert all("Max-Age=0" in cookie for cookie in gone)


def test_administrators_see_and_change_what_others_have(app: RunningApp, browser: httpx.Client) -> None:
    """They are those that the site names."""
    request = BuildRequest(Asked("gh", "a/b/HEAD"), "https://github.com/a/b", "HEAD", "1" * 40)
    job, _ = app.services.store.submit("admin", request, "user:ada", private=True, now=1.0)
    path = f"/api/builds/{job.id}"
    assert browser.get(path, headers={"Authorization": "token user-eve"}).status_code == 404
    assert browser.get(path, headers={"Authorization": "token service-grace"}).status_code == 404
    assert browser.get(path, headers={"Authorization": "token user-grace"}).json()["mine"] is True
    assert browser.delete(path, headers={"Authorization": "token user-grace"}).json()["state"] == "cancelled"
