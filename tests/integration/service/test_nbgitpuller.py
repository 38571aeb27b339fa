"""A link with nbgitpuller's ``git-pull?repo=...`` as its ``urlpath`` brings its content into the server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.testbed.facility import fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.testbed.facility import RunningFacility

pytestmark = pytest.mark.integration

# The test's git server is on the loopback interface of another machine, seen from the container.
MAKE_CONTENT = """
import subprocess
from pathlib import Path
Path("/tmp/lesson").mkdir()
Path("/tmp/lesson/first.ipynb").write_text("{}")
for command in ("init --quiet --initial-branch main", "add .", "commit --quiet -m lesson"):
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *author, "-C", "/tmp/lesson", *command.split()], check=True)
"""
LINK = "git-pull?repo=%2Ftmp%2Flesson&branch=main&urlpath=lab%2Ftree%2Flesson%2Ffirst.ipynb"


def test_a_link_of_nbgitpuller_brings_its_content(
    anonymous: RunningFacility, add_repository: Callable[[str, Mapping[str, bytes | str]], str]
) -> None:
    job = anonymous.build(add_repository("environment", {"requirements.txt": "", **fresh()}))
    ready = anonymous.launch(job["id"], urlpath=LINK)
    try:
        assert ready["path"] == LINK
        headers = {"Authorization": f"token {ready['token']}"}
        with anonymous.kernel(ready) as kernel:
            assert not kernel.run(MAKE_CONTENT).error
            with httpx.Client(base_url=ready["url"], headers=headers, timeout=60, trust_env=False) as client:
                assert "lesson" in client.get(LINK).raise_for_status().text
                query = {"repo": "/tmp/lesson", "branch": "main", "targetpath": "lesson"}
                with client.stream("GET", "git-pull/api", params=query) as answer:
                    events = [json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:")]
            assert events[-1]["phase"] == "finished", events
            assert "first.ipynb" in kernel.run("import os; print(os.listdir('/srv/repo/lesson'))").stdout
    finally:
        anonymous.client.delete(f"/api/servers/{ready['launch']}").raise_for_status()
