"""What `casabinder serve` has decided before JupyterHub starts: addresses, ports and the proxy's command, as a file.

JupyterHub's configuration and the launch service read it, so that both know the same facility. No secret is in it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from registry_sync.errors import CasabinderError
from registry_sync.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class ServePlan:
    """One facility. ``public_url`` is what browsers see, without a path and a ``/`` at its end; the proxy listens on
    ``listen`` and ``port``. ``hub_ip`` is where containers reach the hub: of loopback if they need not, else of the
    engine's bridge. ``proxy_command`` starts configurable-http-proxy."""

    public_url: str
    listen: str
    port: int
    proxy_api_port: int
    hub_ip: str
    hub_port: int
    service_port: int
    proxy_command: tuple[str, ...]

    @property
    def proxy_url(self) -> str:
        """The proxy as this machine reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(self.listen, self.listen)  # noqa: S104  # read, not bound
        return f"http://{host}:{self.port}"

    @property
    def service_url(self) -> str:
        """The launch service as the proxy reaches it."""
        return f"http://127.0.0.1:{self.service_port}"

    @property
    def hub_api_url(self) -> str:
        """The hub's API as this machine reaches it."""
        return f"http://{self.hub_ip}:{self.hub_port}/hub/api"

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ServePlan:
        """Read what :meth:`to_json` wrote; raise :class:`CasabinderError` if it is not that."""
        try:
            return cls(**{**document, "proxy_command": tuple(document["proxy_command"])})
        except (KeyError, TypeError) as error:
            raise CasabinderError("serve.json is not of this version: start `casabinder serve` again") from error

    def write(self, cache: Path) -> None:
        """Keep the plan where :meth:`read` finds it."""
        write_atomically(plan_file(cache), json.dumps(self.to_json(), indent=2).encode())

    @classmethod
    def read(cls, cache: Path) -> ServePlan:
        """Return the plan of the facility that runs with this cache."""
        file = plan_file(cache)
        try:
            document = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise CasabinderError(f"{file} can't be read: `casabinder serve` writes it ({error})") from error
        return cls.from_json(document)


def plan_file(cache: Path) -> Path:
    """Return where the plan is kept."""
    return cache / "service" / "serve.json"


def secret_file(cache: Path, stated: Path | None) -> Path:
    """Return where the service's secret is: where the site says, else below the cache."""
    return stated or cache / "service" / "secret"
