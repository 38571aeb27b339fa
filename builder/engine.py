"""A thin layer over the Docker Engine: runs the ``docker`` command, and says in one sentence what went wrong.

The command is used, not the SDK: it knows the user's contexts, ``DOCKER_HOST`` over ssh or TLS, and the credential
helpers for pulling, it needs no further dependency, and what casabinder does can be repeated by hand.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMAND_SECONDS = 120.0
# What the engine says, and what that means to a user; the first that fits is taken. {0} is the first group.
_SENTENCES = (
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


class EngineError(CasabinderError):
    """The Docker Engine is not there, or refused what was asked; ``detail`` is what it said."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


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


def docker_lines(*arguments: str) -> Iterator[str]:
    """Run ``docker ARGUMENTS`` and yield its lines, standard error among them, as they come.

    A command that is no longer listened to is ended. Raises :class:`EngineError` when it fails.
    """
    try:
        process = subprocess.Popen(
            ["docker", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except FileNotFoundError as error:
        raise EngineError(_NO_DOCKER) from error
    last = ""
    with process:
        assert process.stdout is not None  # noqa: S101  # by construction
        try:
            for line in process.stdout:
                last = line.decode(errors="replace").rstrip("\r\n")
                yield last
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise EngineError(explain(last, f"docker {arguments[0]}"), last)


def docker_json(*arguments: str) -> Any:
    """Run ``docker ARGUMENTS`` and return the JSON it wrote."""
    return json.loads(docker(*arguments))


def explain(said: str, doing: str) -> str:
    """Return one sentence for what the docker command wrote to standard error."""
    return _find(said, _SENTENCES) or f"`{doing}` failed: {_last_line(said)}"


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
