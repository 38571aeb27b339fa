"""Runs a real HTCondor pool on loopback addresses, for tests: gone afterwards, and any number of them side by side.

Example usage/behaviour::

    with running_pool(tmp_path / "pool") as pool:
        job = pool.submit({"universe": "docker", "docker_image": image, ...}, directory=tmp_path / "job")
        pool.wait_for(job, COMPLETED)
        pool.retrieve(job)                                  # its output is then in tmp_path / "job"

A pool is one container with the central manager and the schedd, and one for each execute node: node 1 listens on
127.0.0.1, node 2 on 127.0.0.2, all in the host's network. The nodes run docker-universe jobs in the one engine of this
machine, so that an image that one of them has pulled is there for all; everything else is a node's own. A node's
EXECUTE directory is a volume of the engine, which has the same path inside and outside.
"""

from __future__ import annotations

import io
import json
import os
import random
import secrets
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from casabinder_runtime.ports import first_free_port

from builder.container.engine import EngineError, docker, docker_bytes
from tests.testbed.condor.image import PoolError as PoolError
from tests.testbed.condor.image import pool_image
from tests.testbed.condor.settings import (
    KEY_FILE,
    SCHEDD,
    TRUST_DOMAIN,
    NodeShape,
    Place,
    central_settings,
    client_settings,
    node_settings,
)
from tests.testbed.condor.unpacked import IMAGES_INSIDE, IMAGES_VOLUME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

IDLE, RUNNING, REMOVED, COMPLETED, HELD = 1, 2, 3, 4, 5
SPOOLING = 16  # HoldReasonCode of a job whose files are not there yet
USERS = ("alice", "bob")
START_SECONDS = 180.0
WAIT_SECONDS = 90.0

_LABEL = "casabinder.test-pool"
_NODE_LABEL = "casabinder.test-pool.node"
_OWNER_LABEL = "casabinder.test-pool.process"
_ENTRY = Path(__file__).parent / "condor" / "entry.sh"
_SOURCES = Path(__file__).parents[2]
_FIRST_UID = 1001
_PORTS = range(21_000, 29_000)  # below those that connections of this machine take
_PAUSE = 0.2
_MOST_CLUSTER = 1_000_000


