"""A notebook's container as data: name, labels, environment, limits, and the arguments of ``docker create``.

Nothing here talks to anybody, so what a launch does can be read in a golden test. The names and labels carry the state
of the launcher: which servers there are is known to the engine alone. The name follows from what is launched, so the
same launch twice meets its own container.

The container has no secret in its arguments, environment or labels. The server's token is a file in a volume of the
container, to which the environment names the path; the session adds its TLS material there. So is the token for a batch
pool, whose workers must reach the session (:mod:`launcher.pools.exposure`): a port is published for its scheduler, or
the container runs in the machine's own network, its server on loopback.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from launcher.data_access import DataAccess
from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json
from registry_sync.reference import ImageReference

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.record import ImageRecord
    from launcher.pools.site_pool import BatchPool

    PoolDocument = dict[str, str | int | dict[str, str]]

PORT = 8888
SCHEDULER_PORT = 8786  # in the container, where the ecosystem's notebooks expect it (casabinder_runtime.ports)
USER = 1000
SECRETS = "/run/casabinder"
TOKEN_FILE = f"{SECRETS}/token"
POOL_TOKEN_FILE = f"{SECRETS}/condor/token"
LOOPBACK = "127.0.0.1"
HOST = "host.docker.internal"  # this machine, seen from the container
LABEL = "org.casabinder"
NOTEBOOK = f"{LABEL}.notebook"
HOST_PORT = f"{LABEL}.port"  # of a server in the machine's own network
PUBLISHED = f"{LABEL}.scheduler-port"  # of this machine, for the workers of a batch pool
# Sockets of kernels, which have no password, are files there: on loopback every user of the machine could connect.
KERNELS_BY_FILES = "--KernelManager.transport=ipc"
# A foreign image may have no JupyterLab; what it has was looked at when it was built.
PLAIN_SERVER = 'command -v jupyter-lab >/dev/null && exec jupyter-lab "$@"; exec jupyter-server "$@"'
PROCESSES = 4096
STOP_SECONDS = 40  # a server ends its kernels, then its session: it has to remove jobs from the queue
MEBIBYTE = 2**20
WORKER_MINIMUM = 256 * MEBIBYTE  # the analysis packages alone take about as much

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?)i?B?", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class LaunchOptions:
    """What one launch asks for: workers at the start (``maximum``: to scale to), limits, own variables, a port.

    ``memory`` (as ``4G``; units are powers of 1024), ``cpus`` and ``gpus`` hold for server and workers together, or
    with a ``batch`` pool for the server alone. ``data`` is what data are read with.
    """

    workers: int = 2
    cpus: float = 2.0
    memory: str = "4G"
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    maximum: int = 0
    gpus: int = 0
    batch: BatchPool | None = None
    data: DataAccess = field(default_factory=DataAccess)

    @property
    def most_workers(self) -> int:
        """How many workers the session may have."""
        return max(self.workers, self.maximum) if self.workers else 0

    @property
    def used_pool(self) -> BatchPool | None:
        """The batch pool that the session's workers run in; none without workers."""
        return self.batch if self.workers else None


