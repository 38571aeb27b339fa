"""A thin layer over the Docker Engine: runs the ``docker`` command, and says in one sentence what went wrong.

The command is used, not the SDK: it knows the user's contexts, ``DOCKER_HOST`` over ssh or TLS, and the credential
helpers for pulling, it needs no further dependency, and what casabinder does can be repeated by hand.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, cast

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

COMMAND_SECONDS = 120.0
_LONGEST_LINE = 8192
_CHUNK = 2**20
# What the engine says, and what that means to a user; the first that fits is taken. {0} is the first group.
_NO_GPU = (
    r"could not select device driver .*\bgpu\b|nvidia-container-cli",
    "Docker can't give the server a GPU here: this machine needs NVIDIA's driver and container toolkit, or "
    "`limits.gpus: 0` in site.yaml",
)
_SENTENCES = (
    _NO_GPU,
    (
        r"permission denied while trying to connect",
        "you may not use Docker on this machine: ask an administrator to put you in the group docker, and log in again",
    ),
    (
        r"Cannot connect to the Docker daemon|error during connect|docker daemon is not running",
        "the Docker Engine does not run: start it with scripts/bootstrap or `systemctl start docker`",
    ),
    (
        r"127\.0\.0\.1:(\d+)\S* (?:failed|bind): .*(?:already allocated|already in use)",
        "port {0} of this machine is taken: choose another with --port, or leave it out to get a free one",
    ),
    (
        r"as there are only (\d+) CPUs available",
        "this machine has {0} processors only: ask for no more with --cpus",
    ),
    (
        r"no space left on device",
        "the disk that Docker keeps its images on is full: free some space, for example with `docker image prune`",
    ),
    (
        r"(?:Minimum memory limit allowed|cannot allocate memory)",
        "Docker can't give the container the memory that was asked for: change --memory",
    ),
)
_PULL_SENTENCES = (
    (
        r"connection refused|no such host|i/o timeout|Client\.Timeout|no route to host|TLS handshake timeout",
        "the registry does not answer: start it (scripts/bootstrap starts the local one), or see that this machine "
        "can reach it",
    ),
    (
        r"unauthorized|denied|no basic auth credentials",
        "the registry refuses it: log in with `docker login`",
    ),
    (
        r"manifest unknown|not found",
        "the registry does not have it any more: build it again with --rebuild",
    ),
    (
        r"server gave HTTP response to HTTPS client",
        "the registry speaks plain HTTP, which Docker takes only from this machine: give it a certificate, or list it "
        "under insecure-registries in Docker's daemon.json",
    ),
)


@dataclass(frozen=True)
class ContainerLimits:
    """What one container that runs other people's code may use.

    ``memory`` and ``disk`` (scratch space, which counts as memory too where it is a tmpfs) are bytes, ``seconds`` is
    wall-clock time. With ``engine`` false no container is ever started. ``network`` is of the steps of a repository
    (``apt.txt``, ``postBuild``, ``Dockerfile``): the engine's default one, or none. ``build`` names the build: it is on
    all that is made in the engine, so that what a killed build leaves can be found.
    """

    engine: bool = True
    memory: int = 4 * 2**30
    cpus: float = 2.0
    processes: int = 512
    seconds: int = 1800
    disk: int = 2 * 2**30
    network: Literal["default", "none"] = "default"
    build: str = ""


class EngineError(CasabinderError):
    """The Docker Engine is not there, or refused what was asked; ``detail`` is what it said.

    ``status`` is what the command ended with (0: it did not get that far): 125 is ``docker run``'s own, other numbers
    are the container's.
    """

    def __init__(self, message: str, detail: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.detail = detail
        self.status = status


def docker(*arguments: str, stdin: bytes | None = None) -> str:
    """Run ``docker ARGUMENTS`` and return what it wrote; raise :class:`EngineError` with one sentence if it fails."""
    return docker_bytes(*arguments, stdin=stdin).decode(errors="replace")


def docker_bytes(*arguments: str, stdin: bytes | None = None, seconds: float = COMMAND_SECONDS) -> bytes:
    """Do as :func:`docker` does, for a command that writes something else than text."""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=False,
            timeout=seconds,
        )
    except FileNotFoundError as error:
        raise EngineError(_NO_DOCKER) from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"the Docker Engine has not answered `docker {arguments[0]}` for {seconds:.0f} s") from error
    if done.returncode:
        detail = done.stderr.decode(errors="replace")
        raise EngineError(explain(detail, f"docker {arguments[0]}"), detail)
    return done.stdout


def docker_lines(
    *arguments: str,
    stdin: BinaryIO | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = 0.0,
) -> Iterator[str]:
    """Run ``docker ARGUMENTS`` and yield its lines, standard error among them, as they come.

    ``environment`` comes on top of the process's own. A command that is no longer listened to is ended; a container
    that it started is the caller's to end. Lines longer than 8 kB come in pieces. Raises :class:`EngineError` when it
    fails, :class:`TimeoutError` when it takes more than ``seconds``, unless that is 0.
    """
    try:
        process = subprocess.Popen(
            ["docker", *arguments],
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError as error:
        raise EngineError(_NO_DOCKER) from error
    last = ""
    late = threading.Event()

    def end() -> None:
        late.set()
        # SIGTERM would be handed on to the container's first process, where a shell does not care.
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    if seconds:
        timer.start()
    with process:
        assert process.stdout is not None  # noqa: S101  # by construction
        try:
            while line := process.stdout.readline(_LONGEST_LINE):
                last = line.decode(errors="replace").rstrip("\r\n")
                yield last
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise TimeoutError(f"`docker {arguments[0]}` took more than {seconds:.0f} s")
    if process.returncode:
        raise EngineError(explain(last, f"docker {arguments[0]}"), last)


@contextmanager
def docker_stream(*arguments: str) -> Iterator[BinaryIO]:
    """Run ``docker ARGUMENTS`` and hand out its output to be read as it comes.

    A command whose output was not read to its end is ended. Raises :class:`EngineError` when it fails.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                ["docker", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        except FileNotFoundError as error:
            raise EngineError(_NO_DOCKER) from error
        with process:
            assert process.stdout is not None  # noqa: S101  # by construction
            try:
                yield cast("BinaryIO", process.stdout)
                rest = process.stdout.read(_LONGEST_LINE * 8)  # what a tar is padded with at its end
                if rest and process.stdout.read(1):
                    process.terminate()
                    return
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            errors.seek(0)
            detail = errors.read().decode(errors="replace")
            raise EngineError(explain(detail, f"docker {arguments[0]}"), detail)


def docker_pipe(
    *arguments: str,
    feed: Callable[[IO[bytes]], object],
    take: IO[bytes],
    most: int,
    seconds: float,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Run ``docker ARGUMENTS`` with what ``feed`` writes as its input, and write its output to ``take``.

    ``say`` gets the lines of standard error as they come. The command is ended when it writes more than ``most`` bytes
    (:class:`EngineError`) or takes more than ``seconds`` (:class:`TimeoutError`); a container that it started is the
    caller's to end.
    """
    try:
        process = subprocess.Popen(
            ["docker", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise EngineError(_NO_DOCKER) from error
    late = threading.Event()
    faults: list[BaseException] = []
    said: deque[str] = deque(maxlen=100)
    written = 0

    def end() -> None:
        late.set()
        process.kill()

    def write() -> None:
        assert process.stdin is not None  # noqa: S101  # by construction
        try:
            with process.stdin as sink:
                feed(sink)
        except BrokenPipeError:
            pass  # who does not read to the end says why itself
        except BaseException as error:  # noqa: BLE001  # raised again below, in the caller's thread
            faults.append(error)
            process.kill()

    def listen() -> None:
        assert process.stderr is not None  # noqa: S101  # by construction
        while line := process.stderr.readline(_LONGEST_LINE):
            said.append(line.decode(errors="replace").rstrip("\r\n"))
            say(said[-1])

    threads = [threading.Thread(target=write), threading.Thread(target=listen)]
    timer = threading.Timer(seconds, end)
    with process:
        for thread in (*threads, timer):
            thread.start()
        assert process.stdout is not None  # noqa: S101  # by construction
        try:
            while written <= most and (data := process.stdout.read1(_CHUNK)):  # type: ignore[attr-defined]
                written += len(data)
                take.write(data)
            if written > most:
                process.kill()
            process.wait()
        finally:
            process.kill()
            timer.cancel()
            for thread in threads:
                thread.join()
    if faults:
        raise faults[0]
    if late.is_set():
        raise TimeoutError(f"`docker {arguments[0]}` took more than {seconds:.0f} s")
    if written > most:
        raise EngineError(f"`docker {arguments[0]}` wrote more than {most} bytes")
    if process.returncode:
        detail = "\n".join(said)
        raise EngineError(explain(detail, f"docker {arguments[0]}"), detail, process.returncode)


def pull(image: str) -> None:
    """Have the engine pull an image (named by digest) unless it has it; raise :class:`EngineError` if it can't."""
    try:
        docker("image", "inspect", "--format", "{{.Id}}", image)
    except EngineError as error:
        if "No such image" not in error.detail:
            raise
        said: list[str] = []
        try:
            said.extend(docker_lines("pull", image))
        except EngineError as refused:
            raise EngineError(explain_pull("\n".join(said) or refused.detail, image), refused.detail) from refused


def docker_json(*arguments: str) -> Any:
    """Run ``docker ARGUMENTS`` and return the JSON it wrote."""
    return json.loads(docker(*arguments))


def explain(said: str, doing: str) -> str:
    """Return one sentence for what the docker command wrote to standard error."""
    return _find(said, _SENTENCES) or f"`{doing}` failed: {_last_line(said)}"


def explain_gpus(said: str) -> str:
    """Return one sentence if a container could not start since there is no GPU for it, else nothing."""
    return _find(said, (_NO_GPU,))


def explain_pull(said: str, image: str) -> str:
    """Return one sentence for why an image could not be pulled."""
    known = _find(said, _SENTENCES)
    return known or f"{image} can't be pulled: {_find(said, _PULL_SENTENCES) or _last_line(said)}"


_NO_DOCKER = "there is no docker command here: install Docker (scripts/bootstrap does), or put it on PATH"


def _find(said: str, sentences: Sequence[tuple[str, str]]) -> str:
    for pattern, sentence in sentences:
        match = re.search(pattern, said, re.IGNORECASE)
        if match:
            return sentence.format(*match.groups())
    return ""


def _last_line(said: str) -> str:
    lines = [line for line in said.strip().splitlines() if line and not line.startswith(("See ", "Run "))]
    return lines[-1].removeprefix("Error response from daemon: ") if lines else "it did not say why"
