"""Runs images as notebook servers in containers of the Docker Engine on this machine.

::

    launch   ImageRecord + LaunchOptions -> image pulled by digest -> container -> tokens put into it -> Server
    servers, logs, stop                  what runs, found by labels

Only containers with casabinder's label are ever touched, and of those only the ones that this user launched with this
cache. A container that has ended keeps the user's files until it is stopped by name; the same launch again starts it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from builder.container.engine import EngineError, docker, docker_json, docker_lines, explain_pull
from launcher.container import (
    HOST_PORT,
    LABEL,
    LOOPBACK,
    NOTEBOOK,
    PORT,
    PUBLISHED,
    STOP_SECONDS,
    Container,
    describe,
    image_name,
    owner,
    parse_memory,
    secrets_archive,
    server_name,
    words_on_gpus,
)
from launcher.pools.ports import candidates, exhausted, free_here, numeric, refused, taken
from launcher.readiness import NotReadyError, wait_until_ready
from launcher.servers import Server, ServerFiles
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from builder.record import ImageRecord
    from launcher.container import LaunchOptions
    from launcher.data_access import DataAccess
    from launcher.pools.site_pool import BatchPool

_PULL_STEP = 0.1  # the pull is reported at every tenth of its bytes
_LAST_LINES = 5
_GONE = ("No such container", "is already in progress")  # the latter is of a removal

Say = Callable[[str], None]


class ServerEndedError(CasabinderError):
    """The container ended while it was waited for."""


def launch(record: ImageRecord, options: LaunchOptions, cache: Path, say: Say, *, new: bool = False) -> Server:
    """Start the image as a notebook server and return it once it answers and its Dask session runs.

    The same launch again gives the server that runs already, unless a ``new`` one is asked for. ``say`` is told what
    happens, a sentence at a time. Raises :class:`CasabinderError` with one sentence; a container that did not get ready
    is removed first.
    """
    options = _within_machine(options, say)
    owned_by = owner(cache)
    files = ServerFiles(cache)
    name = server_name(record, options, owned_by)
    with files.one_launch_at_a_time(name):
        there = {server.name: server for server in servers(cache)}
        if new:
            name = next(candidate for candidate in _numbered(name) if candidate not in there)
        elif name in there:
            return _again(there[name], options, files, say)
        pool_token = _pool_token(options)
        pull(record, say)
        batch = options.used_pool
        if batch is not None and options.port is None:
            options = replace(options, port=_free_port())
        where = f" in the pool of {batch.site.collector} as {batch.user}" if batch else ""
        workers = f"{options.workers} Dask workers{where}"
        limits = f"{options.cpus:g} processors, {options.memory} of memory{words_on_gpus(options.gpus)}"
        say(f"starting {name}: {workers}, {limits}")
        if batch is not None and batch.exposure == "host-port":
            return _start_reachable(record, options, batch, name, cache, pool_token)
        return _start(describe(record, options, name, owned_by), files, pool_token, options.data)


def pull(record: ImageRecord, say: Say) -> str:
    """Pull an image by its digest unless the engine has it, and return the name it goes by there."""
    image = image_name(record)
    try:
        docker("image", "inspect", "--format", "{{.Id}}", image)
    except EngineError as error:
        if "No such image" not in error.detail:
            raise
    else:
        return image
    sizes = {layer.digest.removeprefix("sha256:")[:12]: layer.bytes for layer in record.layers}
    total = missing = sum(sizes.values())
    done, told = 0, 0.0
    say(f"pulling {image}")
    said = []
    try:
        for line in docker_lines("pull", image):
            said.append(line)
            layer, _, event = line.partition(": ")
            if event == "Already exists":
                missing -= sizes.pop(layer, 0)
            elif event == "Pull complete":
                done += sizes.pop(layer, 0)
                if done >= (told + _PULL_STEP) * missing:
                    told = done / missing
                    say(f"pulled {done / 1e6:.1f} of {missing / 1e6:.1f} MB; the image has {total / 1e6:.1f} MB")
    except EngineError as error:
        raise EngineError(explain_pull("\n".join(said), image), error.detail) from error
    return image


def servers(cache: Path) -> list[Server]:
    """Return the servers that were launched by this user with this cache, the newest first."""
    filters = ["--filter", f"label={NOTEBOOK}", "--filter", f"label={LABEL}.owner={owner(cache)}"]
    ids = docker("ps", "--all", "--quiet", "--no-trunc", *filters).split()
    files = ServerFiles(cache)
    found = []
    for container in ids:
        try:
            found.append(_read(docker_json("inspect", container)[0], files))
        except EngineError as error:
            if "No such" not in error.detail:  # it was removed meanwhile
                raise
    return found


def logs(cache: Path, name: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
    """Yield the lines of a server's log (the last ``tail``), with ``follow`` also those to come."""
    server = _named(name, servers(cache))
    options = ["--follow"] if follow else []
    options += ["--tail", str(tail)] if tail is not None else []
    return docker_lines("logs", *options, server.name)


