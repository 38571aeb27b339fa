"""Runs builders as processes of this machine, each in a directory, a session and a process group of its own.

::

    <cache>/service/builds/runner        the name in which this machine claims jobs; locked by the process that does
    <cache>/service/builds/<job id>/     one build: see launcher.jobs.build_process
    <cache>/service/builds/<job id>/alive    locked for as long as the builder lives

The lock ``alive`` is taken before the builder is started and handed to it as an open file, so there is no moment in
which a builder lives and can't be seen, and it ends with the builder, however that ends. What a builder starts is found
by its environment (``CASABINDER_BUILD``, in /proc), also when it has a session of its own as git has, and in the
container engine by its label.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from builder.container.engine import EngineError
from builder.container.step import remove_made_by
from launcher.jobs.build_process import EVENTS, LOG, REQUEST, TEMPORARY, TOKEN, Task, read_result
from launcher.jobs.event_file import EventReader
from launcher.jobs.model import Result
from registry_sync.errors import CasabinderError
from registry_sync.files import disk_error, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from launcher.jobs.event_file import TimedEvent
    from launcher.jobs.executor import Standing
    from launcher.jobs.model import Job

_LOG = logging.getLogger(__name__)
_ALIVE, _RUNNER, _BUILD = "alive", "runner", "CASABINDER_BUILD"
_POLL_SECONDS = 0.1
_TERM_SECONDS = 5.0
_LAST_WORDS = 16 * 1024
# What a builder needs of its surroundings to reach disk, network and engine; the rest, secrets first, stays here.
_PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"),
    *(name for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for name in (upper, upper.lower())),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "XDG_RUNTIME_DIR"),
)


class ProcessExecutor:
    """Builders below ``<cache>/service/builds``.

    ``reveal`` gives host and token of a credential's id (:meth:`launcher.security.vault.Vault.reveal`); ``log_lines``
    is how long a build's log may get, ``environment`` what is passed on to builders in part.
    """

    def __init__(
        self,
        cache: Path,
        reveal: Callable[[str], tuple[str, str]],
        log_lines: int,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._cache = cache.absolute()
        self._builds = self._cache / "service" / "builds"
        self._reveal = reveal
        self._log_lines = log_lines
        self._environment = environment
        self._children: dict[str, _Child] = {}
        self._owned: int | None = None
        self._name = ""

    @property
    def name(self) -> str:
        """The name in ``<cache>/service/builds/runner``; it is known when the builders are owned."""
        return self._name

    def own(self) -> bool:
        """Lock the builds for this process; return whether no other has them."""
        if self._owned is not None:
            return True
        self._builds.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._builds / _RUNNER, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        if not os.fstat(descriptor).st_size:
            os.write(descriptor, f"{socket.gethostname()}-{secrets.token_hex(4)}\n".encode())
        self._name = os.pread(descriptor, 1000, 0).decode().strip()
        self._owned = descriptor
        return True

    def disown(self) -> None:
        """Give the lock back."""
        if self._owned is not None:
            os.close(self._owned)
            self._owned = None

    def start(self, job: Job) -> None:
        """Make the job's directory anew and start a builder in it."""
        directory = self._directory(job.id)
        if directory.exists():
            self.kill(job.id)
            self.clean(job.id)
        try:
            (directory / TEMPORARY).mkdir(mode=0o700, parents=True)
            host = self._write_token(job, directory)
            task = Task(job.id, job.attempt, job.request, self._log_lines, host)
            (directory / EVENTS).touch(0o600)
            write_atomically(directory / REQUEST, json.dumps(task.to_json()).encode())
            self._children[job.id] = _Child(self._spawn(job.id, directory))
        except OSError as error:
            cause = disk_error(error, directory)
            sentence = str(cause) if isinstance(cause, CasabinderError) else f"the builder can't be started: {cause}"
            raise CasabinderError(sentence) from error

    def find(self, job: Job) -> Standing:
        """Return how the builder of the job's attempt stands."""
        directory = self._directory(job.id)
        try:
            task = Task.from_json(json.loads((directory / REQUEST).read_bytes()))
        except (FileNotFoundError, ValueError):  # ValueError: a power cut left it without its content
            return "absent"
        if task.attempt != job.attempt:
            return "absent"
        if self._lives(job.id):
            return "running"
        return "lost" if read_result(directory) is None else "ended"

    def follow(self, job_id: str, after: int) -> Iterator[list[TimedEvent]]:
        """Yield the builder's events but for the first ``after`` as they come."""
        child = self._children.get(job_id)
        wait: Callable[[float], object] = child.ended.wait if child else time.sleep
        with contextlib.closing(EventReader(self._directory(job_id) / EVENTS, after)) as reader:
            while True:
                lived = self._lives(job_id)  # asked before reading: what the dead wrote is all there
                yield reader.read()
                if reader.at_end and not lived:
                    return
                if reader.at_end:
                    wait(_POLL_SECONDS)

    def outcome(self, job_id: str) -> Result:
        """Return the result that the builder wrote, or how it died."""
        result = read_result(self._directory(job_id))
        if result is not None:
            return result
        child = self._children.get(job_id)
        status = child.status if child else None
        if status is not None and status < 0:
            return Result("failed", f"the builder was killed (signal {-status}); it may have run out of memory")
        if status is not None:
            return Result(
                "failed", f"the builder ended without a result; the administrators' log has why under job {job_id}"
            )
        return Result("failed", "the builder was killed; it may have run out of memory")

    def kill(self, job_id: str) -> None:
        """Send SIGTERM to the builder, 5 s later SIGKILL to all it started; then remove what is left in the engine."""
        for pid in self._top(self._processes(job_id)):
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + _TERM_SECONDS
        while (left := self._processes(job_id)) or self._lives(job_id):
            if time.monotonic() > deadline:
                for pid in left:
                    _signal(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS / 2)
        try:
            remove_made_by(job_id)
        except EngineError as error:
            _LOG.info("nothing was removed from the container engine: %s", error, extra={"job": job_id})

    def clean(self, job_id: str) -> None:
        """Remove the job's directory; what the builder said for administrators goes to this process's log."""
        directory = self._directory(job_id)
        with contextlib.suppress(OSError):
            said = (directory / LOG).read_bytes()[-_LAST_WORDS:].decode(errors="replace").strip()
            if said:
                _LOG.warning("the builder said: %s", said, extra={"job": job_id})
        shutil.rmtree(directory, ignore_errors=True)
        self._children.pop(job_id, None)

    def known(self) -> list[str]:
        """Return the ids of the jobs that have a directory."""
        return sorted(path.name for path in self._builds.iterdir() if path.is_dir())

    def _directory(self, job_id: str) -> Path:
        return self._builds / job_id

    def _write_token(self, job: Job, directory: Path) -> str:
        """Write the token that the job is to be built with, if there is one, and return its host."""
        if not job.request.credential:
            return ""
        host, token = self._reveal(job.request.credential)
        descriptor = os.open(directory / TOKEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as sink:
            sink.write(token)
        return host

    def _spawn(self, job_id: str, directory: Path) -> subprocess.Popen[bytes]:
        environment = {name: self._environment[name] for name in _PASSED_ON if name in self._environment}
        if site := self._environment.get("CASABINDER_SITE"):
            environment["CASABINDER_SITE"] = str(Path(site).absolute())
        environment |= {
            "CASABINDER_CACHE": str(self._cache),
            "TMPDIR": str(directory / TEMPORARY),
            _BUILD: job_id,
        }
        alive = os.open(directory / _ALIVE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX)
            with (directory / LOG).open("wb") as log:
                return subprocess.Popen(
                    # -P: the directory it works in is not where its modules come from
                    [sys.executable, "-P", "-m", "launcher.jobs.build_process", str(directory)],
                    cwd=directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(alive,),
                )
        finally:
            os.close(alive)

    def _lives(self, job_id: str) -> bool:
        """Return whether the builder lives: whether the lock that it was started with is held."""
        try:
            descriptor = os.open(self._directory(job_id) / _ALIVE, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _processes(self, job_id: str) -> set[int]:
        """Return the processes that have the build's name in their environment."""
        wanted = f"{_BUILD}={job_id}".encode()
        found = set()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if wanted in path.read_bytes().split(b"\0"):
                    found.add(int(path.parent.name))
        return found

    def _top(self, pids: set[int]) -> set[int]:
        """Return those that no other of them has started."""
        top = set()
        for pid in pids:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
                if int(status.rpartition(")")[2].split()[1]) not in pids:
                    top.add(pid)
        return top


class _Child:
    """A builder that this process has started; a thread waits for it, so that its end is known at once."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.ended = threading.Event()
        threading.Thread(target=self._wait, daemon=True, name=f"builder-{process.pid}").start()

    @property
    def status(self) -> int:
        """What it ended with (negative: the signal); it must have ended."""
        return self._process.wait()

    def _wait(self) -> None:
        self._process.wait()
        self.ended.set()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
