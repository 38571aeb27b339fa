"""The directory in which a session leaves word of itself: where its scheduler is, how to talk to it, how it fares.

The notebook server makes the directory, the session process fills it, kernels read it. All three may run in different
Pythons, so nothing beyond the standard library is imported here.

    <secrets>/session-x7a1/     mode 0700, one per notebook server
        *.pem *.key             TLS material (see ``tls``)
        cluster.json            ``SessionRecord``; appears when the scheduler listens
        status.json             ``SessionStatus``; rewritten at each change
        session.log             what the session process says
        logs/                   what ended workers wrote (see ``worker_logs``)
        clusters/2/             the same two files of a separate cluster (see ``separate``)
        jobs, lock              for the next session, should this one be killed (see ``left_behind``)
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from casabinder_runtime.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Mapping

SESSION_VARIABLE = "CASABINDER_SESSION"
PREFIX = "session-"
LOG = "session.log"
RECORD = "cluster.json"
CLUSTERS = "clusters"
STARTUP_SECONDS = 60.0

State = Literal["off", "starting", "running", "failed", "stopped"]


@dataclass(frozen=True)
class SessionRecord:
    """How to reach a session that runs."""

    address: str
    dashboard_port: int
    tls_ca_file: str
    tls_client_cert: str
    tls_client_key: str
    env_id: str
    image_id: str
    pool: str
    pid: int


@dataclass(frozen=True)
class WorkerGroup:
    """Some workers that do not run, and why; ``level`` is "delayed" or "failed" where somebody should look."""

    count: int
    what: str
    reason: str = ""
    level: str = ""


@dataclass(frozen=True)
class SaidNotice:
    """A notice, with the time (seconds since 1970) when it was given."""

    time: float
    message: str


@dataclass(frozen=True)
class SessionStatus:
    """How a session fares; ``message`` is a sentence when there is something to say.

    ``pool`` is the pool's kind, ``maximum`` the session's limit if it has one, ``automatic`` the least and most workers
    while scaling is automatic, ``idle`` what became of workers without work, ``notices`` the latest, oldest first.
    """

    state: State
    workers: int = 0
    requested: int = 0
    message: str = ""
    pool: str = ""
    maximum: int | None = None
    automatic: tuple[int, int] | None = None
    idle: str = ""
    groups: tuple[WorkerGroup, ...] = ()
    notices: tuple[SaidNotice, ...] = ()


def secrets_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the directory (mode 0700) for files that nobody else may read.

    ``$CASABINDER_SECRETS`` if it is there and writable, else ``$XDG_RUNTIME_DIR/casabinder``, else
    ``~/.casabinder/session``.
    """
    given = environment.get("CASABINDER_SECRETS")
    if given and Path(given).is_dir() and os.access(given, os.W_OK):
        return Path(given)
    runtime = environment.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir() and os.access(runtime, os.W_OK):
        directory = Path(runtime, "casabinder")
    else:
        directory = Path(environment.get("HOME", "~")).expanduser() / ".casabinder" / "session"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    return directory


def new_session_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Make and return an empty directory for one session, mode 0700."""
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=secrets_directory(environment)))


def find_session_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of the session this process belongs to.

    Kernels and terminals are told by the server (``$CASABINDER_SESSION``); a process from outside (``docker exec``)
    finds it if there is exactly one.

    Raises:
        SessionError: there is none, or several.
    """
    told = environment.get(SESSION_VARIABLE)
    if told:
        return Path(told)
    running = sorted(path.parent for path in secrets_directory(environment).glob(f"{PREFIX}*/{RECORD}"))
    if not running:
        raise SessionError(
            "this notebook was launched without Dask workers: launch it with workers, "
            "or use distributed.LocalCluster() here"
        )
    if len(running) > 1:
        names = ", ".join(str(path) for path in running)
        raise SessionError(f"several Dask sessions run here ({names}): set {SESSION_VARIABLE} to one of them")
    return running[0]


def read_record(directory: Path) -> SessionRecord | None:
    """Return the session's record, or nothing if its scheduler does not listen yet (or any more)."""
    try:
        return SessionRecord(**json.loads((directory / RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def read_records(directory: Path) -> list[SessionRecord]:
    """Return the records of all clusters of a session whose schedulers listen, the first cluster's first."""
    places = [directory, *sorted((directory / CLUSTERS).glob("*"))]
    return [record for record in map(read_record, places) if record is not None]


def read_status(directory: Path) -> SessionStatus:
    """Return how the session fares; one that has said nothing yet is starting."""
    try:
        told = json.loads((directory / "status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SessionStatus("starting")
    told["automatic"] = told["automatic"] and tuple(told["automatic"])
    told["groups"] = tuple(WorkerGroup(**group) for group in told["groups"])
    told["notices"] = tuple(SaidNotice(**notice) for notice in told["notices"])
    return SessionStatus(**told)


def write_record(directory: Path, record: SessionRecord) -> None:
    """Publish the record."""
    _replace(directory / RECORD, asdict(record))


def write_status(directory: Path, status: SessionStatus) -> None:
    """Publish the status."""
    _replace(directory / "status.json", asdict(status))


def wait_for_record(directory: Path, *, seconds: float = STARTUP_SECONDS) -> SessionRecord:
    """Return the session's record as soon as its scheduler listens.

    Raises:
        SessionError: the session failed, has ended, or does not get ready in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        record = read_record(directory)
        if record is not None:
            return record
        status = read_status(directory)
        if status.state in ("failed", "stopped") or not directory.is_dir():
            raise SessionError(status.message or "the Dask session of this notebook has ended: restart the server")
        if time.monotonic() > deadline:
            raise SessionError(
                f"the Dask session of this notebook is not ready after {seconds:.0f} s: see {directory / LOG}"
            )
        time.sleep(0.1)


def same_endpoint(one: str, other: str) -> bool:
    """Tell whether two contact addresses mean the same socket; ``localhost`` is ``127.0.0.1``."""
    return _endpoint(one) == _endpoint(other)


def _endpoint(address: str) -> tuple[str, str, int | None]:
    parts = urlsplit(address)
    host = parts.hostname or ""
    return parts.scheme, "127.0.0.1" if host == "localhost" else host, parts.port


def _replace(path: Path, document: dict[str, object]) -> None:
    """Write a JSON file so that a reader sees the old or the new contents, never a part."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=1)
    Path(temporary).replace(path)