def stop(cache: Path, names: Sequence[str] | None) -> list[str]:
    """End servers (``None``: all), remove their containers with all files in them, and return their names."""
    there = servers(cache)
    ending = there if names is None else [_named(name, there) for name in names]
    if ending:
        _unless_gone("stop", "--time", str(STOP_SECONDS), *(server.name for server in ending))
    for server in ending:
        _remove(server.name, ServerFiles(cache))
    return [server.name for server in ending]


def find(cache: Path, name: str) -> Server:
    """Return a server by name; raise :class:`CasabinderError` listing the names there are."""
    return _named(name, servers(cache))


def _within_machine(options: LaunchOptions, say: Say) -> LaunchOptions:
    """Return the options with limits that the machine has: a share of more than there is would be none."""
    cpus, memory = docker("info", "--format", "{{.NCPU}} {{.MemTotal}}").split()
    if options.cpus > int(cpus):
        say(f"this machine has {cpus} processors: the server gets those instead of {options.cpus:g}")
        options = replace(options, cpus=float(cpus))
    if parse_memory(options.memory) > int(memory):
        all_of_it = f"{int(memory) // 2**20}M"
        say(f"this machine has {all_of_it} of memory: the server gets that instead of {options.memory}")
        options = replace(options, memory=all_of_it)
    return options


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _pool_token(options: LaunchOptions) -> str:
    """Return a token for the launch's pool; nothing where none is needed."""
    return options.used_pool.token() if options.used_pool else ""


def _free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as trial:
        trial.bind((LOOPBACK, 0))
        return int(trial.getsockname()[1])


def _start(container: Container, files: ServerFiles, pool_token: str, data: DataAccess) -> Server:
    token = files.new_token(container.name)
    try:
        docker(*container.arguments(), stdin=container.environment_file())
        docker("cp", "-", f"{container.name}:/run", stdin=secrets_archive(token, pool_token, data.files()))
        docker("start", container.name)
        return _when_ready(container.name, files)
    except BaseException:
        _remove(container.name, files)
        raise


def _start_reachable(
    record: ImageRecord, options: LaunchOptions, batch: BatchPool, name: str, cache: Path, pool_token: str
) -> Server:
    """Start a container of which a port is published for its scheduler: one that is free, says the engine."""
    ports, address = batch.site.port_range, numeric(batch.site.address)
    template = f'{{{{.Label "{PUBLISHED}"}}}}'
    there = docker("ps", "--all", "--filter", f"label={PUBLISHED}", "--format", template).split()
    for port in candidates(ports, [int(port) for port in there], name):
        if not free_here(address, port):
            continue
        try:
            container = describe(record, options, name, owner(cache), (address, port))
            return _start(container, ServerFiles(cache), pool_token, options.data)
        except EngineError as error:
            if not refused(error.detail, address, port):
                raise
    raise exhausted(ports, address)


