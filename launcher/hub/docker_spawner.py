"""Starts vouched images as containers of this machine's Docker Engine.

::

    request -> image pulled by digest -> container made -> token put into its volume -> started -> it answers

Where its workers are jobs of a pool, a port of this machine is published for its scheduler, and a token of its user for
that pool is put beside its own.

A temporary server's container goes, with its volumes, when it stops or ends. That of somebody who logged in stays with
the files in it until the server is removed; starting it again takes it unless it is of another image,
or has other workers or GPUs.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import docker
import httpx
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest, LogConfig, Mount
from dockerspawner import DockerSpawner
from traitlets import Unicode

from builder.container.engine import explain_gpus, explain_pull
from launcher.container import (
    LABEL,
    PORT,
    PROCESSES,
    PUBLISHED,
    SCHEDULER_PORT,
    SECRETS,
    STOP_SECONDS,
    USER,
    secrets_archive,
    words_on_gpus,
)
from launcher.hub.pool_access import HTCONDOR
from launcher.hub.spawner import DIGEST, WORKERS, StartError, VouchedMixin, last_words, request_labels
from launcher.pools.ports import candidates, exhausted, free_here, numeric, refused, taken
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from launcher.hub.vouching import LaunchRequest

POOL = f"{LABEL}.pool"  # what kind of pool a server's workers are in, if they are not local
_CLIENT_SECONDS = 60
_LAST_LINES = 8
_PAUSE = 0.1
_WORTH_TELLING = 2_000_000  # bytes; less is here at once
_STEP = 10  # percent of a pull between two messages


class VouchedDockerSpawner(VouchedMixin, DockerSpawner):
    """DockerSpawner for requests of the launch service."""

    owner = Unicode(config=True, help="What tells this hub's containers from others' on the machine.")

    @property
    def will_resume(self) -> bool:
        """Whether a stopped server's container stays, so that the hub must keep the token that is in it."""
        return bool(self.keep_stopped)

    async def start(self) -> tuple[str, int]:
        """Start the server of a vouched request and return its address once it answers."""
        request = self.vouched()
        made = False
        try:
            request = await self._within_machine(request)
            container = await self._inspect()
            if container is not None and not self._same(container, request):
                await self._remove()
                container = None
            if container is None:
                await self._pull(request.image)
                made = True
                await self._make_and_start(request)
            else:
                self.say("starting the server again, with the files it had", 60)
                self._take_token(container)
                await self._start_again(container)
            return await self._when_it_answers()
        except BaseException as error:
            if made:
                await asyncio.shield(self._remove())
            if isinstance(error, DockerException | httpx.HTTPError | OSError):
                self.log.exception("%s did not start", request.id)
                if sentence := explain_gpus(_detail(error)):
                    raise StartError(sentence) from error
                known = isinstance(error, APIError) and error.is_client_error()
                raise StartError(f"the container engine failed: {_detail(error)}", final=known) from error
            if isinstance(error, CasabinderError):
                raise StartError(str(error)) from error
            raise

    async def poll(self) -> str | int | None:
        """Return nothing while the server runs, else why it ended; a temporary one's container is then removed."""
        container = await self._inspect()
        if container is None:
            return 0
        if container["State"]["Running"]:
            if _in_a_pool(container) and self.pool_token_is_due:
                await self._renew_pool_token()
            return None
        cause = await self._cause(container["State"])
        if not self.keep_stopped:
            await self._remove()
        return cause

    async def stop(self, now: bool = False) -> None:
        """Stop the server; ``now`` gives it no time to end."""
        with contextlib.suppress(NotFound):
            await self._apart("stop", self._name, timeout=1 if now else STOP_SECONDS)
        if not self.keep_stopped:
            await self._remove()

    async def delete_forever(self) -> None:
        """Remove what a stopped server kept; JupyterHub calls it when the server or its user is deleted."""
        await self._remove()

    @property
    def _name(self) -> str:
        return str(self.object_name)

    async def _inspect(self) -> dict[str, Any] | None:
        """Return the server's container; an engine that does not answer is no proof that there is none."""
        try:
            container: dict[str, Any] = await self.docker("inspect_container", self._name)
        except NotFound:
            self.object_id = ""
            return None
        self.object_id = container["Id"]
        return container

    async def _within_machine(self, request: LaunchRequest) -> LaunchRequest:
        """Return the request with limits that the machine has: the engine refuses others."""
        machine = await self.docker("info")
        cpus, memory = float(machine["NCPU"]), int(machine["MemTotal"])
        if request.cpus > cpus:
            self.say(f"this machine has {cpus:g} processors: the server gets those instead of {request.cpus:g}", 0)
        self._request = replace(request, cpus=min(request.cpus, cpus), memory=min(request.memory, memory))
        self.mem_limit, self.cpu_limit = self._request.memory, self._request.cpus
        return self._request

    def _same(self, container: dict[str, Any], request: LaunchRequest) -> bool:
        """Whether a kept container can be taken for a request: the names of its repository and ref may be others, and
        so may its processors and memory, which differ only if the machine has changed since. One that never ran may
        have been left half made, without its secrets."""
        labels = container["Config"]["Labels"]
        gpus = sum(devices["Count"] for devices in container["HostConfig"]["DeviceRequests"] or ())
        found = labels.get(DIGEST), labels.get(WORKERS), gpus
        ran = container["State"]["Status"] != "created"
        return self.keep_stopped and ran and found == (request.digest, str(request.workers), request.gpus)

    async def _pull(self, image: str) -> None:
        """Pull an image by digest unless the engine has it, and tell how it goes."""
        try:
            await self.docker("inspect_image", image)
        except ImageNotFound:
            pass
        else:
            return
        self.say("fetching the image", 1)
        loop = asyncio.get_running_loop()

        def tell(message: str, progress: int) -> None:
            loop.call_soon_threadsafe(self.say, message, progress)

        await asyncio.to_thread(self._pull_in_thread, image, tell)
        self.say("the image is here", 55)

    def _pull_in_thread(self, image: str, tell: Any) -> None:
        sizes: dict[str, tuple[int, int]] = {}
        told = 0
        try:
            with self._own_client() as client:
                for line in client.pull(image, stream=True, decode=True):
                    if "error" in line:
                        raise StartError(explain_pull(str(line["error"]), image), "image")
                    detail = line.get("progressDetail") or {}
                    if line.get("status") == "Downloading" and detail.get("total"):
                        sizes[line["id"]] = (detail["current"], detail["total"])
                    elif line.get("status") == "Download complete" and line["id"] in sizes:
                        sizes[line["id"]] = (sizes[line["id"]][1],) * 2
                    done, total = (sum(size[index] for size in sizes.values()) for index in (0, 1))
                    if total > _WORTH_TELLING and 100 * done // total >= told + _STEP:
                        told = 100 * done // total
                        tell(f"fetching the image: {done / 1e6:.0f} of {total / 1e6:.0f} MB", 1 + told // 2)
        except APIError as error:
            raise StartError(explain_pull(_detail(error), image), "image", final=error.is_client_error()) from error

    async def _make_and_start(self, request: LaunchRequest) -> None:
        """Make the container and start it; if its scheduler needs a port, at one that is free, says the engine."""
        batch = self.batch() if request.workers else None
        if batch is not None:
            await self._look_for_image(request)
        if batch is None or self.exposure != "host-port":
            await self._make(request)
            await self.docker("start", self.object_id)
            return
        ports, address = batch.site.port_range, numeric(batch.site.address)
        there = await self.docker("containers", all=True, filters={"label": PUBLISHED})
        for port in candidates(ports, [int(other["Labels"][PUBLISHED]) for other in there], self._name):
            if not free_here(address, port):
                continue
            self._scheduler_port = port
            await self._make(request)
            try:
                await self.docker("start", self.object_id)
            except APIError as error:
                if not refused(_detail(error), address, port):
                    raise
                await self._remove()
            else:
                return
        raise exhausted(ports, address)

    async def _look_for_image(self, request: LaunchRequest) -> None:
        """See where the pool's nodes have the image."""
        labels = (await self.docker("inspect_image", request.image))["Config"].get("Labels") or {}
        loop = asyncio.get_running_loop()

        def say(message: str) -> None:
            loop.call_soon_threadsafe(self.say, message, 58)

        await asyncio.to_thread(self.look_for_image, request, labels, say)

    async def _start_again(self, container: dict[str, Any]) -> None:
        """Start a container that was kept, with a new token for its pool."""
        if _in_a_pool(container) and (token := self.pool_token()):
            await self.docker("put_archive", self.object_id, "/run", secrets_archive("", token))
        try:
            await self.docker("start", self.object_id)
        except APIError as error:
            port = int(container["Config"]["Labels"].get(PUBLISHED, 0))
            if port and refused(_detail(error), self.site_pool.address, port):
                raise taken(port) from error
            raise

    async def _renew_pool_token(self) -> None:
        """Give the server that runs a new token; the one that it has is good for as long again, so the next poll may
        try again."""
        try:
            await self._apart("put_archive", self._name, "/run", secrets_archive("", self.pool_token()))
        except (CasabinderError, DockerException, OSError):
            self.log.exception("the token of %s for the pool could not be renewed", self._name)
            self._renewal = 0.0

    async def _make(self, request: LaunchRequest) -> None:
        """Make the container and put its secrets into it; nothing runs yet."""
        pool = self.batch() if request.workers else None
        published: dict[int, tuple[str, int]] = {}
        labels = request_labels(request, self.owner)
        if pool is not None:
            labels[POOL] = HTCONDOR
        if self._scheduler_port:
            published[SCHEDULER_PORT] = (numeric(self.site_pool.address), self._scheduler_port)
            labels[PUBLISHED] = str(self._scheduler_port)
        workers = self.words_on_workers(request)
        gigabytes = request.memory / 2**30
        limits = f"{request.cpus:g} processors, {gigabytes:.1f} GB of memory{words_on_gpus(request.gpus)}"
        self.say(f"starting the server {workers}, {limits}", 60)
        # The limits are of Docker's own units: a share of a processor is 10^-9 of it.
        host = self.client.create_host_config(
            binds=self.volume_binds,
            mounts=[Mount(target=SECRETS, source=None, type="volume"), *self.mount_binds],
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            pids_limit=PROCESSES,
            nano_cpus=round(request.cpus * 1e9),
            mem_limit=request.memory,
            memswap_limit=request.memory,
            port_bindings={PORT: (self.host_ip,), **published},
            network_mode=self.network_name,
            log_config=LogConfig(type="local"),
            device_requests=[DeviceRequest(count=request.gpus, capabilities=[["gpu"]])] if request.gpus else [],
        )
        try:
            made = await self.docker(
                "create_container",
                image=request.image,
                name=self._name,
                command=self.command(),
                user=f"{USER}:{USER}",
                environment=self.get_env(),
                labels=labels,
                volumes=[SECRETS, *self.volume_mount_points],
                ports=[PORT, *published],
                host_config=host,
            )
        except ImageNotFound as error:
            raise StartError(f"the image {request.image} has gone from this machine", "image", final=False) from error
        self.object_id = made["Id"]
        tokens = self.token(request), self.pool_token() if pool is not None else ""
        await self.docker("put_archive", self.object_id, "/run", secrets_archive(*tokens))

    def _take_token(self, container: dict[str, Any]) -> None:
        """Go on with the hub's token that a kept container has in its environment."""
        for entry in container["Config"]["Env"]:
            name, _, value = entry.partition("=")
            if name == "JUPYTERHUB_API_TOKEN":
                self.api_token = value

    async def _when_it_answers(self) -> tuple[str, int]:
        """Return the server's address as soon as it answers; raise :class:`StartError` if it ends instead."""
        self.say("waiting for the notebook server", 75)
        address: tuple[str, int] | None = None
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
            while True:
                container = await self._inspect()
                if container is None or not container["State"]["Running"]:
                    state = container["State"] if container else {}
                    raise StartError(f"the notebook server did not start: {await self._cause(state)}", "ended")
                address = address or await self._address()
                if address is None:
                    continue
                try:
                    url = f"http://{address[0]}:{address[1]}{self.server.base_url}api"
                    if (await client.get(url)).status_code < 500:
                        return address
                except httpx.TransportError:
                    pass
                await asyncio.sleep(_PAUSE)

    async def _address(self) -> tuple[str, int] | None:
        """Return the address of a server that ran a moment ago; nothing if it does not any more."""
        try:
            ip, port = await self.get_ip_and_port()
        except (NotFound, RuntimeError):
            container = await self._inspect()
            if container is not None and container["State"]["Running"]:
                raise
            return None
        return ip, int(port)

    async def _cause(self, state: dict[str, Any]) -> str:
        """Return why a container ended."""
        if not state:
            return "its container was removed by somebody else"
        if state.get("OOMKilled"):
            return "it ran out of memory: launch it with more memory, or fewer Dask workers"
        if state.get("Error"):
            return f"its container can't be started: {last_words(state['Error'])}"
        log = await self.docker("logs", self._name, tail=_LAST_LINES)
        words = last_words(log.decode("utf-8", "replace"))
        return f"it ended with status {state.get('ExitCode')}. Its last words: {words}"

    async def _remove(self) -> None:
        """Remove the container with its volumes; it need not be there."""
        try:
            await self._apart("remove_container", self._name, v=True, force=True)
        except NotFound:
            pass
        except APIError as error:
            if error.status_code != 409:  # somebody removes it already
                raise
        self.object_id = ""

    def _own_client(self) -> Any:
        """Return a client of its own for what takes long: the spawners share one, and one thread."""
        return docker.APIClient(**{"version": self.client.api_version, "timeout": _CLIENT_SECONDS, **self._settings()})

    def _settings(self) -> dict[str, Any]:
        return {**docker.utils.kwargs_from_env(), **self.client_kwargs}

    async def _apart(self, method: str, *arguments: Any, **named: Any) -> Any:
        def call() -> Any:
            with self._own_client() as client:
                return getattr(client, method)(*arguments, **named)

        return await asyncio.to_thread(call)


def _in_a_pool(container: dict[str, Any]) -> bool:
    return bool(container["Config"]["Labels"].get(POOL) == HTCONDOR)


def _detail(error: BaseException) -> str:
    said = error.explanation if isinstance(error, APIError) and error.explanation else str(error)
    return last_words(str(said))
