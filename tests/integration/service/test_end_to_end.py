"""What a person does: paste a repository, launch it, run a cell on Dask workers, see the dashboard, stop the server.

In a real browser, against the real JupyterHub, proxy, Docker Engine, registry and git server.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.testbed.facility import CHROMIUM, fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Response

    from tests.testbed.facility import RunningFacility

pytestmark = pytest.mark.integration

logger = logging.getLogger(__name__)

PATIENCE = 180_000  # milliseconds
CELLS = (
    "from dask.distributed import Client\nclient = Client()\nclient.submit(lambda: 6 * 7).result()",
    "import particle\nprint('muon', particle.Particle.from_pdgid(13).name)",
)
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": cell,
        }
        for number, cell in enumerate(CELLS)
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
FILES = {"requirements.txt": "particle>=1.0\n", "analysis.ipynb": json.dumps(NOTEBOOK)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, anonymous: RunningFacility, tmp_path: Path) -> Iterator[Page]:
    """A page of the facility; what it looked like at the end is kept in the test's directory.

    Requests that came to nothing are logged, for a test that fails. JupyterLab waits for ever when its style sheet
    does not come, which happened once on a machine that was very busy: the page is then loaded again, as anybody would.
    """
    context = browser.new_context(base_url=anonymous.url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    context.on("requestfailed", lambda request: logger.warning("%s: %s", request.url, request.failure))
    context.on("response", _log_if_refused)
    page = context.new_page()
    page.add_locator_handler(page.get_by_role("dialog", name="Error Loading Theme"), lambda: page.reload())
    yield page
    page.screenshot(path=tmp_path / "end.png")
    context.close()


def _log_if_refused(response: Response) -> None:
    if response.status >= 400:
        logger.warning("%s: status %s", response.url, response.status)


def test_from_a_pasted_address_to_dask_workers_and_back(
    page: Page,
    anonymous: RunningFacility,
    add_repository: Callable[[str, Mapping[str, bytes | str]], str],
    tmp_path: Path,
) -> None:
    url = add_repository("muons", {**FILES, **fresh()})

    page.goto("/")
    page.get_by_label("Repository, file or DOI").fill(url)
    expect(page.get_by_role("status", name="What was understood")).to_contain_text("muons")
    page.screenshot(path=tmp_path / "pasted.png")
    page.get_by_text("More choices").click()
    page.get_by_label("File to open").fill("analysis.ipynb")
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/v2/**")
    page.screenshot(path=tmp_path / "building.png")

    page.wait_for_url(re.compile(r"/user/[^/]+/(.+/)?lab"))
    server = re.sub(r"lab(/.*)?$", "", page.url.partition("?")[0])
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    outputs = page.locator(".jp-OutputArea-output")
    expect(outputs.filter(has_text=re.compile(r"^42$"))).to_be_visible()
    expect(outputs.filter(has_text="muon mu-")).to_be_visible()
    page.screenshot(path=tmp_path / "ran.png")

    scale_in_the_panel(page, tmp_path)

    session = page.request.get(f"{server}casabinder/api/session").json()
    dashboard = page.context.new_page()
    dashboard.goto(server + session["dashboard"])
    expect(dashboard.get_by_text("Workers").first).to_be_visible()
    dashboard.screenshot(path=tmp_path / "dashboard.png")
    dashboard.close()

    servers = page.context.new_page()
    servers.goto("/servers")
    row = servers.get_by_role("list", name="My servers").get_by_role("listitem")
    expect(row).to_have_count(1)
    row.get_by_role("button", name=re.compile("Stop")).click()
    servers.screenshot(path=tmp_path / "stopping.png")
    expect(row).to_have_count(0)
    assert anonymous.containers() == []
    servers.close()


def scale_in_the_panel(page: Page, tmp_path: Path) -> None:
    """See the workers in JupyterLab's status bar and ask for one less, with the keyboard alone."""
    item = page.get_by_role("button", name="Dask: 2 running")
    panel = page.get_by_role("dialog", name="Dask workers")
    item.focus()
    page.keyboard.press("Enter")
    expect(panel.get_by_role("status")).to_contain_text("2 running")
    number = panel.get_by_role("spinbutton", name="Number of workers")
    expect(number).to_be_focused()
    expect(number).to_have_value("2")
    page.screenshot(path=tmp_path / "panel.png")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    expect(panel.get_by_role("status")).to_contain_text("1 running")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(page.get_by_role("button", name="Dask: 1 running")).to_be_focused()
    # The panel of dask-labextension is there as well.
    expect(page.get_by_role("tab", name="Dask", exact=True)).to_be_visible()