def _again(server: Server, options: LaunchOptions, files: ServerFiles, say: Say) -> Server:
    if not server.token:
        raise CasabinderError(f"the token of {server.name} is lost: remove it with `casabinder stop {server.name}`")
    if server.state == "running":
        say(f"{server.name} runs already")
        if options.data.files():
            docker("cp", "-", f"{server.name}:/run", stdin=secrets_archive("", "", options.data.files()))
    else:
        say(f"starting {server.name} again, with the files it had")
        pool_token = _pool_token(options)
        if pool_token or options.data.files():  # the ones that it has may have expired
            archive = secrets_archive(server.token, pool_token, options.data.files())
            docker("cp", "-", f"{server.name}:/run", stdin=archive)
        try:
            docker("start", server.name)
        except EngineError as error:
            label = f'{{{{index .Config.Labels "{PUBLISHED}"}}}}'
            port = docker("inspect", "--format", label, server.name).strip()
            if port and options.used_pool and refused(error.detail, options.used_pool.site.address, int(port)):
                raise taken(int(port)) from error
            raise
    return _when_ready(server.name, files)


def _when_ready(name: str, files: ServerFiles) -> Server:
    server = _read(docker_json("inspect", name)[0], files)
    wait_for_server(name, server.url, server.token, with_workers=server.workers > 0)
    files.write_browser_file(server)
    return server


def wait_for_server(name: str, url: str, token: str, *, with_workers: bool, workers: int = 0) -> None:
    """Wait until the server in a container is ready; raise :class:`CasabinderError` with its last words if not."""

    def check_alive() -> None:
        state = docker_json("inspect", "--format", "{{json .State}}", name)
        if state["OOMKilled"]:
            raise ServerEndedError("it ran out of memory: give it more with --memory, or fewer --workers")
        if not state["Running"]:
            raise ServerEndedError(f"it ended with status {state['ExitCode']}")

    try:
        check_alive()
        wait_until_ready(url, token, check_alive, with_workers=with_workers, workers=workers)
    except (ServerEndedError, NotReadyError) as error:
        last = " | ".join(line for line in docker_lines("logs", "--tail", str(_LAST_LINES), name) if line.strip())
        raise CasabinderError(f"{name} did not start: {error}. Its last words: {last or 'none'}") from error


def _named(name: str, there: Sequence[Server]) -> Server:
    for server in there:
        if name in (server.name, server.name.removeprefix("casabinder-")):
            return server
    names = ", ".join(server.name for server in there)
    raise CasabinderError(f"there is no server {name!r}; " + (f"there are: {names}" if names else "none was launched"))


def _read(container: dict[str, Any], files: ServerFiles) -> Server:
    """Return the server that ``docker inspect`` describes."""
    name, labels, state = container["Name"].removeprefix("/"), container["Config"]["Labels"], container["State"]
    return Server(
        name=name,
        repo=labels[f"{LABEL}.repo"],
        ref=labels[f"{LABEL}.ref"],
        commit=labels[f"{LABEL}.commit"],
        image_id=labels[NOTEBOOK],
        env_id=labels[f"{LABEL}.env-id"],
        digest=labels[f"{LABEL}.digest"],
        state=state["Status"],
        since=state["StartedAt"] if state["Running"] else container["Created"],
        workers=int(labels[f"{LABEL}.workers"]),
        url=server_url(container),
        browser_file=files.browser_file(name),
        token=files.token(name),
    )


def server_url(container: Mapping[str, Any]) -> str:
    """Return where the server in a container that `docker inspect` describes is reached, ``""`` if nowhere."""
    labels, running = container["Config"]["Labels"], container["State"]["Running"]
    published = (container["NetworkSettings"]["Ports"] or {}).get(f"{PORT}/tcp") or []
    port = published[0]["HostPort"] if published else labels.get(HOST_PORT, "") if running else ""
    return f"http://{LOOPBACK}:{port}/" if port else ""


def _remove(name: str, files: ServerFiles) -> None:
    """Remove a container with its volumes, and the files that let one in."""
    _unless_gone("rm", "--force", "--volumes", name)
    files.remove(name)


def _unless_gone(*arguments: str) -> None:
    """Run ``docker ARGUMENTS`` on containers, of which others may remove some at the same time."""
    try:
        docker(*arguments)
    except EngineError as error:  # it has done its work on all others
        if not all(any(words in line for words in _GONE) for line in error.detail.splitlines() or [""]):
            raise
