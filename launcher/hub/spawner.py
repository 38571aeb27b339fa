"""What all spawners here have in common: they start what the launch service has signed, and nothing else.

Whoever holds the hub's token may ask the hub to start a server with any options. The only option that is looked at is
the signed request (:mod:`launcher.hub.vouching`); the image, limits, environment and labels all come from it. A request
starts one server once: it is not kept in the hub's database, and its id is remembered for as long as it is good.

In a temporary server of the ``anonymous`` mode runs the plain Jupyter server of the image, which has a token of its own
as a file and nothing of the hub's. In the ``login`` mode ``jupyterhub-singleuser`` asks the hub who may come in, for
which JupyterHub gives it a token in its environment.
"""

from __future__ import annotations

import asyncio
import html
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from jupyterhub.spawner import SpawnException
from sqlalchemy.orm import object_session
from traitlets import Bool, Dict, Enum, HasTraits, List, Unicode, default

from launcher.container import LABEL, PLAIN_SERVER, PORT, LaunchOptions, commit_url, own_environment, pool
from launcher.hub.pool_access import PoolMixin
from launcher.hub.vouching import GOOD_FOR, OPTION, NotVouchedError, Voucher
from launcher.security.keys import Keys
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from launcher.container import PoolDocument
    from launcher.hub.vouching import LaunchRequest

LAUNCH = f"{LABEL}.launch"
HUB = f"{LABEL}.hub"
DIGEST = f"{LABEL}.digest"
WORKERS = f"{LABEL}.workers"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST_WORDS = 300


class StartError(SpawnException):
    """Why a server did not start, in one sentence for its user.

    A sentence as HTML goes with it when the cause is known (``final``): to the launch service that means that trying
    again would not help.
    """

    def __init__(self, message: str, reason: str = "start", *, final: bool = True) -> None:
        super().__init__(message, reason=reason)
        self.jupyterhub_message = message
        if final:
            self.jupyterhub_html_message = html.escape(message)


