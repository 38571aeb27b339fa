"""The example analysis on a real HTCondor pool, reading from a real XRootD server that demands a token."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import build
from builder.container.engine import docker as engine
from builder.repository.spec import RepoSpec
from launcher import docker
from launcher.cli import main
from launcher.notebook_client import NotebookClient
from launcher.site_config import cache_directory
from tests.testbed.condor.unpacked import unpacked
from tests.testbed.git_repository import commit_files
from tests.testbed.launching import engine_answers, kernel_of, open_facility
from tests.testbed.pool import running_pool
from tests.testbed.pool_session import running_pool_session, session_jobs
from tests.testbed.pool_site import write_pool_site
from tests.testbed.scitokens import Issuer
from tests.testbed.xrootd import running_token_xrootd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.record import ImageRecord
    from launcher.servers import Server
    from tests.testbed.pool import RunningPool
    from tests.testbed.xrootd import TokenServer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]

EXAMPLE = Path(__file__).parents[3] / "examples" / "agc-ttbar"
CA = "testbed-ca.pem"
EVENTS = 2000
ISSUER = Issuer()
# The settings of a site; the server's authority is in the repository, and so in the image.
SETTINGS = {"X509_CERT_FILE": f"/srv/repo/{CA}", "XCACHE_HOST": "xcache.example.org", "XRD_CONNECTIONRETRY": "1"}
SET_UP = """
import json, os, time
from dask.distributed import Client
client = Client()
client.wait_for_workers(2, timeout=150)

def read(url):
    import fsspec
    try:
        return fsspec.open(url, "rt").open().read()
    except OSError as error:
        return str(error)

def look():
    from pathlib import Path
    path = Path(os.environ["BEARER_TOKEN_FILE"])
    inside = str(path).startswith(os.environ.get("_CONDOR_SCRATCH_DIR", "/run/casabinder"))
    return [oct(path.stat().st_mode & 0o777), inside, os.environ["XCACHE_HOST"], path.read_text().strip()[-20:]]

def say(what):
    print("RESULT", json.dumps(what))
"""


@dataclass(frozen=True)
class Analysis:
    """A launched server with the example, the data's server, and the token that was brought along."""

    server: Server
    data: TokenServer
    token: str
    site: Path
    repository: Path

    def run(self, code: str) -> object:
        """Run code in a kernel of the server and return what it said by ``say``."""
        with kernel_of(self.server) as kernel:
            said = kernel.run(SET_UP + code, seconds=240)
        assert said.error == "", said
        return json.loads(said.stdout.split("RESULT ", 1)[1].splitlines()[0])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPool]:
    """A pool of two nodes."""
    with running_pool(tmp_path_factory.mktemp("pool") / "pool") as running:
        yield running


@pytest.fixture(scope="module")
def data() -> Iterator[TokenServer]:
    """A server with the example's events below ``agc``, and a file beside them."""
    with tempfile.TemporaryDirectory(prefix="agc-token-data-") as name:
        directory = Path(name)
        program = [sys.executable, str(EXAMPLE / "make_data.py"), str(directory / "agc"), "--events", str(EVENTS)]
        subprocess.run(program, check=True)
        (directory / "later.txt").write_text("later")
        directory.chmod(0o755)
        (directory / "agc").chmod(0o755)
        with running_token_xrootd(directory, ISSUER, cache_directory() / "test-xrootd") as running:
            yield running


@pytest.fixture(scope="module")
def repository(data: TokenServer) -> Path:
    """The example with the certificate of the server's authority beside it."""
    directory = cache_directory() / "test-repositories" / "agc-tokens"
    shutil.rmtree(directory, ignore_errors=True)
    files: dict[str, bytes | str] = {
        path.name: path.read_bytes() for path in EXAMPLE.iterdir() if path.suffix in (".py", ".ipynb", ".txt")
    }
    commit_files(directory, {**files, CA: data.ca.read_bytes()})
    return directory


@pytest.fixture(scope="module")
def image(repository: Path) -> ImageRecord:
    """Its image, in the site's registry."""
    with open_facility() as context:
        return build(RepoSpec(str(repository)), context.bases(), context.facility)


@pytest.fixture(scope="module")
def analysis(
    pool: RunningPool,
    data: TokenServer,
    repository: Path,
    image: ImageRecord,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Analysis]:
    """The example, launched with two workers in the pool and a token for its own data."""
    directory = tmp_path_factory.mktemp("site")
    stated = {"memory": "1GiB", "disk": "20MiB"}
    site = write_pool_site(directory, pool, stated, {"data": {"environment": SETTINGS}})
    token = ISSUER.token(scope="read:/agc")
    server = launch(repository, site, token)
    try:
        yield Analysis(server, data, token, site, repository)
    finally:
        docker.stop(cache_directory(), [server.name])
        deadline = time.monotonic() + 60
        while left := [ad for ad in session_jobs(pool) if ad["CasabinderEnvId"] == image.env_id]:
            assert time.monotonic() < deadline, left
            time.sleep(0.5)


