"""Reading from a real XRootD server that demands a token: in a process, and on the workers of a session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.server_extension import kernel_environment

from launcher.site_config import cache_directory
from tests.testbed.identity import write_identity
from tests.testbed.notebook_server import RUNTIME
from tests.testbed.scitokens import Issuer
from tests.testbed.session import running_session
from tests.testbed.xrootd import running_token_xrootd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from casabinder_runtime.session_directory import SessionRecord

    from tests.testbed.xrootd import TokenServer

pytestmark = pytest.mark.integration

ISSUER = Issuer()
READ = "import fsspec, sys; print(fsspec.open(sys.argv[1], 'rt').open().read())"
SESSION_CODE = """
import json, os, sys, time
from pathlib import Path
from casabinder_runtime import FacilityCluster
url, secrets, command = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
cluster = FacilityCluster()
client = cluster.get_client()
client.wait_for_workers(1, timeout=60)

def read(url):
    import fsspec
    try:
        return fsspec.open(url, "rt").open().read()
    except OSError as error:
        return str(error)

def look():
    path = Path(os.environ["BEARER_TOKEN_FILE"])
    return [oct(path.stat().st_mode & 0o777), oct(path.parent.stat().st_mode & 0o777), path.read_text(),
            "BEARER_TOKEN" in os.environ, os.environ.get("XCACHE_HOST")]

def put(token):
    (secrets / ".new").write_text(token)
    (secrets / ".new").rename(secrets / "data" / "bearer_token")

def until(token):
    deadline = time.monotonic() + 30
    while any(found[2] != token for found in client.run(look).values()):
        assert time.monotonic() < deadline, "the workers do not get the new token"
        time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[TokenServer]:
    """A server with two small files, in a directory that its user can read."""
    with tempfile.TemporaryDirectory(prefix="token-data-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "events.txt").write_text("events")
        (directory / "calibration.txt").write_text("constants")
        with running_token_xrootd(directory, ISSUER, cache_directory() / "test-xrootd") as running:
            yield running


def read(server: TokenServer, directory: Path, token: str) -> subprocess.CompletedProcess[str]:
    """Read the file in a process of its own; no token if it is empty."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BEARER_TOKEN")}
    environment |= {"X509_CERT_FILE": str(server.ca), "XRD_CONNECTIONRETRY": "1", "XDG_RUNTIME_DIR": str(directory)}
    if token:
        file = directory / f"bt_u{os.getuid()}"
        file.write_text(token)
        file.chmod(0o600)
    command = [sys.executable, "-c", READ, f"{server.url}events.txt"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_token_of_the_issuer_lets_read(server: TokenServer, tmp_path: Path) -> None:
    done = read(server, tmp_path, ISSUER.token())
    assert (done.returncode, done.stdout) == (0, "events\n"), done.stderr


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("", "Auth failed"),
        (ISSUER.token(-30), "Auth failed"),
        (Issuer().token(), "Auth failed"),
        (Issuer("https://other.invalid").token(), "Auth failed"),
        (ISSUER.token(scope="read:/elsewhere"), "permission denied"),
    ],
    ids=["none", "expired", "forged", "of another issuer", "for other files"],
)
def test_without_a_good_token_nothing_is_read(server: TokenServer, tmp_path: Path, token: str, sentence: str) -> None:
    done = read(server, tmp_path, token)
    assert done.returncode == 1
    assert sentence in done.stderr


@contextmanager
def reading_session(
    server: TokenServer, directory: Path, data: dict[str, object], **environment: str
) -> Iterator[tuple[SessionRecord, Path]]:
    """Start a session of one worker; yield it and its secrets directory."""
    secrets, repository = directory / "secrets", directory / "repository"
    (secrets / "data").mkdir(parents=True, mode=0o700)
    repository.mkdir()
    identity = write_identity(directory / "env.json")
    settings = {"X509_CERT_FILE": str(server.ca), "XRD_CONNECTIONRETRY": "1", "XCACHE_HOST": "xcache.example.org"}
    own = {"CASABINDER_SECRETS": str(secrets), **environment}
    with running_session(
        directory / "session",
        identity=identity,
        repository=repository,
        workers=1,
        environment=own,
        options={"environment": settings, "data": data},
    ) as record:
        yield record, secrets


def compute(server: TokenServer, directory: Path, record: SessionRecord, code: str, *arguments: str) -> str:
    """Run Python code as a kernel of the session and return what it says, notices included."""
    environment = {
        **os.environ,
        **kernel_environment(directory / "session", record.address, "/"),
        "PYTHONPATH": str(RUNTIME),
    }
    command = [sys.executable, "-c", SESSION_CODE + code, f"{server.url}events.txt", str(directory / "secrets")]
    done = subprocess.run(
        [*command, *(arguments or [""])], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    log = (directory / "session" / "session.log").read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    return done.stdout + done.stderr


def test_workers_read_with_a_new_token_at_once(server: TokenServer, tmp_path: Path) -> None:
    """The worker has a connection to the server that was made with the first token, which does not let read all."""
    first, second = ISSUER.token(scope="read:/calibration.txt"), ISSUER.token()
    with reading_session(server, tmp_path, {}, BEARER_TOKEN=first) as (record, _):
        said = compute(
            server,
            tmp_path,
            record,
            "second = command\n"
            "print('LOOK', json.dumps(list(client.run(look).values())))\n"
            "other = url.replace('events', 'calibration')\n"
            "print('FIRST', client.submit(read, other, pure=False).result())\n"
            "print('MORE', client.submit(read, url, pure=False).result().strip())\n"
            "put(second); until(second)\n"
            "print('SECOND', client.submit(read, url, pure=False).result())\n",
            second,
        )
        log = (tmp_path / "session" / "session.log").read_text()
    lines = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    assert json.loads(lines["LOOK"]) == [["0o400", "0o700", first, False, "xcache.example.org"]]
    assert lines["FIRST"] == "constants"
    assert "permission denied" in lines["MORE"]
    assert lines["SECOND"] == "events"
    for token in (first, second):
        assert token.rpartition(".")[2] not in log


def test_the_sites_command_renews_the_token(server: TokenServer, tmp_path: Path) -> None:
    """It is run at the start, before a worker reads, and again since the token is past half of its life: it fails."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    command = ["sh", "-c", f"cat {tokens}/next > $0 || {{ echo no ticket for alice >&2; exit 3; }}", "{file}"]
    first = ISSUER.token(300, begins=time.time() - 3000)
    (tokens / "next").write_text(first)
    with reading_session(server, tmp_path, {"token_command": command}) as (record, secrets):
        written, deadline = secrets / "data" / "bearer_token", time.monotonic() + 30
        while not written.exists():  # the session is announced first
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert written.read_text() == first
        (tokens / "next").unlink()
        said = compute(
            server,
            tmp_path,
            record,
            "print('FIRST', client.submit(read, url, pure=False).result())\n"
            "deadline = time.monotonic() + 60\n"
            "def told():\n"
            "    return [event[1]['message'] for event in client.get_events('casabinder')]\n"
            "while len(told()) < 2: assert time.monotonic() < deadline, told(); time.sleep(0.2)\n"
            "print('TOLD', json.dumps(told()[:2]))\n",
        )
    assert "FIRST events" in said
    ending, failed = json.loads(said.partition("TOLD ")[2].splitlines()[0])
    expected = "The token for reading data could not be renewed: the site's command (sh) ended with status 3"
    assert failed == f"{expected}: no ticket for alice."
    assert "and nobody has renewed it: move a new one to" in ending
