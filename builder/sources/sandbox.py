"""Makes a wheel in a container of the base that nothing gets into or out of but what is put there and the wheel.

The container has no network, no capabilities, a read-only file system, an unprivileged user, and limits on memory,
processors, processes, scratch space (a tmpfs, ``/build``) and time. Source and build requirements go in as a tar on
standard input and the wheel comes out on standard output, so nothing is mounted and the engine may be another machine.

Build requirements (PEP 518) are resolved and fetched by the builder, as wheels, and go in as an environment that is
laid out like an image's. A backend that asks for more (``get_requires_for_build_wheel``) is asked in the sandbox, and
the build starts over with what it asked for. Example: ``setuptools`` with ``setup_requires=["cython"]``::

    run 1   environment: setuptools            hook says: cython     -> {"requires": ["cython"]}
    run 2   environment: setuptools, cython    hook says: cython     -> {"wheel": "x-1.0-py3-none-any.whl", ...}
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from builder.container.engine import EngineError, docker, docker_pipe, pull
from builder.container.step import labels, limits
from builder.layers.archive import write_layer
from builder.layers.grouping import merge_entries
from builder.layers.layer import Entry
from builder.layers.wheel import InstallTarget, open_wheel, wheel_entries
from builder.locking.pylock import LockError, read_pylock
from builder.locking.resolver import resolve
from builder.sources.errors import SourceBuildError
from builder.sources.project import index_requirements
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from builder.container.engine import ContainerLimits
    from builder.locking.resolver import PackageIndex
    from builder.sources.project import BuildSystem
    from builder.target import PythonTarget
    from builder.wheelhouse import Wheelhouse

MOST_WHEEL = 2**30
"""Bytes of a wheel that is taken out."""
_PREFIX = "/build/env"
_MOST_ROUNDS = 3
_MOST_HEADER = 2**20
_GRACE = 30
_MOST_LINES = 400
_CONSEQUENCES = (
    (
        re.compile(
            r"(command '[^']*(gcc|g\+\+|cc|c\+\+|clang)' failed: No such file"
            r"|No such file or directory: '[^']*(gcc|g\+\+|cc|c\+\+|clang|gfortran|cargo|rustc)'"
            r"|unable to execute '[^']*(gcc|cc)'|Unknown compiler\(s\)|No CMAKE_C(XX)?_COMPILER could be found"
            r"|C(XX)? compiler identification is unknown|apt-get install build-essential|CMAKE_MAKE_PROGRAM is not set"
            r"|No Fortran compiler|linker `cc` not found|can't find Rust compiler)",
            re.IGNORECASE,
        ),
        "it needs a compiler, which the base does not have; ask for a released version with a wheel",
    ),
    (
        re.compile(r"Temporary failure in name resolution|Network is unreachable|Name or service not known"),
        "it asks the network for something, and a build from source has none",
    ),
    (re.compile(r"No space left on device"), "it needs more scratch space than `containers.disk` of the site allows"),
    (
        re.compile(r"Resource temporarily unavailable|can't start new thread|BlockingIOError: \[Errno 11\]"),
        "it starts more processes than `containers.processes` of the site allows",
    ),
    (
        re.compile(r"unable to detect version|doesn't look like a source distribution|not a git repository"),
        "it takes its version from git's history, which is not there; state the version in the project's files",
    ),
)


@dataclass(frozen=True)
class BuildRequest:
    """One wheel to make. ``what`` names the project in messages, ``entries`` are its files below ``build/source``, or
    the archive ``build/<archive>``; ``environment`` are further environment variables of the backend."""

    what: str
    system: BuildSystem
    entries: Callable[[], Iterable[Entry]]
    archive: str = ""
    subdirectory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sandbox:
    """Where wheels are made: the base's image (by digest), its Python, and where build requirements come from."""

    image: str
    interpreter: str
    target: PythonTarget
    limits: ContainerLimits
    index: PackageIndex
    wheelhouse: Wheelhouse

    def build(self, request: BuildRequest, wheel: Path, say: Callable[[str], None]) -> str:
        """Write the wheel to ``wheel`` and return the name it should have; neither is trustworthy.

        ``say`` gets the log of a build that failed. Raises :class:`SourceBuildError` with the reason, and
        :class:`EngineError` when there is no engine.
        """
        pull(self.image)
        asked: tuple[str, ...] = ()
        for _ in range(_MOST_ROUNDS):
            answer = self._run(request, asked, wheel, say)
            if "wheel" in answer:
                if wheel.stat().st_size != answer.get("size"):
                    raise SourceBuildError(f"{request.what}: the wheel came out cut short")
                return str(answer["wheel"])
            requires = answer.get("requires")
            if not isinstance(requires, list) or not all(isinstance(line, str) for line in requires):
                raise SourceBuildError(f"{request.what}: its build backend asks for something that is no requirement")
            asked = tuple(requires)
        raise SourceBuildError(f"{request.what}: its build backend asks for something else each time it is asked")

    def _run(
        self, request: BuildRequest, asked: tuple[str, ...], wheel: Path, say: Callable[[str], None]
    ) -> dict[str, Any]:
        requires = (*request.system.requires, *index_requirements(asked, f"{request.what}: its build backend"))
        log: list[str] = []

        def listen(line: str) -> None:
            log.append(line)
            del log[:-_MOST_LINES]

        name = f"casabinder-source-{secrets.token_hex(8)}"
        limit = f"{self.limits.memory / 2**30:.1f} GiB of memory (`containers.memory` of the site)"
        failed = ""
        with ExitStack() as stack:
            entries = [*request.entries(), *self._environment(requires, request.what, stack)]
            entries += self._instructions(request, asked)
            output = stack.enter_context(tempfile.TemporaryFile(dir=wheel.parent))
            try:
                docker_pipe(
                    *self._command(name),
                    feed=lambda sink: write_layer(entries, cast("BinaryIO", sink)),
                    take=output,
                    most=_MOST_HEADER + MOST_WHEEL,
                    seconds=self.limits.seconds,
                    say=listen,
                )
            except TimeoutError:
                failed = f"it took more than {self.limits.seconds} s (`containers.seconds` of the site)"
            except EngineError as error:
                if error.status in (0, 125):
                    raise
                failed = f"it was ended from outside, probably because it needs more than {limit}"
            finally:
                with suppress(EngineError):
                    docker("rm", "--force", name)
            if not failed:
                output.seek(0)
                answer = _header(output)
                if "error" not in answer:
                    with wheel.open("wb") as sink:
                        shutil.copyfileobj(output, sink)
                    return answer
                failed = _reason(answer, log, limit)
        for line in log:
            say(line)
        raise SourceBuildError(f"{request.what} could not be made into a wheel: {failed}")

    def _command(self, name: str) -> list[str]:
        program = resources.files("builder.sources").joinpath("driver.py").read_text(encoding="utf-8")
        disk = self.limits.disk
        return [
            *("run", "--rm", "--interactive", "--name", name, *labels(self.limits), "--hostname", "build"),
            *limits(replace(self.limits, network="none")),
            *("--cap-drop", "ALL", "--read-only", "--user", "1000:1000", "--workdir", "/"),
            *("--tmpfs", f"/build:rw,exec,nosuid,nodev,size={disk},mode=0755,uid=1000,gid=1000"),
            *("--tmpfs", "/tmp:rw,nosuid,nodev,noexec,size=64m,mode=1777"),  # noqa: S108  # the container's
            *("--ulimit", "core=0", "--log-driver", "none"),
            *("--entrypoint", self.interpreter, self.image, "-I", "-S", "-c", program),
        ]

    def _environment(self, requires: tuple[str, ...], what: str, stack: ExitStack) -> list[Entry]:
        """Return the entries of a Python environment with the build requirements."""
        if not requires:
            return []
        text = "".join(f"{line}\n" for line in requires)
        try:
            locked = read_pylock(resolve([("build.in", text)], self.target, self.index), self.target, "build.in")
        except LockError as error:
            raise SourceBuildError(
                f"{what}: what its build needs ({', '.join(requires)}) is not to be had as wheels: {error}"
            ) from error
        paths = self.wheelhouse.fetch(locked)
        install = InstallTarget(_PREFIX, self.target.python)
        wheels = [(package.name, stack.enter_context(open_wheel(paths[package.sha256]))) for package in locked]
        return merge_entries((name, wheel_entries(wheel, install)) for name, wheel in wheels)

    def _instructions(self, request: BuildRequest, asked: tuple[str, ...]) -> list[Entry]:
        instructions = {
            "archive": request.archive,
            "subdirectory": request.subdirectory,
            "backend": request.system.backend,
            "backend_path": request.system.backend_path,
            "provided": asked,
            "environment": dict(request.environment),
            "seconds": self.limits.seconds + _GRACE,
        }
        driver = resources.files("builder.sources").joinpath("driver.py").read_bytes()
        return [
            Entry("build", "directory", mode=0o755),
            Entry("build/instructions.json", "file", canonical_json(instructions)),
            Entry("build/driver.py", "file", driver),
        ]