@dataclass(frozen=True)
class Container:
    """What ``docker create`` is told; with ``on_host`` the server listens on loopback of the machine itself.

    ``published`` is an address and a port of this machine that lead to the scheduler.
    """

    name: str
    image: str
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    cpus: float
    memory: int
    port: int | None
    on_host: bool = False
    published: tuple[str, int] | None = None
    gpus: int = 0

    def arguments(self) -> list[str]:
        """Return the arguments of ``docker create``; it reads the environment from its standard input."""
        port = "" if self.port is None else str(self.port)
        options = ["--name", self.name, "--env-file", "/dev/stdin"]
        for name, value in self.labels.items():
            options += ["--label", f"{name}={value}"]
        options += ["--user", f"{USER}:{USER}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        options += ["--pids-limit", str(PROCESSES), "--cpus", f"{self.cpus:g}"]
        options += ["--memory", str(self.memory), "--memory-swap", str(self.memory)]
        options += ["--gpus", str(self.gpus)] if self.gpus else []
        options += ["--mount", f"type=volume,destination={SECRETS}", "--log-driver", "local"]
        if self.on_host:
            options += ["--network", "host", "--add-host", f"{HOST}:{LOOPBACK}"]
            return ["create", *options, self.image, *_server_on(port)]
        options += ["--publish", f"127.0.0.1:{port}:{PORT}", "--add-host", f"{HOST}:host-gateway"]
        if self.published is not None:
            address, scheduler = self.published
            options += ["--publish", f"{f'[{address}]' if ':' in address else address}:{scheduler}:{SCHEDULER_PORT}"]
        return ["create", *options, self.image]

    def environment_file(self) -> bytes:
        """Return the environment as ``--env-file`` wants it: kept out of the arguments, which anybody here can read."""
        return "".join(f"{name}={value}\n" for name, value in self.environment.items()).encode()


def describe(
    record: ImageRecord,
    options: LaunchOptions,
    name: str,
    owner: str,
    published: tuple[str, int] | None = None,
) -> Container:
    """Return the container of a launch; raise :class:`CasabinderError` for options that can't work.

    With workers in a batch pool it needs an address and a free port to be ``published`` for its scheduler, or in the
    machine's own network a free port for itself.
    """
    memory = parse_memory(options.memory)
    batch = options.used_pool
    on_host = batch is not None and batch.exposure == "pod-ip"
    if on_host and options.port is None:
        raise CasabinderError("a server in the machine's own network needs a port")
    if batch is not None and batch.exposure == "sni":
        raise CasabinderError("`pool.exposure: sni` is for servers in Kubernetes: containers of Docker have host-port")
    if batch is not None and batch.exposure == "host-port" and published is None:
        raise CasabinderError("a server with workers in a batch pool needs a port for its scheduler")
    labels = {
        NOTEBOOK: record.image_id,
        f"{LABEL}.env-id": record.env_id,
        f"{LABEL}.digest": record.digest,
        f"{LABEL}.repo": record.repo,
        f"{LABEL}.ref": record.ref,
        f"{LABEL}.commit": record.commit,
        f"{LABEL}.workers": str(options.workers),
        f"{LABEL}.owner": owner,
        **({HOST_PORT: str(options.port)} if on_host else {}),
        **({PUBLISHED: str(published[1])} if published else {}),
    }
    contact = batch.contact(name, published[1] if published else 0) if batch else ""
    workers = workers_pool(record, options, memory, contact)
    own = {
        "BINDER_REF_URL": commit_url(record.repo, record.commit),
        "BINDER_REPO_URL": record.repo,
        **own_environment(record.env_id, record.image, record.digest, workers),
    }
    _check_environment(options.environment, own)
    return Container(
        name=name,
        image=image_name(record),
        labels=labels,
        environment={**dict(sorted(options.environment.items())), **own},
        cpus=options.cpus,
        memory=memory,
        port=options.port,
        on_host=on_host,
        published=published,
        gpus=options.gpus,
    )


def own_environment(env_id: str, tag: str, digest: str, workers: Mapping[str, object]) -> dict[str, str]:
    """Return the environment that casabinder itself gives a notebook; ``workers`` is its :func:`workers_pool`."""
    return {
        "CASABINDER_ENV_ID": env_id,
        "CASABINDER_IMAGE": tag,
        "CASABINDER_IMAGE_DIGEST": digest,
        "CASABINDER_POOL": canonical_json(workers).decode(),
        "CASABINDER_SECRETS": SECRETS,
        "JUPYTER_TOKEN_FILE": TOKEN_FILE,
    }


def image_name(record: ImageRecord) -> str:
    """Return the image's name by digest."""
    return f"{ImageReference.parse(record.image).name}@{record.digest}"


def workers_pool(record: ImageRecord, options: LaunchOptions, memory: int, contact: str) -> Mapping[str, object]:
    """Return the pool of a launch: jobs in the image by its tag, or processes in ``memory`` bytes of the container."""
    if options.used_pool is None:
        return {**pool(options, memory), **options.data.told()}
    document = options.used_pool.document(record.image, options.workers, options.most_workers, contact)
    return {**document, **options.data.told()}


def pool(options: LaunchOptions, memory: int) -> dict[str, str | int]:
    """Return the local pool within a limit of ``memory`` bytes: a quarter is the server's, the rest the workers'."""
    if not options.workers:
        return {"kind": "local", "workers": 0}
    share = memory * 3 // 4 // options.most_workers
    if share < WORKER_MINIMUM:
        fits = memory * 3 // 4 // WORKER_MINIMUM
        raise CasabinderError(
            f"{options.memory} of memory is enough for {fits} Dask workers, not for {options.most_workers}: "
            "ask for more with --memory, or for fewer with --workers"
        )
    return {
        "kind": "local",
        "workers": options.workers,
        "maximum": options.most_workers,
        "threads": 1,
        "memory": f"{share // MEBIBYTE}MiB",
    }


def words_on_gpus(gpus: int) -> str:
    """Return how many GPUs a server gets, as the end of a list; nothing for none."""
    return f" and {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else ""


def parse_memory(text: str) -> int:
    """Return the bytes that a size such as ``4G``, ``1.5GiB`` or ``512m`` means."""
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match["number"]) * 1024 ** _UNITS[match["unit"].upper()]) if match else 0
    if size < MEBIBYTE:
        raise CasabinderError(f"{text!r} is not a size of memory: give one such as 4G or 512M")
    return size


