"""Logging in at the real hub, through the real proxy, as a browser does; and tokens that the hub gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.service.conftest import PASSWORD

if TYPE_CHECKING:
    import httpx

    from tests.testbed.facility import RunningFacility

pytestmark = pytest.mark.integration


def log_in(facility: RunningFacility, name: str, path: str) -> tuple[httpx.Client, httpx.Response]:
    """Ask for a page as somebody whom nobody knows yet, log in at the hub, and return what is shown in the end."""
    browser = facility.visitor(follow_redirects=True)
    form = browser.get(path)
    assert form.url.path == "/hub/login"
    xsrf = browser.cookies.get("_xsrf", path="/hub/")
    return browser, browser.post(form.url, data={"username": name, "password": PASSWORD, "_xsrf": xsrf})


def test_who_logs_in_at_the_hub_is_known_to_the_service(with_login: RunningFacility) -> None:
    """And comes back to the page that was asked for; no cookie with power is sent to a notebook server."""
    browser, shown = log_in(with_login, "ada", "/servers?from=here")
    assert (shown.status_code, str(shown.url)) == (200, f"{with_login.url}/servers?from=here")
    assert "ada" in shown.text
    assert browser.get("/api/servers").json() == []
    assert browser.get("/api/credentials").status_code == 200
    to_a_server = browser.build_request("GET", "/user/eve/server/").headers["Cookie"]
    assert "casabinder-session" not in to_a_server
    assert "jupyterhub-hub-login" not in to_a_server
    browser.get("/logout")
    assert browser.get("/api/servers").status_code == 403


def test_a_token_of_the_hub_opens_the_api(with_login: RunningFacility) -> None:
    """One for the launch service does; one for something else does not, nor one that the hub never gave."""
    browser, _ = log_in(with_login, "grace", "/")
    browser.get("/hub/token")
    given = {}
    for scope in ("access:services!service=launch", "read:users!user"):
        answer = browser.post(
            "/hub/api/users/grace/tokens",
            json={"scopes": [scope], "note": "test"},
            headers={"X-XSRFToken": browser.cookies.get("_xsrf", path="/hub/") or ""},
        )
        assert answer.status_code == 201, answer.text
        given[scope] = answer.json()["token"]
    statuses = []
    for token in (*given.values(), "0" * 32):
        program = with_login.visitor(headers={"Authorization": f"token {token}"})
        statuses.append(program.get("/api/credentials").status_code)
    assert statuses == [200, 403, 401]