class VouchedMixin(PoolMixin, HasTraits):
    """Comes before a spawner class; ``start`` of that class begins with :meth:`vouched`."""

    secret_file = Unicode(config=True, help="The launch service's secret.")
    mode = Enum(["anonymous", "login"], "anonymous", config=True, help="How people come in.")
    data = Dict(config=True, help="What data are read with: entries of CASABINDER_POOL.")
    cors_origins = List(Unicode(), config=True, help="Origins whose pages may use temporary servers; * is every one.")
    keep_stopped = Bool(False, config=True, help="Keep the files of a stopped server until it is removed.")

    user: Any  # these are of JupyterHub's Spawner, which a mixin can't be derived from
    name: str
    server: Any
    orm_spawner: Any
    user_options: dict[str, Any]

    _voucher: ClassVar[Voucher | None] = None
    _used: ClassVar[dict[str, float]] = {}
    _request: LaunchRequest | None = None
    _scheduler_port = 0  # of this machine, published for the server's scheduler

    @default("apply_user_options")
    def _apply_nothing(self) -> Callable[[Any, Any], None]:
        return lambda _spawner, _options: None

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._told: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    @property
    def voucher(self) -> Voucher:
        """What checks requests."""
        if VouchedMixin._voucher is None:
            VouchedMixin._voucher = Voucher(Keys.load(Path(self.secret_file)))
        return VouchedMixin._voucher

    def vouched(self) -> LaunchRequest:
        """Return the request that this start is for; raise :class:`StartError` unless it is signed, and new."""
        options, self.user_options = dict(self.user_options), {}
        self.orm_spawner.user_options = {}
        session = object_session(self.orm_spawner)
        if session is not None:
            session.commit()
        self._told.clear()
        try:
            request = self.voucher.verify(options.get(OPTION), self.user.name, self.name)
            if set(options) != {OPTION}:
                raise NotVouchedError("a server's image and limits are decided by the launch service alone")
            if request.mode != self.mode:
                raise NotVouchedError(f"the request to start this server is not for the mode {self.mode}")
            _use_once(self._used, request.id, time.time())
            self.begin(request)
            self.workers_pool(request)
        except CasabinderError as error:
            raise StartError(str(error), "refused") from error
        return request

    def begin(self, request: LaunchRequest) -> None:
        """Take a request up, and leave behind what was found for the server that was started before."""
        self._request = request
        self._scheduler_port = 0
        self._pool_of_image = None

    def workers_pool(self, request: LaunchRequest) -> PoolDocument | dict[str, str | int]:
        """Return the Dask workers of a request."""
        document = self.pool_document(request, self.server_label, self._scheduler_port)
        if document is not None:
            return document
        options = LaunchOptions(
            request.workers, request.cpus, f"{request.memory // 2**20}M", maximum=request.most_workers
        )
        return pool(options, request.memory)

    def get_env(self) -> dict[str, str]:
        """Return the server's environment: what the request says, and in the login mode JupyterHub's own."""
        if self._request is None:
            return dict(super().get_env())  # type: ignore[misc]
        own = request_environment(self._request, {**self.workers_pool(self._request), **self.data})
        if self.mode == "anonymous":
            return own
        own.pop("JUPYTER_TOKEN_FILE")
        return {**super().get_env(), **own}  # type: ignore[misc]

    @property
    def server_label(self) -> str:
        """The name by which the site's proxy knows the server's container."""
        return ""

    def words_on_workers(self, request: LaunchRequest) -> str:
        """Return the number of workers and where they run, as a part of a sentence."""
        if request.workers == 0:
            return "without Dask workers"
        batch = self.batch()
        where = f" in the pool {batch.site.collector} as {batch.user}" if batch else ""
        return f"with {request.workers} Dask workers{where}"

    def command(self) -> list[str]:
        """Return the command that the image's entry point starts."""
        if self.mode == "login":
            return ["jupyterhub-singleuser"]
        return plain_server(self.server.base_url, self.cors_origins)

    def token(self, request: LaunchRequest) -> str:
        """Return the token that lets into the server; none where the hub lets people in."""
        return self.voucher.token(request.id) if self.mode == "anonymous" else ""

    def say(self, message: str, progress: int) -> None:
        """Tell everybody who watches the server start; ``progress`` is of 100."""
        self._told.append({"progress": progress, "message": message})
        self._news.set()
        self._news = asyncio.Event()

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what was told; the hub ends it when the server has started."""
        seen = 0
        while True:
            news = self._news
            while seen < len(self._told):
                yield self._told[seen]
                seen += 1
            await news.wait()


def request_environment(request: LaunchRequest, workers: Mapping[str, object]) -> dict[str, str]:
    """Return what DESIGN.md promises a notebook; the request's own variables never replace casabinder's."""
    return {
        "BINDER_REF_URL": commit_url(request.repo, request.commit),
        "BINDER_REPO_URL": request.repo,
        **request.environment,
        **own_environment(request.env_id, request.tag, request.digest, workers),
    }


def request_labels(request: LaunchRequest, hub: str) -> dict[str, str]:
    """Return the labels of a server's container. None of them is what `casabinder ps` and `stop` look for."""
    return {
        LAUNCH: request.id,
        HUB: hub,
        f"{LABEL}.user": request.user,
        f"{LABEL}.server": request.server,
        f"{LABEL}.env-id": request.env_id,
        f"{LABEL}.image-id": request.image_id,
        DIGEST: request.digest,
        f"{LABEL}.repo": request.repo,
        f"{LABEL}.ref": request.ref,
        f"{LABEL}.commit": request.commit,
        WORKERS: str(request.workers),
    }


def plain_server(base_url: str, origins: Sequence[str]) -> list[str]:
    """Return the command of a temporary server below ``base_url``, open to pages of ``origins``."""
    arguments = ["--ip=0.0.0.0", f"--port={PORT}", "--no-browser", f"--ServerApp.base_url={base_url}"]
    arguments += ["--ServerApp.trust_xheaders=True", "--ServerApp.default_url=/lab"]
    if "*" in origins:
        arguments.append("--ServerApp.allow_origin=*")
    elif origins:
        pattern = "|".join(re.escape(origin) for origin in origins)
        arguments.append(f"--ServerApp.allow_origin_pat=^(?:{pattern})$")
    return ["/bin/sh", "-c", PLAIN_SERVER, "notebook-server", *arguments]


def last_words(log: str) -> str:
    """Return the end of a server's log as part of a sentence."""
    lines = [_UNPRINTABLE.sub(" ", line).strip() for line in log.splitlines()]
    words = " | ".join(line for line in lines if line)
    return f"…{words[-_LONGEST_WORDS:]}" if len(words) > _LONGEST_WORDS else words or "none"


def _use_once(used: dict[str, float], request_id: str, now: float) -> None:
    for old in [known for known, until in used.items() if until < now]:
        del used[old]
    if request_id in used:
        raise NotVouchedError("the request to start this server was used before: launch it again")
    used[request_id] = now + GOOD_FOR