def owner(cache: Path) -> str:
    """Return the name under which this user's launches from this cache go: two caches are two set-ups."""
    return hashlib.sha256(f"{os.getuid()} {cache}".encode()).hexdigest()[:12]


def server_name(record: ImageRecord, options: LaunchOptions, owned_by: str) -> str:
    """Return the name of a launch's container: equal for equal launches, different for all others."""
    batch = options.used_pool
    what = {
        "image": record.digest,
        "commit": record.commit,
        "owner": owned_by,
        "options": [options.workers, options.most_workers, options.cpus, options.memory, options.port],
        "environment": dict(options.environment),
        **({"gpus": options.gpus} if options.gpus else {}),
        # Where the nodes take the image from may change from one launch to the next.
        **({"pool": replace(batch, placement=None).document("", 0, 0), "user": batch.user} if batch else {}),
        **({"data": options.data.told()} if options.data.told() else {}),
    }
    # The repository's slug ends in a hash of its address, of which this hash is as good.
    slug = ImageReference.parse(record.image).repository.rpartition("/")[2].rpartition("-")[0]
    return f"casabinder-{slug[:32].rstrip('-')}-{hashlib.sha256(canonical_json(what)).hexdigest()[:6]}"


def commit_url(repository: str, commit: str) -> str:
    """Return where a commit can be looked at, as BinderHub does; the commit itself where no page is known."""
    page = {"github.com": "tree", "gitlab.com": "-/tree"}.get(urlsplit(repository).hostname or "")
    return f"{repository.rstrip('/').removesuffix('.git')}/{page}/{commit}" if page else commit


def secrets_archive(token: str, pool_token: str = "", more: Mapping[str, str] | None = None) -> bytes:
    """Return a tar file of the secrets directory with the tokens in it, readable to the container's user alone.

    Without the server's token (JupyterHub lets people in), or one for a batch pool, there is no such file. ``more`` are
    further files, by their names below the directory.
    """
    top, directory = SECRETS.rpartition("/")[2], POOL_TOKEN_FILE.rpartition("/")[0].removeprefix(SECRETS)
    members = [(top, b"")]
    if token:
        members.append((top + TOKEN_FILE.removeprefix(SECRETS), token.encode()))
    if pool_token:
        members.append((top + directory, b""))
        # HTCondor takes a token to be a line.
        members.append((top + POOL_TOKEN_FILE.removeprefix(SECRETS), f"{pool_token}\n".encode()))
    for name, text in (more or {}).items():
        parent = f"{top}/{name}".rpartition("/")[0]
        members += [] if parent in dict(members) else [(parent, b"")]
        members.append((f"{top}/{name}", text.encode()))
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = (tarfile.REGTYPE, 0o400) if content else (tarfile.DIRTYPE, 0o700)
            member.uid = member.gid = USER
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def _server_on(port: str) -> list[str]:
    """Return the command of a notebook server on this machine's loopback; on another port it would not be found."""
    arguments = [f"--ip={LOOPBACK}", f"--port={port}", "--ServerApp.port_retries=0", "--no-browser", KERNELS_BY_FILES]
    return ["/bin/sh", "-c", PLAIN_SERVER, "notebook-server", *arguments]


def _check_environment(environment: Mapping[str, str], own: Mapping[str, str]) -> None:
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name):
            raise CasabinderError(f"{name!r} is not the name of an environment variable")
        if name in own:
            raise CasabinderError(f"the environment variable {name} is set by casabinder itself; leave it out")
        if "\n" in value or "\r" in value or "\0" in value:
            raise CasabinderError(f"the environment variable {name} has more than one line, which Docker can't pass on")
