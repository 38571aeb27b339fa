"""A complete facility on this machine: checks, a plan, JupyterHub as a child (which runs its proxy and the launch
service), and all of it ended together.

::

    serve ── registry            only where site.yaml expects one on this machine and none answers
         ├── JupyterHub ── proxy (the one public port)
         │            └── launch service ── a process for every build
         └── docker pull         of the base, so that the first launch need not

Notebook servers are containers of the Docker Engine, and builds are processes of their own: both outlive this command
and are found again by the next. Everything else ends with it, however it ends (see :mod:`launcher.processes`).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from base_images.assemble import build_base
from base_images.definition import catalogue
from builder.container.engine import docker
from launcher.container import LABEL, owner
from launcher.hub.plan import ServePlan, plan_file, secret_file
from launcher.hub.pool_access import check_hub_pool, hub_pool_warning
from launcher.processes import DIES_WITH_PARENT, Child, note, noted, wait_until_gone
from launcher.security.keys import Keys
from launcher.serve_checks import bridge_address, check_docker, check_port, check_registry, free_port, proxy_command
from registry_sync.errors import CasabinderError
from registry_sync.files import disk_error, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from launcher.context import Context
    from launcher.site_config import Site

START_SECONDS = 180.0
END_SECONDS = 30.0
_PAUSE = 0.05

Say = Callable[[str], None]
log = logging.getLogger(__name__)


def serve(context: Context, say: Say, ready: Callable[[ServePlan], None]) -> None:
    """Run the facility until :class:`KeyboardInterrupt`, and end all of it; ``ready`` is called once it answers.

    ``say`` is told what happens, a sentence at a time. Raises :class:`CasabinderError` with one sentence when something
    is not as it must be, or when a part of the facility ends by itself.
    """
    cache, site = context.facility.cache, context.site
    if site.hub.spawner != "docker":
        raise CasabinderError(
            "`casabinder serve` starts servers with Docker; `hub.spawner: kubernetes` is for a cluster"
        )
    check_hub_pool(site)
    if warning := hub_pool_warning(site):
        say(f"WARNING: {warning}")
    logs = cache / "log" / "serve"
    # Every watcher of a build is three open files: two of the proxy's and one of the launch service's.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with _only_one(cache), ExitStack() as parts:
        wait_until_gone(cache / "run" / "hub.pid", END_SECONDS)  # the hub of a run that was killed
        check_docker()
        proxy = proxy_command(cache)
        check_port(site.service.listen, site.service.port)
        Keys.load(secret_file(cache, site.service.secret))
        registry = check_registry(context, logs / "registry.log")
        if registry is not None:
            say(f"started the registry {site.registry.partition('/')[0]} (data: {cache / 'registry'})")
            parts.callback(registry.end, END_SECONDS)
        image = _base_image(context, say)
        plan = _plan(site, cache, proxy)
        plan.write(cache)
        hub = _start_hub(site, cache, logs)
        parts.callback(_end_hub, hub, plan, cache)
        _wait_until_ready(hub, plan)
        puller = Child.start("pull", ["docker", "pull", "--quiet", image], logs / "pull.log")
        parts.callback(puller.end, 1)
        ready(plan)
        _watch([part for part in (hub, registry) if part is not None])


def notebooks(cache: Path) -> int:
    """Return how many notebook servers of this facility run."""
    return len(docker("ps", "--quiet", "--filter", f"label={LABEL}.hub={owner(cache)}").split())


def with_address(site: Site, port: int | None, mode: Literal["anonymous", "login"] | None) -> Site:
    """Return the site as one run serves it: with this port (0: a free one) and mode, and the address people see."""
    service, hub = site.service, site.hub
    chosen = service.port if port is None else port
    if not chosen:
        chosen = free_port(service.listen)
    url = service.url if service.url and port is None else f"http://127.0.0.1:{chosen}"
    hub = hub.model_copy(update={"mode": mode}) if mode else hub
    return site.model_copy(update={"service": service.model_copy(update={"port": chosen, "url": url}), "hub": hub})


@contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    """Hold the cache for one facility; its pid file is what scripts/stop looks at."""
    run = cache / "run"
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = (run / "serve.lock").open("w")
    except OSError as error:
        raise disk_error(error, run) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CasabinderError(_runs_already(cache)) from error
        note(run / "serve.pid", os.getpid())
        try:
            yield
        finally:
            (run / "serve.pid").unlink(missing_ok=True)


def _runs_already(cache: Path) -> str:
    where = ""
    with suppress(CasabinderError):
        where = f" at {ServePlan.read(cache).public_url}"
    process = noted(cache / "run" / "serve.pid")
    return (
        f"`casabinder serve` runs already with the cache {cache}{where} (process {process}): end it with scripts/stop, "
        "or give this one another cache (CASABINDER_CACHE)"
    )


def _base_image(context: Context, say: Say) -> str:
    """Return the site's base by digest, after making it if it is one of the catalogue and the registry lacks it.

    What a channel names is released by somebody: it is never made here.
    """
    site, facility = context.site, context.facility
    if site.base in catalogue(context.catalogues) and site.channel is None:
        definition = context.definition(site.base)
        record = build_base(
            definition,
            context.workshop,
            facility.store,
            facility.registry,
            facility.prefix,
            say=lambda text: say(f"base {site.base}: {text}"),
        )
        return f"{record.reference.rpartition(':')[0]}@{record.digest}"
    choice = context.bases(site.base).offers[0].choice
    there = (choice.store or facility.store).head_manifest(choice.repository, choice.reference)
    if there is None:
        raise CasabinderError(f"the site's base {site.base} is not in its registry: correct `base` in site.yaml")
    return f"{choice.registry}/{choice.repository}@{there.digest}"


def _plan(site: Site, cache: Path, proxy: tuple[str, ...]) -> ServePlan:
    """Decide on addresses. Servers of people who log in know the hub's port, so it is the one of the last run if it can
    be."""
    try:
        last = ServePlan.read(cache)
        known = (last.hub_port, last.proxy_api_port, last.service_port)
    except CasabinderError:
        known = (0, 0, 0)
    hub_ip = bridge_address() if site.hub.mode == "login" else "127.0.0.1"
    taken = {site.service.port}
    ports = []
    for ip, wanted in zip((hub_ip, "127.0.0.1", "127.0.0.1"), known, strict=True):
        port = free_port(ip, wanted)
        while port in taken:
            port = free_port(ip)
        taken.add(port)
        ports.append(port)
    return ServePlan(
        public_url=(site.service.url or "").rstrip("/"),
        listen=site.service.listen,
        port=site.service.port,
        proxy_api_port=ports[1],
        hub_ip=hub_ip,
        hub_port=ports[0],
        service_port=ports[2],
        proxy_command=(*DIES_WITH_PARENT, *proxy),
    )


def _start_hub(site: Site, cache: Path, logs: Path) -> Child:
    """Start JupyterHub. Its children read the site as it is now from a file of their own, whatever becomes of
    site.yaml meanwhile."""
    frozen = plan_file(cache).with_name("site.json")
    write_atomically(frozen, json.dumps(site.model_dump(mode="json", exclude_defaults=True), indent=1).encode())
    frozen.chmod(0o600)  # settings of an authenticator may have a client's secret
    configuration = Path(__file__).parent / "hub" / "jupyterhub_config.py"
    environment = {**os.environ, "CASABINDER_CACHE": str(cache), "CASABINDER_SITE": str(frozen)}
    command = [sys.executable, "-m", "launcher.hub", "-f", str(configuration)]
    hub = Child.start("JupyterHub", command, logs / "hub.log", environment)
    note(cache / "run" / "hub.pid", hub.process.pid)
    return hub


def _end_hub(hub: Child, plan: ServePlan, cache: Path) -> None:
    """End the hub, which ends its proxy and the launch service, and wait until their ports are free again."""
    if not hub.end(END_SECONDS):
        log.error("JupyterHub did not end in %.0f s and was killed (log: %s)", END_SECONDS, hub.log)
    (cache / "run" / "hub.pid").unlink(missing_ok=True)
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline and (
        _listens("127.0.0.1", plan.service_port) or _listens("127.0.0.1", plan.proxy_api_port)
    ):
        time.sleep(_PAUSE)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex((host, port)) == 0


def _wait_until_ready(hub: Child, plan: ServePlan) -> None:
    deadline = time.monotonic() + START_SECONDS
    missing = "nothing answers"
    with httpx.Client(base_url=plan.proxy_url, timeout=5, trust_env=False) as client:
        while True:
            _check(hub)
            # Until the service listens the proxy would log an error for every request.
            if _listens("127.0.0.1", plan.service_port):
                with suppress(httpx.TransportError):
                    answer = client.get("/health", headers={"Accept": "application/json"})
                    if answer.status_code == 200:
                        return
                    missing = f"/health answers {answer.status_code}: {answer.text[:300]}"
            elif reason := _why_no_service(hub):
                # The hub would start it again and again.
                raise CasabinderError(f"the launch service does not start: {reason} (log: {hub.log})")
            if time.monotonic() > deadline:
                raise CasabinderError(
                    f"the facility was not ready in {START_SECONDS:.0f} s: {missing} (log: {hub.log})"
                )
            time.sleep(_PAUSE)


def _why_no_service(hub: Child) -> str:
    """Return the sentence with which the launch service ended; its lines in the hub's log are JSON."""
    for line in hub.said():
        if line.startswith('{"') and '"level": "error"' in line:
            with suppress(ValueError):
                return str(json.loads(line)["message"])
    return ""


def _watch(parts: list[Child]) -> None:
    """Return never; raise when a part ends by itself."""
    while True:
        for part in parts:
            _check(part)
        time.sleep(0.2)


def _check(part: Child) -> None:
    if not part.running:
        # The proxy says only that it was ended.
        said = [line for line in part.said() if "[ConfigProxy]" not in line] or ["it says nothing"]
        status = part.process.returncode
        raise CasabinderError(
            f"{part.name} ended by itself (status {status}), so the facility ends: {said[-1]} (log: {part.log})"
        )