def launch(repository: Path, site: Path, token: str) -> Server:
    """Run `casabinder launch` with this data token and return the server."""
    file = site.parent / "data-token"
    file.touch(mode=0o600)
    file.write_text(token)
    there = {server.name for server in docker.servers(cache_directory())}
    command = ["launch", str(repository), "--pool", "htcondor", "--workers", "2", "--memory", "2G", "--quiet"]
    status = main([*command, "--site", str(site), "--data-token", str(file)])
    assert status == 0
    found = [server for server in docker.servers(cache_directory()) if server.repo == str(repository)]
    assert found, there
    return found[0]


def test_the_analysis_reads_with_the_token_on_two_workers(analysis: Analysis, image: ImageRecord) -> None:
    looked = analysis.run("say([look(), *client.run(look).values()])")
    ending = analysis.token[-20:]
    assert looked == [["0o400", True, SETTINGS["XCACHE_HOST"], ending]] * 3
    with NotebookClient(analysis.server.url, analysis.server.token) as client:
        client.run("ttbar.ipynb", environment={"AGC_COMPARE": "1", "AGC_DATA": f"{analysis.data.url}agc"})
        metrics = json.loads(client.fetch_file("metrics.json"))
    assert metrics["equal_to_one_process"] is True
    assert metrics["events"] == 3 * 2 * EVENTS
    assert (metrics["env_id"], metrics["worker_env_ids"]) == (image.env_id, [image.env_id])
    assert metrics["workers"] == 2


def test_a_new_token_is_pushed_and_read_with(analysis: Analysis) -> None:
    """The workers have connections to the server which the first token does not let read this file."""
    url = f"{analysis.data.url}later.txt"
    refused = analysis.run(f"say([read({url!r}), *client.run(read, {url!r}).values()])")
    assert isinstance(refused, list)
    assert all("permission denied" in answer for answer in refused)
    token = ISSUER.token()
    assert launch(analysis.repository, analysis.site, token).name == analysis.server.name
    answers = analysis.run(
        "deadline = time.monotonic() + 30\n"
        f"while {{found[3] for found in client.run(look).values()}} != {{{token[-20:]!r}}}:\n"
        "    assert time.monotonic() < deadline, client.run(look)\n"
        "    time.sleep(0.2)\n"
        f"say([read({url!r}), *client.run(read, {url!r}).values()])"
    )
    assert answers == ["later"] * 3
    assert " t2." in analysis.data.log(), "the workers have logged in anew"


def test_tokens_are_where_they_are_needed_and_nowhere_else(analysis: Analysis, pool: RunningPool) -> None:
    server = analysis.server.name
    place = "/run/casabinder/data/bearer_token"
    assert engine("exec", server, "stat", "-c", "%a %u", place).split() == ["400", "1000"]
    signatures = {token.rpartition(".")[2] for token in (analysis.token, engine("exec", server, "cat", place).strip())}
    assert len(signatures) == 2, "the second one was brought by a launch of the server that ran"
    workers = engine("ps", "--quiet", "--filter", f"label=casabinder.test-pool={pool.name}").split()
    of_pool = " ".join(f"-e {signature}" for signature in signatures)
    texts = {
        "ads of jobs": json.dumps(pool.queue()),
        "containers": engine("inspect", server, *workers),
        "the server's log": "\n".join(docker.logs(cache_directory(), server)),
        "the session's log": engine("exec", server, "sh", "-c", "cat /run/casabinder/session-*/session.log"),
        "environment and logs of the workers": json.dumps(
            analysis.run(
                "def everything():\n"
                "    from pathlib import Path\n"
                "    job = Path(os.environ['_CONDOR_SCRATCH_DIR'])\n"
                "    files = [Path('/proc/self/environ'), *(path for path in job.iterdir() if path.is_file())]\n"
                "    return {path.name: path.read_text(errors='replace') for path in files}\n"
                "say(list(client.run(everything).values()))"
            )
        ),
        # Files may go while they are looked at, which is an error to grep; the last pattern is there to be found.
        "the pool's logs, the schedd's disk": pool.run(
            "sh",
            "-c",
            f"grep -rshoF {of_pool} -e CasabinderWorker $(condor_config_val SPOOL) $(condor_config_val LOG) || true",
        ),
    }
    for what, said in {
        "ads of jobs": "CasabinderWorker",
        "containers": "CASABINDER_POOL",
        "the server's log": "Jupyter Server",
        "the session's log": "workers have the token of /run/casabinder/data/bearer_token",
        "environment and logs of the workers": "Starting Worker plugin casabinder-data-access",
        "the pool's logs, the schedd's disk": "CasabinderWorker",
    }.items():
        assert said in texts[what], f"{what} were not looked at: {texts[what]}"
    assert [what for what, text in texts.items() if any(signature in text for signature in signatures)] == []


def test_the_container_universe_reads_with_it_as_well(
    pool: RunningPool, data: TokenServer, image: ImageRecord, tmp_path: Path
) -> None:
    token = ISSUER.token()
    with running_pool_session(
        tmp_path,
        pool,
        image.image,
        universe="container",
        image=unpacked(image),
        workers=1,
        maximum=1,
        environment=SETTINGS,
        data_token=token,
    ) as session:
        said = session.run(
            f"{SET_UP.replace('wait_for_workers(2', 'wait_for_workers(1')}\n"
            f"say(list(client.run(read, {data.url + 'later.txt'!r}).values()))"
        )
    assert json.loads(said.split("RESULT ", 1)[1].splitlines()[0]) == ["later"]
