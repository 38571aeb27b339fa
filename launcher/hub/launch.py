"""What a launch is: one notebook server that somebody asked for, what is told while it starts, what was launched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import quote

LaunchState = Literal["starting", "ready", "failed", "stopped"]
ACTIVE: tuple[LaunchState, ...] = ("starting", "ready")


@dataclass(frozen=True)
class Origin:
    """BinderHub's words on where a launch came from; they become ``BINDER_*`` in the server."""

    launch_host: str = ""
    request: str = ""
    persistent_request: str = ""
    client_ip: str = ""
    ref_url: str = ""

    def environment(self) -> dict[str, str]:
        """Return the variables that BinderHub sets; those without a value are left out."""
        named = {
            "BINDER_LAUNCH_HOST": self.launch_host,
            "BINDER_REQUEST": self.request,
            "BINDER_PERSISTENT_REQUEST": self.persistent_request,
            "BINDER_CLIENT_IP": self.client_ip,
        }
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class Launch:
    """One server. ``user`` and ``server`` are the hub's names for it; ``created`` is seconds since 1970; ``message`` is
    the sentence of a failure, or what happens now. ``kept`` says that the server's files stay when it stops.
    """

    id: str
    owner: str
    user: str
    server: str
    state: LaunchState
    image: str
    digest: str
    env_id: str
    repo: str
    ref: str
    commit: str
    provider: str
    spec: str
    created: float
    message: str = ""
    kept: bool = False

    @property
    def resumable(self) -> bool:
        """Whether it stopped, or could not be resumed, and can be started again with its files."""
        return self.kept and self.state not in ACTIVE

    @property
    def path(self) -> str:
        """The server's path below the site's address; it starts and ends with ``/``."""
        name = f"{quote(self.server, safe='')}/" if self.server else ""
        return f"/user/{quote(self.user, safe='@~')}/{name}"


@dataclass(frozen=True)
class LaunchEvent:
    """One thing that happened to a launch; ``ready`` and ``failed`` are the last.

    ``progress`` is of 100. ``url`` is the server's base URL and ends in ``/``; ``token`` lets into a temporary server
    and is empty where people log in. ``status`` is the HTTP status that a failure amounts to.
    """

    kind: Literal["message", "ready", "failed"]
    message: str
    progress: int = 0
    url: str = ""
    token: str = ""
    status: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the event as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class ImageUse:
    """An image that was launched: how large it is, how often and when last (seconds since 1970), by how many owners."""

    repo: str
    ref: str
    commit: str
    provider: str
    spec: str
    digest: str
    bytes: int
    launches: int
    last_launched: float
    shared_by: int
