"""The pages in a real Chromium, on a whole facility: paste, launch, run a cell, stop; and what can go wrong.

With ``CASABINDER_SCREENSHOTS`` naming a directory, the pictures of the documentation are written there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.integration.service.conftest import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from playwright.sync_api import Browser, Page, Route

    from tests.testbed.facility import RunningFacility
    from tests.testbed.git_server import GitServer

    Add = Callable[[str, Mapping[str, bytes | str]], str]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium: run scripts/bootstrap"),
]

BUILDING = 180_000  # milliseconds
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "mass",
            "metadata": {},
            "outputs": [],
            "source": ["from dask.distributed import Client\n", "Client().submit(lambda: 6 * 7).result()"],
        }
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
UNNAMED = """() => [...document.querySelectorAll("input,select,textarea,button,a,img,[role=region]")].filter((one) => {
  if (one.matches("img")) return !one.hasAttribute("alt");
  const labels = [...(one.labels ?? [])].map((label) => label.textContent).join("");
  const by = document.getElementById(one.getAttribute("aria-labelledby"))?.textContent;
  return !(one.getAttribute("aria-label") || by || labels || (one.matches("button, a") && one.textContent)?.trim());
}).map((one) => one.outerHTML)"""


@contextmanager
def opened(browser: Browser, **options: Any) -> Iterator[tuple[Page, list[str]]]:
    """Give a page of a person who was never here, and what its console complains about (policies that are broken)."""
    context = browser.new_context(**options)
    page = context.new_page()
    complaints: list[str] = []
    # JupyterLab, which is at /user/, complains when it is left in the middle of a request.
    page.on("pageerror", lambda error: complaints.append(str(error)) if "/user/" not in (error.stack or "") else None)
    page.on("console", lambda line: complaints.append(line.text) if "Content Security Policy" in line.text else None)
    try:
        yield page, complaints
    finally:
        context.close()


def picture(page: Page, name: str) -> None:
    """Write a picture of what is seen, if somebody wants it."""
    if place := os.environ.get("CASABINDER_SCREENSHOTS"):
        page.screenshot(path=Path(place) / f"{name}.png")


def build_page(facility: RunningFacility, url: str, ref: str = "HEAD") -> str:
    return f"{facility.url}/v2/git/{quote(url, safe='')}/{ref}"


def test_paste_launch_run_a_cell_stop(anonymous: RunningFacility, add_repository: Add, chromium: Browser) -> None:
    url = add_repository("page/z-peak", {"requirements.txt": "particle\n", "analysis.ipynb": json.dumps(NOTEBOOK)})
    with opened(chromium, viewport={"width": 1100, "height": 860}) as (page, complaints):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(anonymous.url)
        page.get_by_label("Repository, file or DOI").fill(url)
        expect(page.get_by_role("status", name="What was understood")).to_contain_text("z-peak")
        page.get_by_text("More choices").click()
        page.get_by_label("File to open").fill("analysis.ipynb")
        expect(page.get_by_role("status", name="What was understood")).to_contain_text("analysis.ipynb")
        assert (
            page.get_by_label("Link", exact=True).input_value()
            == f"{build_page(anonymous, url)}?labpath=analysis.ipynb"
        )
        page.get_by_text("More choices").click()
        picture(page, "launch-page")
        page.get_by_role("button", name="Launch").click()
        step = page.get_by_role("list", name="Steps").locator("> li", has_text="Choose the packages")
        expect(step).to_contain_text("(done)", timeout=BUILDING)
        picture(page, "build-view")

        # Straight into JupyterLab, where the cell runs on a worker.
        page.wait_for_url(re.compile(r".*/user/.*/lab/tree/analysis\.ipynb"), timeout=BUILDING)
        lab = page.url
        # The notebook itself says "idle" before it has a kernel, and asks for one if it is run then.
        expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=BUILDING)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        expect(page.locator(".jp-OutputArea-output", has_text="42")).to_be_visible(timeout=BUILDING)
        picture(page, "jupyterlab")

        # The session's dashboard, through the same login.
        root = lab.partition("/lab/")[0]
        dashboard = page.request.get(f"{root}/casabinder/api/session").json()["dashboard"]
        page.goto(f"{root}/{dashboard}")
        expect(page).to_have_title(re.compile("Dask"))

        # The token was in no address, and going back does not lead forward again.
        page.goto(build_page(anonymous, url) + "?labpath=analysis.ipynb")
        page.wait_for_url(re.compile(r".*/user/.*/lab/.*"), timeout=BUILDING)
        assert not [address for address in asked if "token=" in address]
        page.go_back()
        expect(page.get_by_role("button", name="Open JupyterLab")).to_be_visible(timeout=30_000)
        expect(page.locator("#composition")).to_contain_text("From the base")

        page.get_by_role("link", name="My servers").click()
        rows = page.get_by_role("list", name="My servers").locator("> li")
        expect(rows.first).to_contain_text("Running")
        picture(page, "servers")
        running = rows.filter(has_text="Running")
        while count := running.count():
            page.get_by_role("button", name=re.compile("^Stop")).first.click()
            expect(running).to_have_count(count - 1, timeout=60_000)

        gone = page.goto(lab)
        assert gone is not None
        assert gone.status == 424
        expect(page.get_by_role("heading", level=1)).to_have_text("This server has stopped")
        expect(page.get_by_role("link", name="To the start page")).to_be_visible()
        assert complaints == []


def test_a_build_survives_a_reload_and_can_be_cancelled(
    anonymous: RunningFacility, add_repository: Add, chromium: Browser
) -> None:
    url = add_repository("page/patience", {"postBuild": "#!/bin/sh\necho a line to find\nsleep 600\n"})
    with opened(chromium) as (page, complaints):
        page.goto(build_page(anonymous, url))
        log = page.get_by_role("region", name="Lines of the log")
        expect(log).to_contain_text("a line to find", timeout=BUILDING)
        address = page.url
        assert "#build=" in address

        page.reload()
        expect(log).to_contain_text("a line to find")
        assert page.url == address
        search = page.get_by_label("Search the log")
        search.fill("LINE TO FIND")
        expect(log.locator("mark").first).to_have_text("a line to find"[2:])
        search.fill("nowhere in it")
        expect(log.locator("div:visible")).to_have_count(0)
        search.fill("")
        href = page.get_by_role("link", name="Download").get_attribute("href")
        saved = page.request.get(f"{anonymous.url}{href}")
        assert "a line to find" in saved.text()

        page.get_by_role("button", name="Cancel the build").click()
        expect(page.locator("#state-text")).to_have_text("This build was cancelled", timeout=60_000)
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        assert complaints == []


def test_a_failure_says_what_matters(anonymous: RunningFacility, add_repository: Add, chromium: Browser) -> None:
    url = add_repository("page/broken", {"requirements.txt": "this is not a requirement\n"})
    with opened(chromium) as (page, complaints):
        page.goto(build_page(anonymous, url))
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("The image could not be built", timeout=BUILDING)
        expect(alert).to_contain_text("requirements.txt, line 1")
        expect(page.get_by_role("region", name="Lines of the log").locator(".bad")).to_contain_text(
            "requirements.txt, line 1"
        )
        page.get_by_role("button", name="Try again").focus()
        page.keyboard.press("Enter")
        expect(alert).to_be_hidden()
        expect(alert).to_contain_text("The image could not be built", timeout=BUILDING)
        assert complaints == []


@pytest.mark.parametrize("ref", ["<img src=x onerror=alert(1)>", "no'such\"branch", "{{ 7 * 7 }}"])
def test_a_branch_is_shown_as_it_is_named(
    anonymous: RunningFacility, git_server: GitServer, chromium: Browser, ref: str
) -> None:
    with opened(chromium) as (page, complaints):
        page.goto(build_page(anonymous, git_server.url("page/none.git"), quote(ref, safe="")))
        expect(page.get_by_role("heading", level=1)).to_contain_text(ref)
        assert ref in page.title()
        expect(page.get_by_role("alert")).to_contain_text("This can't be launched")
        assert page.locator("main img").count() == 0
        assert complaints == []


@pytest.mark.parametrize(
    ("pasted", "understood"),
    [
        ("https://github.com/user/repo/blob/dev/a/b.ipynb", ["GitHub", "user/repo", "dev", "a/b.ipynb"]),
        ("user/repo", ["GitHub", "user/repo", "default branch", "JupyterLab"]),
        ("https://gitlab.com/group/sub/repo", ["GitLab", "group/sub/repo", "default branch"]),
        ("https://doi.org/10.5281/zenodo.1234567", ["Zenodo", "10.5281/zenodo.1234567"]),
        ("https://mybinder.org/v2/gh/user/repo/v1.0?urlpath=lab/tree/x.ipynb", ["GitHub", "v1.0", "lab/tree/x.ipynb"]),
        ("good morning", ["Not understood", "neither the address of a repository nor a DOI"]),
    ],
)
def test_what_is_pasted_is_understood_at_once(
    anonymous: RunningFacility, chromium: Browser, pasted: str, understood: list[str]
) -> None:
    with opened(chromium) as (page, complaints):
        page.goto(anonymous.url)
        page.get_by_label("Repository, file or DOI").fill(pasted)
        for words in understood:
            expect(page.get_by_role("status", name="What was understood")).to_contain_text(words)
        assert complaints == []


def test_the_keyboard_is_enough(anonymous: RunningFacility, chromium: Browser) -> None:
    with opened(chromium) as (page, _):
        page.goto(anonymous.url)
        page.keyboard.type("https://github.com/user/repo")  # the field has the focus
        expect(page.get_by_role("status", name="What was understood")).to_contain_text("user/repo")
        for name in ("Launch", "More choices"):
            page.keyboard.press("Tab")
            expect(page.locator(":focus")).to_have_text(name)
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.get_by_label("Branch, tag or commit")).to_be_focused()
        page.keyboard.type("dev")
        expect(page.get_by_label("Markdown", exact=True)).to_have_value(
            re.compile(r"\[!\[Launch\]\(.*/v2/gh/user/repo/dev\)")
        )
        page.keyboard.press("Enter")
        page.wait_for_url("**/v2/gh/user/repo/dev*")


def test_what_was_typed_stays_when_the_list_of_bases_comes_late(anonymous: RunningFacility, chromium: Browser) -> None:
    with opened(chromium) as (page, _):
        asked: list[Route] = []
        page.route("**/api/bases", lambda route: asked.append(route))
        page.goto(anonymous.url)
        page.get_by_label("Repository, file or DOI").fill("https://github.com/user/repo")
        expect(page.get_by_role("status", name="What was understood")).to_contain_text("user/repo")
        page.get_by_text("More choices").click()
        page.get_by_label("Branch, tag or commit").fill("dev")
        asked[0].continue_()
        expect(page.locator("#bases input[value^=coffea]").first).to_be_attached()
        page.wait_for_load_state("networkidle")
        expect(page.get_by_label("Branch, tag or commit")).to_have_value("dev")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path", ["/", "/servers", "/images", "/user/nobody/lab", "/v2/gh/user/repo/HEAD", "/v2/xx/a/b"]
)
def test_every_page_fits_a_phone_and_names_what_it_has(
    anonymous: RunningFacility, chromium: Browser, path: str, scheme: Any
) -> None:
    options = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with opened(chromium, **options) as (page, complaints):
        sizes: list[int] = []
        elsewhere: list[str] = []

        def count(response: Any) -> None:
            if not response.url.startswith(anonymous.url):
                elsewhere.append(response.url)
            elif "/api/" not in response.url:
                sizes.append(len(response.body()))

        page.on("requestfinished", lambda request: count(request.response()))
        page.goto(anonymous.url + path)
        page.wait_for_load_state("load")
        page.wait_for_timeout(300)
        if path == "/":
            page.get_by_label("Repository, file or DOI").fill(
                "https://github.com/user/a-repository-with-a-very-long-name"
            )
            page.get_by_text("More choices").click()
            expect(page.get_by_text("coffea with Dask on Python 3.13")).to_be_visible()
            if scheme == "dark":
                page.get_by_text("More choices").click()
                page.evaluate("scrollTo(0, 0)")
                picture(page, "phone-dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate(UNNAMED) == []
        assert [page.locator(name).count() for name in ("h1", "main", "header nav", "html[lang=en]")] == [1, 1, 1, 1]
        assert elsewhere == []
        assert sum(sizes) <= 100_000
        assert complaints == []


def test_people_log_in_and_keep_tokens(with_login: RunningFacility, chromium: Browser) -> None:
    with opened(chromium) as (page, complaints):
        page.goto(f"{with_login.url}/tokens")
        page.get_by_label("Username").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/tokens")
        page.locator("#host").fill("GitLab.example.org")
        page.locator("#token").fill("a-token-of-mine")
        page.get_by_role("button", name="Keep it").click()
        kept = page.get_by_role("list", name="Tokens by host")
        expect(kept).to_contain_text("gitlab.example.org")
        assert "a-token-of-mine" not in page.content()
        page.get_by_role("button", name="Delete the token for gitlab.example.org").click()
        expect(kept).not_to_contain_text("gitlab.example.org")
        page.get_by_role("link", name="Sign out ada").click()
        page.goto(f"{with_login.url}/tokens")
        expect(page.get_by_label("Username")).to_be_visible()
        assert complaints == []


def test_without_scripts_it_says_so(anonymous: RunningFacility, chromium: Browser) -> None:
    with opened(chromium, java_script_enabled=False) as (page, _):
        page.goto(anonymous.url)
        expect(page.locator("noscript p")).to_be_visible()


def test_a_page_is_found_by_what_it_launches(anonymous: RunningFacility) -> None:
    page = anonymous.client.get("/v2/gh/user/repo/main").text
    assert '<meta property="og:title" content="GitHub: user/repo/main">' in page
    assert "<title>user/repo/main · casabinder</title>" in page


def test_only_the_files_of_the_pages_are_served(anonymous: RunningFacility) -> None:
    style = re.search(r"/static/[0-9a-f]{12}/casabinder\.css", anonymous.client.get("/").text)
    assert style
    answer = anonymous.client.get(style[0])
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
    assert anonymous.client.get("/static/000000000000/casabinder.css").headers["cache-control"] == "no-cache"
    for path in ("pages.py", "..%2fpages.py", "%2e%2e/pages.py", "%2fetc%2fpasswd", "000000000000/..%2f..%2fpages.py"):
        assert anonymous.client.get(f"/static/{path}").status_code == 404
