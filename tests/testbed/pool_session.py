"""A real Dask session in a container of a built image, with an HTCondor pool for its workers."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from casabinder_runtime.data_access import write_private
from casabinder_runtime.left_behind import JOBS
from casabinder_runtime.server_extension import kernel_environment
from casabinder_runtime.session_directory import PREFIX, read_record

from builder.container.engine import docker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.pool import RunningPool

USER = 1000
COMMAND = (
    "exec /srv/env/bin/python -P -m casabinder_runtime.session "
    '--directory "$(mktemp -d $CASABINDER_SECRETS/session-XXXXXX)"'
)
SECRETS = "/run/casabinder"
START_SECONDS = 60.0
CODE_SECONDS = 120.0
STACKS_SECONDS = 10.0  # before the end, code that hangs says where
JOIN_SECONDS = 60
PREAMBLE = """
import faulthandler, sys, time
faulthandler.dump_traceback_later(%f)
class Heard:
    def __init__(self, stream): self.stream, self.text = stream, ""
    def write(self, text): self.text += text; return self.stream.write(text)
    def flush(self): self.stream.flush()
sys.stderr = Heard(sys.stderr)
def hear(*words, seconds=60):
    end = time.time() + seconds
    def heard(): return any(all(word in line for word in words) for line in sys.stderr.text.splitlines())
    while not heard() and time.time() < end: time.sleep(0.1)
