"""Runs a base's smoke test in one container of it, started as a notebook server is: same entry point, same limits.

A base has no identity of its own, which the Dask session needs. It gets the one that an image would have that has
nothing but the base, as a file of the container; nothing else of the image is changed.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import tarfile
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.container.engine import EngineError, docker, docker_json, docker_lines
from builder.container.step import label_values
from builder.environment.spec import EnvironmentSpec
from builder.locking.closure import breaches
from builder.locking.lock import lock
from builder.plan import IDENTITY_FILE, plan
from builder.repository.spec import Commit, RepoSpec
from builder.repository.tree import Tree
from launcher.bases.smoke import (
    ADDRESS,
    DASK,
    KERNEL,
    WORKERS,
    XROOTD_CLIENT,
    XROOTD_READ,
    BaseSmokeReport,
    import_plan,
)
from launcher.ci import inside_image
from launcher.ci.smoke import Check, read_report
from launcher.ci.smoke_container import brought
from launcher.container import (
    LABEL,
    Container,
    LaunchOptions,
    own_environment,
    parse_memory,
    pool,
    secrets_archive,
)
from launcher.docker import server_url, wait_for_server
from launcher.notebook_client import NotebookClient, NotebookError
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from builder.base import Base, InstalledEnvironment
    from builder.facility import Facility
    from launcher.site_config import Limits

_NOTEBOOK = "smoke-test.ipynb"
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # the same in every git repository


def smoke_test_base(
    base: Base,
    facility: Facility,
    limits: Limits,
    exceptions: Mapping[str, Mapping[str, str]],
    address: str,
    say: Callable[[str], None],
) -> BaseSmokeReport:
    """Try a base. Modules of ``exceptions`` (by environment) are not imported; ``address`` is of a file to read over
    XRootD, or empty.

    Raises :class:`EngineError` when no container can be started at all.
    """
    began = time.monotonic()
    inventory = base.inventory
    what = ""
    if address or "xrootd" in inventory.analysis.by_name:
        what = "read" if address else "client"
    checks = []
    with brought(base.store, base.repository, f"{base.registry}/{base.repository}@{base.digest}") as image:
        say("starting a server of it, with Dask workers")
        try:
            with _server(base, facility, limits, image) as (container, url, token):
                checks.append(Check("server", passed=True))
                checks += _notebooks(url, token, what, address, say)
                for name, environment in (("analysis", inventory.analysis), ("server", inventory.server)):
                    say(f"importing {len(environment.packages)} packages of {environment.prefix}")
                    checks += _imports(
                        name, environment, exceptions.get(name, {}), container, facility.containers.seconds
                    )
                    checks.append(_requirements(name, environment, base, container))
        except _NotStartedError as error:
            checks.append(Check("server", passed=False, said=str(error)))
    return BaseSmokeReport(tuple(checks), dict(exceptions), what, round(time.monotonic() - began, 1))


class _NotStartedError(CasabinderError):
    """The server did not get ready."""


@contextlib.contextmanager
def _server(base: Base, facility: Facility, limits: Limits, image: str) -> Iterator[tuple[str, str, str]]:
    """Start a notebook server of a base; give the container's name, the server's address and its token."""
    env_id, identity = _identity(base, facility)
    digest = f"{facility.registry}/{base.repository}@{base.digest}"
    cores, memory = docker("info", "--format", "{{.NCPU}} {{.MemTotal}}").split()
    # Each environment's imports alone may take as long as a container of a build.
    allowed = replace(facility.containers, seconds=4 * facility.containers.seconds)
    bytes_, token = min(parse_memory(limits.memory), int(memory)), secrets.token_hex(24)
    workers = pool(LaunchOptions(workers=WORKERS, memory=limits.memory), bytes_)
    container = Container(
        name=f"casabinder-smoke-test-{secrets.token_hex(6)}",
        image=image,
        labels={f"{LABEL}.smoke-test": base.digest, **label_values(allowed)},
        environment=own_environment(env_id, digest, base.digest, workers),
        cpus=min(limits.cpus, float(cores)),
        memory=bytes_,
        port=None,
    )
    try:
        docker(*container.arguments(), stdin=container.environment_file())
        docker("cp", "-", f"{container.name}:/", stdin=_archive(IDENTITY_FILE, identity))
        docker("cp", "-", f"{container.name}:/run", stdin=secrets_archive(token))
        docker("start", container.name)
        url = server_url(docker_json("inspect", container.name)[0])
        try:
            wait_for_server(container.name, url, token, with_workers=True, workers=WORKERS)
        except EngineError:
            raise
        except CasabinderError as error:
            raise _NotStartedError(str(error)) from error
        yield container.name, url, token
    finally:
        with contextlib.suppress(EngineError):
            docker("rm", "--force", "--volumes", container.name)


def _identity(base: Base, facility: Facility) -> tuple[str, bytes]:
    """Return the ``env_id`` and the ``env.json`` of an image of an empty repository on the base."""
    spec = EnvironmentSpec(kind="none")
    tree = Tree(Commit(RepoSpec(""), "", ""), Path(), _EMPTY_TREE)  # no file of it is read
    planned = plan(base, lock(spec, base, facility), spec, tree)
    layer = next(layer for layer in planned.above if layer.what == "env.json")
    [entry] = layer.entries()
    if not isinstance(entry.content, bytes):
        raise TypeError("env.json is written whole")
    return planned.env_id, entry.content


def _notebooks(url: str, token: str, xrootd: str, address: str, say: Callable[[str], None]) -> Iterator[Check]:
    codes = {"kernel": KERNEL, "dask": DASK}
    if xrootd:
        codes["xrootd"] = XROOTD_READ if address else XROOTD_CLIENT
    with NotebookClient(url, token) as client:
        for name, code in codes.items():
            say(f"running a notebook: {name}")
            try:
                client.run_code(code, _NOTEBOOK, environment={ADDRESS: address})
                yield Check(name, passed=True)
            except NotebookError as error:
                yield Check(name, passed=False, said=str(error))


def _imports(
    name: str, environment: InstalledEnvironment, exceptions: Mapping[str, str], container: str, seconds: float
) -> Iterator[Check]:
    """Import everything that an environment has, in one process of its Python in the container."""
    python = f"{environment.prefix}/bin/python"
    lines: list[str] = []
    with tempfile.TemporaryFile() as program:
        program.write(Path(inside_image.__file__).read_bytes())
        program.seek(0)
        plan_text = import_plan(environment, exceptions).to_json()
        command = ["exec", "--interactive", container, python, "-", plan_text]
        try:
            lines += docker_lines(*command, stdin=program, seconds=seconds)
        except TimeoutError:
            lines.append(f"it took more than {seconds:.0f} s")
        except EngineError as error:
            lines.append(error.detail)
    report = read_report(lines)
    for check in report.checks:
        yield Check(f"{name}: {check.name}", check.passed, check.said)
    if report.why:
        yield Check(f"{name}: imports", passed=False, said=report.why)


def _requirements(name: str, environment: InstalledEnvironment, base: Base, container: str) -> Check:
    """Run ``pip check`` with the analysis environment's pip; a base without one is looked at in its inventory."""
    analysis = base.inventory.analysis
    if "pip" not in analysis.by_name:
        found = breaches(environment.by_name, base.inventory.target)
        return Check(f"{name}: requirements", not found, "\n".join(str(breach) for breach in found))
    pip = [f"{analysis.prefix}/bin/python", "-m", "pip", "--python", f"{environment.prefix}/bin/python", "check"]
    lines: list[str] = []
    try:
        lines += docker_lines("exec", container, *pip)
        return Check(f"{name}: pip check", passed=True)
    except EngineError as error:
        return Check(f"{name}: pip check", passed=False, said="\n".join(lines) or str(error))


def _archive(path: str, content: bytes) -> bytes:
    """Return a tar file with one file of root's in it."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        member = tarfile.TarInfo(path)
        member.size, member.mode = len(content), 0o644
        archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()