def _header(output: IO[bytes]) -> dict[str, Any]:
    try:
        answer = json.loads(output.readline(_MOST_HEADER))
    except (ValueError, RecursionError):
        answer = None
    return answer if isinstance(answer, dict) else {"error": "failed"}


def _reason(answer: Mapping[str, Any], log: list[str], limit: str) -> str:
    """Return why a build failed: what the sandbox saw, what the log shows, or the log's last meaningful line."""
    kind, message = answer.get("error"), " ".join(str(answer.get("message", "")).split())[:300]
    if kind == "no project":
        return "there is neither a pyproject.toml nor a setup.py in it"
    if kind == "archive":
        return f"its archive can't be unpacked: {message}"
    if kind == "backend":
        return f"its build backend can't be used: {message}; see `build-system` in its pyproject.toml"
    if kind == "no wheel":
        return f"its build backend says that it made {message!r}, and there is no such file"
    if answer.get("status") == -9:
        return f"it was ended, probably because it needs more than {limit}"
    text = "\n".join(log)
    line = last_meaningful_line(log)
    for pattern, sentence in _CONSEQUENCES:
        if match := pattern.search(text):
            shown = next((entry.strip() for entry in log if match[0] in entry), line)
            return f"{sentence}: {shown[:300]}"
    return line[:300] or "its build backend did not say why"


def last_meaningful_line(log: list[str]) -> str:
    """Return the line of a log that says what went wrong: the last that names an error, else the last."""
    lines = [line.strip() for line in log if line.strip() and not line.startswith((" ", "\t"))]
    named = [line for line in lines if re.match(r"([\w.]+(Error|Exception|Exit)|error)\b", line, re.IGNORECASE)]
    # A call that failed is the consequence of what the called program said.
    causes = [line for line in named if "CalledProcessError" not in line]
    return (causes or named or lines or [""])[-1]