@dataclass(frozen=True)
class RunningPool:
    """A pool that runs.

    ``collector`` is ``<address>:<port>``; ``signing_key`` is the file of the key POOL, scrambled as HTCondor keeps it.
    """

    name: str
    collector: str
    schedd: str
    trust_domain: str
    users: tuple[str, ...]
    signing_key: Path
    directory: Path
    image: str
    nodes: tuple[int, ...]
    directories: dict[str, Path] = field(default_factory=dict)

    # --- who asks it -----------------------------------------------------------------------------------------

    def token(
        self, identity: str = "alice", lifetime: int = 3600, authorizations: Sequence[str] = ("READ", "WRITE")
    ) -> str:
        """Return an IDTOKEN of a user (one of ``users``, the trust domain is added) for ``lifetime`` seconds."""
        wanted = [word for name in authorizations for word in ("-authz", name)]
        who = identity if "@" in identity else f"{identity}@{self.trust_domain}"
        return self.run("condor_token_create", "-identity", who, "-lifetime", str(lifetime), *wanted).strip()

    def environment(self, token: str = "") -> dict[str, str]:
        """Return the variables with which a process of this machine is a client of this pool, and of none else.

        Without a token it has nothing to say who it is.
        """
        place = self.directory / "clients" / secrets.token_hex(4)
        (place / "tokens.d").mkdir(parents=True, mode=0o700)
        (place / "condor_config").write_text(client_settings(_place(self.collector)))
        if token:
            file = place / "tokens.d" / "token"
            file.touch(mode=0o600)
            file.write_text(token + "\n")
        return {"CONDOR_CONFIG": str(place / "condor_config"), "_CONDOR_SEC_TOKEN_DIRECTORY": str(place / "tokens.d")}

    def ask(self, request: Mapping[str, object], *, directory: Path, token: str) -> Any:
        """Have the bindings ask the schedd (see ``tests.testbed.condor.client``), in a process with that token.

        Raises :class:`PoolError` with what the bindings say.
        """
        done = subprocess.run(
            [sys.executable, "-m", "tests.testbed.condor.client"],
            input=json.dumps({"schedd": self.schedd, **request}),
            cwd=directory,
            env={**os.environ, **self.environment(token), "PYTHONPATH": str(_SOURCES)},
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_SECONDS,
        )
        if done.returncode:
            raise PoolError(done.stderr.strip())
        return json.loads(done.stdout)

    # --- jobs ------------------------------------------------------------------------------------------------

    def submit(self, description: Mapping[str, str], *, directory: Path, identity: str = "alice") -> str:
        """Spool one job with files in ``directory``, by a fresh token of ``identity``; return its id (``7.0``)."""
        directory.mkdir(parents=True, exist_ok=True)
        request = {"do": "submit", "description": dict(description)}
        cluster = self.ask(request, directory=directory, token=self.token(identity))["cluster"]
        self.directories[f"{cluster}.0"] = directory
        return f"{cluster}.0"

    def retrieve(self, job: str, *, identity: str = "alice") -> Path:
        """Fetch the output of a job that :meth:`submit` submitted and that has ended; return its directory."""
        request = {"do": "retrieve", "constraint": _constraint(job)}
        self.ask(request, directory=self.directories[job], token=self.token(identity))
        return self.directories[job]

    def queue(self, constraint: str = "true") -> list[dict[str, Any]]:
        """Return the ads of the jobs in the queue, as the schedd's administrator sees them."""
        said = self.run("condor_q", "-allusers", "-json", "-constraint", constraint)
        jobs: list[dict[str, Any]] = json.loads(said) if said.strip() else []
        return jobs

    def job(self, job: str) -> dict[str, Any]:
        """Return the ad of a job, which must be in the queue."""
        found = self.queue(_constraint(job))
        if not found:
            raise PoolError(f"there is no job {job} in the queue")
        return found[0]

    def wait_for(self, job: str, *statuses: int, starts: int = 0, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """Wait until a job has one of these statuses and was started so many times on a node; return its ad.

        HTCondor calls a job running before its container is there. Raises :class:`PoolError` with the daemons' logs.
        """
        deadline = time.monotonic() + seconds
        while True:
            ad = self.job(job)
            spooling = ad["JobStatus"] == HELD and ad.get("HoldReasonCode") == SPOOLING
            if ad["JobStatus"] in statuses and not spooling and ad.get("NumJobStarts", 0) >= starts:
                return ad
            if time.monotonic() > deadline:
                raise PoolError(f"job {job} has status {ad['JobStatus']} ({ad.get('HoldReason')}):\n{self.logs()}")
            time.sleep(_PAUSE)

    def remove(self, job: str) -> None:
        """Remove a job from the queue, wherever it is in its life; it may be gone already."""
        for options in ((), ("-forcex",)):
            with suppress(EngineError):
                self.run("condor_rm", *options, job)

    def vacate(self, job: str) -> None:
        """Send a running job away from its node; it goes back to the queue."""
        self.run("condor_vacate_job", job)

    def lose_shadows(self) -> None:
        """Kill what looks after the running jobs on the schedd's side; they go back to the queue, as their ads are."""
        self.run("pkill", "-KILL", "-x", "condor_shadow")

    # --- daemons ---------------------------------------------------------------------------------------------

    def run(self, *command: str) -> str:
        """Run a command as root on the central manager and return what it wrote."""
        return docker("exec", self.name, *command)

    def slots(self) -> list[dict[str, Any]]:
        """Return the ads of the pool's slots."""
        said = self.run("condor_status", "-json")
        ads: list[dict[str, Any]] = json.loads(said) if said.strip() else []
        return ads

    def stop_node(self, number: int) -> None:
        """Lose a node at once, as by a power cut: its daemons and the containers of its jobs."""
        node = f"{self.name}-node{number}"
        docker("kill", node)
        _remove_containers(f"{_NODE_LABEL}={node}", but=node)

    def start_node(self, number: int) -> None:
        """Start a lost node again and wait until the collector knows that it is a new one."""
        lost = self._started()
        docker("start", f"{self.name}-node{number}")
        _wait(lambda: self._started().get(number, 0) > lost.get(number, 0), f"node {number} does not start", self)

    def execute_directory(self, number: int) -> str:
        """Return the directory of a node below which its jobs have theirs."""
        return docker("volume", "inspect", "--format", "{{.Mountpoint}}", f"{self.name}-node{number}").strip()

    def fill_disk(self, number: int) -> None:
        """Fill a node's scratch disk, which must be its own (:class:`NodeShape`), until :meth:`empty_disk`."""
        filling = f"{self.execute_directory(number)}/filling"
        with suppress(EngineError):  # that there is no space left is what is wanted
            docker("exec", f"{self.name}-node{number}", "sh", "-c", f"cat /dev/zero > {filling}")

    def empty_disk(self, number: int) -> None:
        """Give a node the space back that :meth:`fill_disk` took."""
        docker("exec", f"{self.name}-node{number}", "rm", "--force", f"{self.execute_directory(number)}/filling")

    @contextmanager
    def restarting_schedd(self) -> Iterator[None]:
        """Kill the schedd, and wait at the end for the one that its master starts then; the queue is still there."""
        before = self._schedd_ad()
        self.run("pkill", "-KILL", "-x", "condor_schedd")
        yield
        _wait(lambda: self._schedd_ad() not in ("", before), "a new schedd does not answer", self)

    def wait_until_ready(self) -> None:
        """Wait until the collector knows the schedd, and all nodes with Docker and Apptainer."""
        _wait(
            lambda: bool(self._schedd_ad()) and set(self._started()) >= set(self.nodes), "the pool does not start", self
        )

    def _schedd_ad(self) -> str:
        try:
            return self.run("condor_status", "-schedd", "-af", "MyAddress", "DaemonStartTime").strip()
        except EngineError:
            return ""

    def _started(self) -> dict[int, int]:
        """Return when each node began (seconds since 1970), of those that can run all kinds of jobs."""
        ready = "HasDocker && HasSingularity && HasSIF"
        try:
            said = self.run("condor_status", "-constraint", ready, "-af", "FileSystemDomain", "DaemonStartTime")
        except EngineError:
            return {}
        lines = [line.split() for line in said.splitlines()]
        return {int(name.removeprefix("node")): int(start) for name, start in lines}

    def logs(self) -> str:
        """Return the ends of all daemons' logs."""
        found = []
        for name in (self.name, *(f"{self.name}-node{number}" for number in self.nodes)):
            with suppress(EngineError):
                found.append(docker("exec", name, "sh", "-c", "tail -n 25 /var/log/condor/*Log*"))
        return "\n".join(found)


@contextmanager
def running_pool(
    directory: Path,
    *,
    nodes: int = 2,
    users: Sequence[str] = USERS,
    shape: NodeShape | None = None,
    address: str = "",
) -> Iterator[RunningPool]:
    """Start a pool with execute nodes 1 to ``nodes`` and users of these names, and remove all of it at the end.

    ``directory`` gets the signing key and the clients' settings. With an ``address`` of this machine all of it listens
    there instead of on loopback, so that containers with a network of their own reach it. Raises :class:`PoolError`.
    """
    image = pool_image()
    _remove_abandoned()
    directory.mkdir(parents=True, exist_ok=True)
    key = directory / "POOL"
    key.touch(mode=0o600)
    key.write_bytes(_signing_key())
    name = f"casabinder-pool-{secrets.token_hex(4)}"
    numbers = tuple(range(1, nodes + 1))
    addresses = [address or "127.0.0.1", *(address or f"127.0.0.{number}" for number in numbers)]
    places = _free_places(addresses)
    collector = places[0]
    pool = RunningPool(name, str(collector), SCHEDD, TRUST_DOMAIN, tuple(users), key, directory, image, numbers)
    try:
        _start_central(pool, collector)
        for number, place in zip(numbers, places[1:], strict=True):
            _start_node(pool, number, place, shape or NodeShape())
        pool.wait_until_ready()
        yield pool
    finally:
        _remove(name)


def _start_central(pool: RunningPool, collector: Place) -> None:
    settings = central_settings(collector, random.randrange(1, _MOST_CLUSTER) * 100)
    _start(pool, pool.name, settings, [], "")


def _start_node(pool: RunningPool, number: int, place: Place, shape: NodeShape) -> None:
    node = f"{pool.name}-node{number}"
    own = [f"--opt={word}" for word in ("type=tmpfs", "device=tmpfs", f"o=size={shape.disk}m")] if shape.disk else []
    docker("volume", "create", *own, "--label", f"{_LABEL}={pool.name}", node)
    execute = docker("volume", "inspect", "--format", "{{.Mountpoint}}", node).strip()
    labels = {_LABEL: pool.name, _NODE_LABEL: node}
    settings = node_settings(_place(pool.collector), place, f"node{number}", execute, labels, shape)
    options = ["-v", "/var/run/docker.sock:/var/run/docker.sock", "-v", f"{node}:{execute}"]
    options += ["-v", f"{IMAGES_VOLUME}:{IMAGES_INSIDE}:ro", "--label", f"{_NODE_LABEL}={node}"]
    # What Apptainer needs to make a name space of its own for a job and to mount an image in it.
    options += ["--device", "/dev/fuse", "--cap-add", "SYS_ADMIN"]
    options += ["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"]
    _start(pool, node, settings, options, execute)


def _start(pool: RunningPool, container: str, settings: str, options: list[str], execute: str) -> None:
    """Start a container of the pool's image with these settings and the pool's key in it."""
    users = " ".join(f"{name}:{_FIRST_UID + number}" for number, name in enumerate(pool.users))
    labels = ["--label", f"{_LABEL}={pool.name}", "--label", f"{_OWNER_LABEL}={os.getpid()}"]
    docker(
        *("create", "--name", container, "--network", "host", "--init", *labels, *options),
        *(pool.image, "/entry.sh", users, *([execute] if execute else [])),
    )
    files = {
        "entry.sh": (_ENTRY.read_bytes(), 0o755),
        "etc/condor/config.d/10-testbed": (settings.encode(), 0o644),
        KEY_FILE.strip("/"): (pool.signing_key.read_bytes(), 0o600),
    }
    docker_bytes("cp", "-", f"{container}:/", stdin=_tar(files))
    docker("start", container)


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _signing_key() -> bytes:
    """Return a new key as HTCondor keeps it, each byte combined with one of ``0xdeadbeef``; none may stand for zero."""
    scramble = b"\xde\xad\xbe\xef"
    return bytes(1 + secrets.randbelow(255) ^ scramble[place % 4] for place in range(64))


def _free_places(addresses: Sequence[str]) -> list[Place]:
    """Return a place on each address whose port nobody has; the ports are random, for other pools look as well."""
    ports = random.sample(_PORTS, k=len(addresses))
    return [Place(address, first_free_port(ports.pop(), host=address)) for address in addresses]


def _place(text: str) -> Place:
    address, _, port = text.partition(":")
    return Place(address, int(port))


def _constraint(job: str) -> str:
    cluster, _, process = job.partition(".")
    return f"ClusterId == {int(cluster)} && ProcId == {int(process or 0)}"


def _wait(is_so: Callable[[], bool], complaint: str, pool: RunningPool) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise PoolError(f"{complaint}:\n{pool.logs()}")
        time.sleep(_PAUSE)


# --- the end -------------------------------------------------------------------------------------------------


def _remove(name: str) -> None:
    """Remove all containers of a pool, those of its jobs too, and its volumes."""
    for container in (name, *docker("ps", "-aq", "--filter", f"label={_LABEL}={name}").split()):
        _quietly("rm", "--force", "--volumes", container)
    # A job's container that a node was about to create when it was removed.
    _remove_containers(f"{_LABEL}={name}")
    for volume in docker("volume", "ls", "--quiet", "--filter", f"label={_LABEL}={name}").split():
        _quietly("volume", "rm", "--force", volume)


def _remove_containers(label: str, *, but: str = "") -> None:
    listed = docker("ps", "-a", "--filter", f"label={label}", "--format", "{{.ID}} {{.Names}}")
    for line in listed.splitlines():
        container, _, name = line.partition(" ")
        if name != but:
            _quietly("rm", "--force", container)


def _remove_abandoned() -> None:
    """Remove the pools of processes that were killed and could not do it."""
    template = f'{{{{.Label "{_LABEL}"}}}} {{{{.Label "{_OWNER_LABEL}"}}}}'
    listed = docker("ps", "-a", "--filter", f"label={_OWNER_LABEL}", "--format", template)
    for line in set(listed.splitlines()):
        name, process = line.split()
        if not Path(f"/proc/{process}").exists():
            _remove(name)


def _quietly(*arguments: str) -> None:
    with suppress(EngineError):
        docker(*arguments)
