"""The clients that people use: BinderHub's own from npm, Thebe in a browser on another site's page, and curl."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.testbed.binder_clients import ask_for_build
from tests.testbed.sse import PHASES

if TYPE_CHECKING:
    from tests.integration.service.binder.conftest import Binder

pytestmark = pytest.mark.integration


def test_binderhubs_client_builds_and_launches(binder: Binder) -> None:
    spec = binder.add("by-client", {"analysis.py": "print(3)\n"})
    said = ask_for_build(f"{binder.facility.url}/build", spec)
    assert said[-1]["phase"] == "ready", said[-1]
    assert said[-1]["token"]
    assert {message["phase"] for message in said} <= PHASES
    assert "built" in [message["phase"] for message in said]


def test_binderhubs_client_builds_only(binder: Binder, built: str) -> None:
    [ready] = ask_for_build(f"{binder.facility.url}/build/", built, {"buildOnly": True})
    assert ready["message"] == "Done! Found built image\n"


@pytest.mark.parametrize(
    ("options", "words"), [({}, "no-such-branch"), ({"buildToken": "nonsense"}, "Invalid build token")]
)
def test_binderhubs_client_is_told_why_not(binder: Binder, built: str, options: dict[str, str], words: str) -> None:
    [failed] = ask_for_build(f"{binder.facility.url}/build", binder.spec("ana", "no-such-branch"), options)
    assert failed["phase"] == "failed"
    assert words in failed["message"]


def test_thebe_on_another_sites_page_runs_a_cell(binder: Binder, built: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{binder.page}/thebe.html?binder={binder.facility.url}&repo={binder.repository('ana')}")
        result = page.locator("#result")
        said = page.locator("#said")
        over = "result.textContent || /^(failed|error)/m.test(said.textContent)"  # elements by their id
        page.wait_for_function(over, timeout=120_000)
        assert (result.text_content() or "").startswith("answer 42 /srv/env/"), said.text_content()
        browser.close()


def test_curl_follows_a_build_to_its_end(binder: Binder, built: str) -> None:
    command = ["curl", "--silent", "--show-error", "--no-buffer", "--fail", "--max-time", "60"]
    url = f"{binder.facility.url}/build/{built}?build_only=true"
    done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("data:")]
    assert json.loads(line[5:])["phase"] == "ready"
    # A script that accepts JSON sees by the exit status that nothing was built.
    missing = f"{binder.facility.url}/build/{binder.spec('ana', 'no-such-branch')}?build_only=true"
    failed = subprocess.run(
        [*command, "--header", "Accept: application/json", missing], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 22
