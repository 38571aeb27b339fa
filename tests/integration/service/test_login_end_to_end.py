"""What a person with a name does: log in, launch, find the server again after it was stopped, with the files in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.integration.service.conftest import PASSWORD
from tests.testbed.facility import CHROMIUM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.testbed.facility import RunningFacility

pytestmark = pytest.mark.integration

PATIENCE = 180_000  # milliseconds
LAB = re.compile(r"/user/[^/]+/(.+/)?lab")


@pytest.fixture
def page(with_login: RunningFacility, tmp_path: Path) -> Iterator[Page]:
    """A page of the facility; what it looked like at the end is kept in the test's directory."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(base_url=with_login.url)
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page = context.new_page()
        yield page
        page.screenshot(path=tmp_path / "end.png")
        browser.close()


def test_log_in_launch_stop_and_start_again(
    page: Page, with_login: RunningFacility, add_repository: Callable[[str, Mapping[str, bytes | str]], str]
) -> None:
    url = add_repository("mine", {"here.txt": "the repository's\n"})
    with with_login.visitor() as nobody:
        assert nobody.get("/api/builds").status_code in (401, 403)

    page.goto("/")
    page.get_by_label(re.compile("Username")).fill("reader")
    page.get_by_label(re.compile("Password")).fill(PASSWORD)
    page.get_by_role("button", name=re.compile("Sign in")).click()
    page.get_by_label("Repository, file or DOI").fill(url)
    expect(page.get_by_role("status", name="What was understood")).to_contain_text("mine")
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url(LAB)
    server = re.sub(r"lab(/.*)?$", "", page.url.partition("?")[0])
    expect(page.get_by_role("listitem", name=re.compile(r"here\.txt"))).to_be_visible()
    xsrf = next(cookie["value"] for cookie in page.context.cookies(server) if cookie["name"] == "_xsrf")
    kept = {"type": "file", "format": "text", "content": "kept\n"}
    written = page.request.put(f"{server}api/contents/mine.txt", data=kept, headers={"X-XSRFToken": xsrf})
    assert written.status in (200, 201), written.text()

    page.goto("/servers")
    row = page.get_by_role("list", name="My servers").get_by_role("listitem")
    row.get_by_role("button", name=re.compile("Stop")).click()
    row.get_by_role("button", name=re.compile("Start")).click()
    page.wait_for_url(LAB)
    expect(page.get_by_role("listitem", name=re.compile(r"mine\.txt"))).to_be_visible()