from casabinder_runtime import FacilityCluster
cluster = FacilityCluster()
client = cluster.get_client()
"""


@dataclass(frozen=True)
class PoolSession:
    """A session that runs; ``container`` has the notebook's image, and the machine's network."""

    container: str
    secrets: Path
    pool: RunningPool

    @property
    def directory(self) -> Path:
        """The session's directory; sessions that were killed have none with a record for long."""
        deadline = time.monotonic() + START_SECONDS
        while len(found := [path.parent for path in self.secrets.glob("session-*/cluster.json")]) != 1:
            assert time.monotonic() < deadline, f"{found}\n{self.log()}"
            time.sleep(0.1)
        return found[0]

    def start(self, code: str, seconds: float = CODE_SECONDS) -> subprocess.Popen[str]:
        """Run Python code in the notebook's place.

        ``cluster`` is its ``FacilityCluster``, ``client`` a client, and ``hear(*words)`` waits until it was shown a
        line that has all the words. Shortly before ``seconds`` are over it writes its stacks to stderr.
        """
        record = read_record(self.directory)
        assert record is not None, self.log()
        kernel = kernel_environment(Path(SECRETS, self.directory.name), record.address, "/")
        environment = [word for name, value in kernel.items() for word in ("--env", f"{name}={value}")]
        command = ["docker", "exec", "-i", *environment, self.container]
        command += ["/usr/local/bin/casabinder-entrypoint", "python", "-"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write(PREAMBLE % (seconds - STACKS_SECONDS) + code)
        process.stdin.close()
        process.stdin = None  # so that communicate() does not write to it
        return process

    def run(self, code: str, seconds: float = CODE_SECONDS) -> str:
        """Run Python code and return what it printed; what it wrote to stderr is in the failure, if it fails."""
        process = self.start(code, seconds)
        try:
            said, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            where = self._where_workers_are()
            process.kill()
            said, errors = process.communicate()
            raise AssertionError(f"no end after {seconds} s: {said}\n{errors}\n{where}\n{self.log()}") from None
        assert process.returncode == 0, f"{said}\n{errors}\n{self.log()}"
        return said

    def status(self) -> dict[str, Any]:
        """Return what the session tells the notebook's page."""
        status: dict[str, Any] = json.loads((self.directory / "status.json").read_text())
        return status

    def wait_for(self, sentence: str, seconds: float) -> str:
        """Return the session's message as soon as it has ``sentence`` in it."""
        deadline = time.monotonic() + seconds
        while sentence not in (message := str(self.status()["message"])):
            assert time.monotonic() < deadline, f"{sentence!r} is not said: {self.status()}\n{self.log()}"
            time.sleep(0.2)
        return message

    def hear(self, words: str, seconds: float = 30.0) -> str:
        """Return what the notebook is shown, as soon as it has ``words`` in it."""
        process = self.start(f"hear({words!r}, seconds={seconds})\n")
        return process.communicate(timeout=seconds + START_SECONDS)[1]

    def _where_workers_are(self) -> str:
        """Return what HTCondor says of the workers' jobs, and at which addresses the scheduler has workers."""
        told = ("CasabinderWorker", "JobStatus", "NumJobStarts", "RemoteHost", "dask_HostPort")
        jobs = [{name: ad.get(name) for name in told} for ad in session_jobs(self.pool)]
        asking = self.start("print(*cluster.workers)\n", START_SECONDS)
        try:
            addresses, _ = asking.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            asking.kill()
            addresses = f"the scheduler does not say it: {asking.communicate()}"
        return "\n".join([*map(str, jobs), addresses])

    def log(self) -> str:
        """Return the end of what the session process said, and of what workers in containers say."""
        workers = docker("ps", "--format", "{{.Names}}", "--filter", "name=HTCJob").split()
        return "\n".join(f"--- {name}\n{_last_words(name)}" for name in (self.container, *workers))


@contextmanager
def running_pool_session(
    directory: Path,
    pool: RunningPool,
    notebook: str,
    *,
    token: str | None = None,
    data_token: str | None = None,
    **options: object,
) -> Iterator[PoolSession]:
    """Start a session in the image ``notebook``; ``options`` are of ``CASABINDER_POOL``, beyond where the pool is.

    It must end as it should, and leave no job in the queue.

    ``token`` is that of the pool's first user unless another is given, ``data_token`` is for reading data.
    """
    secrets = directory / "secrets"
    (secrets / "condor").mkdir(mode=0o700, parents=True)
    file = secrets / "condor" / "token"
    file.write_text(pool.token() if token is None else token)
    file.chmod(0o400)
    if data_token is not None:
        write_private(secrets / "data" / "bearer_token", data_token)
    for path in (secrets, *secrets.rglob("*")):
        os.chown(path, USER, USER)
    secrets.chmod(0o700)
    document = {
        "kind": "htcondor",
        "image": notebook,
        "collector": pool.collector,
        "schedd": pool.schedd,
        "trust_domain": pool.trust_domain,
        "address": "127.0.0.1",
        "memory": "1GiB",
        "disk": "20MiB",
        **options,
    }
    container = docker(
        *("run", "--detach", "--network", "host", "--user", f"{USER}:{USER}", "--cap-drop", "ALL"),
        *("--volume", f"{secrets}:{SECRETS}", "--env", f"CASABINDER_SECRETS={SECRETS}"),
        *("--env", f"CASABINDER_POOL={json.dumps(document)}", notebook, "sh", "-c", COMMAND),
    ).strip()
    running = PoolSession(container, secrets, pool)
    try:
        assert running.directory
        yield running
        docker("stop", "--time", "30", container)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() == "0", running.log()
        names = [name for file in secrets.glob(f"{PREFIX}*/{JOBS}") for name in file.read_text().split()]
        left = [ad["CasabinderWorker"] for ad in session_jobs(pool) if ad["CasabinderSession"] in names]
        assert left == [], running.log()
    finally:
        docker("stop", "--time", "30", container)  # one that failed gives its slots back too
        docker("rm", "--force", container)


def _last_words(container: str) -> str:
    done = subprocess.run(["docker", "logs", "--tail", "60", container], capture_output=True, text=True)
    return done.stdout + done.stderr


def session_jobs(pool: RunningPool) -> list[dict[str, Any]]:
    """Return the jobs of sessions' workers that are idle, running or held."""
    return pool.queue("CasabinderWorker =!= undefined && JobStatus != 3 && JobStatus != 4")
