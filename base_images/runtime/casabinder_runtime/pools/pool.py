"""What a pool is, and what it is told about the session it works for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from casabinder_runtime.ports import LOOPBACK
from casabinder_runtime.scheduler_plugin import EnvironmentGuard

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import SpecCluster

    from casabinder_runtime.session_directory import WorkerGroup
    from casabinder_runtime.tls import TlsFiles


@dataclass(frozen=True)
class SessionContext:
    """The session, as its pool sees it; ``host`` is where workers reach the scheduler, unless ``contact`` says."""

    env_id: str
    identity_file: Path
    repository: Path
    tls: TlsFiles
    host: str
    port: int
    dashboard_port: int
    contact: str = ""
    label: str = ""  # of a separate cluster, at the end of its name and those of its workers

    @property
    def directory(self) -> Path:
        """The session's directory."""
        return self.tls.directory

    def scheduler_options(self) -> dict[str, Any]:
        """Return the arguments of ``distributed.Scheduler``: TLS only, guarded against other images."""
        return {
            "protocol": "tls://",
            "host": LOOPBACK if self.host == LOOPBACK else "",  # the notebook's own clients use loopback in any case
            "port": self.port,
            "contact_address": self.contact or f"tls://{self.host}:{self.port}",
            "security": self.tls.security("scheduler"),
            "dashboard": True,
            # Plain HTTP without a password: only ever on loopback, behind the notebook server's proxy.
            "dashboard_address": f"127.0.0.1:{self.dashboard_port}",
            "plugins": [EnvironmentGuard(self.env_id)],
        }


class Pool(Protocol):
    """A place where workers run."""

    @property
    def kind(self) -> str:
        """The name by which it is asked for."""

    @property
    def workers(self) -> int:
        """How many workers to start with."""

    @property
    def maximum(self) -> int | None:
        """How many workers the session may have, if there is a limit."""

    @property
    def address(self) -> str:
        """The address of this machine at which workers reach the scheduler."""

    @property
    def contact(self) -> str:
        """Where workers reach the port :data:`~casabinder_runtime.ports.SCHEDULER_PORT` of this notebook, as an address
        of Dask; nothing where the scheduler is reached directly."""

    def make_cluster(self, session: SessionContext) -> SpecCluster:
        """Return a cluster without workers, for the running event loop; awaiting it starts its scheduler."""

    def notes(self, cluster: SpecCluster) -> list[str]:
        """Return how those workers of ``cluster`` fare that do not run, in sentences such as "2 idle in the queue"."""

    def groups(self, cluster: SpecCluster) -> list[WorkerGroup]:
        """Return the same as values, for the page; workers that start are among them in every pool."""
