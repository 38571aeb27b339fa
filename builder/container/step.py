"""Runs one script in a container of an image, held to limits by the engine, and hands out what is left of it.

Not ``docker buildx build``: with the engine's own BuildKit it takes ``--memory`` and ``--cgroup-parent`` and ignores
them (Docker 20.10, buildx 0.29: a RUN step sees no limit), and has no limit for processes or time. A container that is
created, started and read afterwards has all four.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from builder.container.engine import EngineError, docker, docker_json, docker_lines, pull
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from builder.container.engine import ContainerLimits

LABEL = "org.casabinder.step-ends"
"""On containers and images that a build makes: the time (seconds since 1970) after which nobody needs them."""
BUILD_LABEL = "org.casabinder.build"
"""On the same, if the build has a name: :attr:`ContainerLimits.build`."""
_PASSING_LABEL = "org.casabinder.passing"  # on a container: its image was brought here for it and goes with it
_MADE = ((("ps", "--all"), ("rm", "--force", "--volumes")), (("images",), ("rmi", "--force")))
_GRACE = 600.0
# What installing Debian packages needs of root's rights; the user's own scripts get none.
_ROOT_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID")
_KILLED = 137
_KILL_PAUSE = 1.0
_EMPTY_WORDS = ("", "Execution halted")  # the latter is R's last line, after the error


class StepError(CasabinderError):
    """A script in a container failed or met a limit; ``said`` is the end of what it wrote."""

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


@dataclass(frozen=True)
class Step:
    """A script and where it runs: ``what`` is its name for people (``apt.txt``), ``image`` a reference by digest.

    A ``passing`` image is nobody else's: it is removed from the engine afterwards, if the step has brought it there.
    """

    what: str
    image: str
    script: str
    user: Literal["root", "1000:1000"]
    directory: str = "/"
    passing: bool = False


@contextlib.contextmanager
def finished_container(step: Step, allowed: ContainerLimits, say: Callable[[str], None]) -> Iterator[str]:
    """Run ``step`` to its end and hand out the id of its stopped container, which is removed afterwards.

    ``say`` is told every line that the script writes. Raises :class:`EngineError` without an engine, and
    :class:`StepError` when the script fails, or meets a limit.
    """
    remove_leftovers()
    known = _is_there(step.image)
    pull(step.image)
    name = f"casabinder-step-{uuid.uuid4().hex}"
    try:
        docker(*_create(name, step, allowed, passing=step.passing and not known))
        _run(name, step, allowed, say)
        yield name
    finally:
        with contextlib.suppress(EngineError):
            docker("rm", "--force", "--volumes", name)
        if step.passing and not known:
            with contextlib.suppress(EngineError):
                docker("rmi", step.image)


def require_engine(what: str, allowed: ContainerLimits) -> None:
    """Raise :class:`EngineError` with one sentence unless containers may be started here."""
    sentence = f"{what} runs commands while the image is built, which needs a container engine"
    if not allowed.engine:
        raise EngineError(f"{sentence}, and this facility's builder has none")
    try:
        docker("version", "--format", "{{.Server.Version}}")
    except EngineError as error:
        raise EngineError(f"{sentence}: {error}", error.detail) from error


def remove_leftovers(now: float | None = None) -> None:
    """Remove containers and images of builds that were killed: those whose time is long over."""
    moment = time.time() if now is None else now
    _remove(LABEL, lambda labels: float(labels[LABEL]) + _GRACE < moment)


def remove_made_by(build: str) -> None:
    """Remove the containers and images of one build, which has ended; raise :class:`EngineError` without an engine."""
    _remove(f"{BUILD_LABEL}={build}", lambda _: True)


def _remove(labelled: str, unwanted: Callable[[Mapping[str, str]], bool]) -> None:
    for listing, removal in _MADE:
        for identifier in docker(*listing, "--quiet", "--no-trunc", "--filter", f"label={labelled}").split():
            with contextlib.suppress(EngineError, ValueError, KeyError, IndexError):
                (document,) = docker_json("inspect", identifier)
                labels = document["Config"]["Labels"]
                if unwanted(labels):
                    docker(*removal, identifier)
                    if _PASSING_LABEL in labels:
                        docker("rmi", labels[_PASSING_LABEL])


def limits(allowed: ContainerLimits) -> list[str]:
    """Return the options of ``docker create`` that hold a container to what is allowed."""
    network = [] if allowed.network == "default" else ["--network", allowed.network]
    return [
        *network,
        f"--memory={allowed.memory}",
        f"--memory-swap={allowed.memory}",
        f"--cpus={cpus(allowed):g}",
        f"--pids-limit={allowed.processes}",
        "--security-opt=no-new-privileges",
    ]


def labels(allowed: ContainerLimits) -> list[str]:
    """Return the options that label what a build makes in the engine now."""
    return [f"--label={name}={value}" for name, value in label_values(allowed).items()]


def label_values(allowed: ContainerLimits) -> dict[str, str]:
    """Return the labels of what a build makes in the engine now."""
    named = {BUILD_LABEL: allowed.build} if allowed.build else {}
    return {LABEL: f"{time.time() + allowed.seconds:.0f}", **named}


def _is_there(image: str) -> bool:
    try:
        docker("image", "inspect", "--format", "{{.Id}}", image)
    except EngineError:
        return False
    return True


def _create(name: str, step: Step, allowed: ContainerLimits, *, passing: bool) -> list[str]:
    rights = [f"--cap-add={right}" for right in _ROOT_CAPABILITIES] if step.user == "root" else []
    return [
        "create",
        f"--name={name}",
        *labels(allowed),
        *([f"--label={_PASSING_LABEL}={step.image}"] if passing else []),
        "--log-driver=none",
        "--cap-drop=ALL",
        *rights,
        *limits(allowed),
        f"--user={step.user}",
        f"--workdir={step.directory}",
        "--entrypoint=/bin/sh",
        step.image,
        "-ec",
        step.script,
    ]


def _run(name: str, step: Step, allowed: ContainerLimits, say: Callable[[str], None]) -> None:
    last: deque[str] = deque(maxlen=20)
    late, ended = threading.Event(), threading.Event()

    def stop() -> None:
        pause = float(allowed.seconds)
        while not ended.wait(pause):
            late.set()
            with contextlib.suppress(EngineError):  # it may not have started yet
                docker("kill", name)
            pause = _KILL_PAUSE

    threading.Thread(target=stop, daemon=True).start()
    try:
        for line in docker_lines("start", "--attach", name):
            last.append(line[:500])
            say(line[:500])
    except EngineError:
        (document,) = docker_json("container", "inspect", name)
        state = document["State"]
        if not late.is_set() and (state["ExitCode"] == 0 or state["Error"]):
            raise  # not the script's fault: the engine could not start it, or went away
        said = "\n".join(last)
        raise StepError(_why(step, allowed, state, late=late.is_set(), last=list(last)), said) from None
    finally:
        ended.set()
    if late.is_set():
        raise StepError(_why(step, allowed, {}, late=True, last=list(last)), "\n".join(last))


def _why(step: Step, allowed: ContainerLimits, state: Mapping[str, Any], *, late: bool, last: list[str]) -> str:
    if late:
        return f"{step.what} was still running after {allowed.seconds:.0f} s, which is as long as this facility allows"
    if state.get("OOMKilled"):
        return (
            f"{step.what} needed more than the {allowed.memory / 1e6:.0f} MB of memory that this facility allows "
            "while an image is built"
        )
    told = (line.strip() for line in reversed(last) if line.strip() not in _EMPTY_WORDS)
    said = next(told, "it did not say why")
    if state["ExitCode"] == _KILLED:
        return f"{step.what} was killed: {said}"
    if _misses_network(last) and allowed.network == "none":
        return f"{step.what} needs the network, which this facility does not allow while an image is built: {said}"
    return f"{step.what} failed with exit code {state['ExitCode']}: {said}"


def _misses_network(last: list[str]) -> bool:
    signs = ("Temporary failure", "Could not resolve", "Network is unreachable", "EAI_AGAIN", "Name or service")
    return any(sign in line for line in last for sign in signs)


def cpus(allowed: ContainerLimits) -> float:
    """Return the processors to ask for: the engine refuses more than its machine has."""
    return min(allowed.cpus, float(docker("info", "--format", "{{.NCPU}}").strip()))
