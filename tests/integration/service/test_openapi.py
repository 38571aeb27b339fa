"""The API's document and the running service say the same: schemathesis sends what it allows, and what it does not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from launcher.database import open_database
from launcher.jobs.model import Asked, BuildRequest
from launcher.jobs.store import JobStore
from launcher.service.api import api_document
from launcher.site_config import Service
from tests.testbed.service_process import RunningService, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

# Nothing is fetched from anywhere: what schemathesis invents as a repository is not one that the site builds.
SITE = {"repositories": {"allow": ["127.0.0.1/*"]}, "service": {"rate": {"requests": 0}}}
RECORD = {"image": "127.0.0.1:5000/a/b:c", "digest": f"sha256:{'d' * 64}", "env_id": "e" * 16}
CASES = 6


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service without a hub, in which somebody else's public build has ended."""
    with running_service(tmp_path_factory.mktemp("service"), SITE) as running:
        yield running


@pytest.fixture(scope="module")
def job(service: RunningService) -> str:
    """Return the id of that build."""
    engine = open_database(Service(), service.cache)
    request = BuildRequest(Asked("gh", "user/repo/HEAD"), "https://github.com/user/repo", "HEAD", "1" * 40)
    made = JobStore(engine).add_built("key", request, "visitor:somebody", RECORD, now=time.time())
    engine.dispose()
    return made.id


def test_the_running_service_does_what_its_document_says(service: RunningService, job: str, tmp_path: Path) -> None:
    """Schemathesis finds no answer that the document does not have, and nothing wrong that is accepted."""
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(
        f'[[operations]]\ninclude-path-regex = "^/api/builds/"\nparameters = {{ "path.id" = "{job}" }}\n'
    )
    command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(configuration), "--no-color"]
    command += ["run", f"{service.url}/api/openapi.json", "--phases", "coverage,fuzzing"]
    command += ["--max-examples", str(CASES), "--seed", "1", "--no-shrink", "--generation-database", "none"]
    # A spec of the right form may still name nothing: that is for 404, not for the schema.
    command += ["--exclude-checks", "positive_data_acceptance", "--request-timeout", "20"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:] + service.log()[-2000:]
    assert "Tested: 22" in done.stdout, done.stdout


def test_the_document_is_served_as_it_is_made(service: RunningService) -> None:
    """What is answered is what the routes say."""
    answer = httpx.get(f"{service.url}/api/openapi.json", trust_env=False)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == json.loads(json.dumps(api_document()))
