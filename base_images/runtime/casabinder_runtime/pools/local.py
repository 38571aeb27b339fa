"""The local pool: workers are processes beside the notebook, in the same container."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from casabinder_runtime.errors import PoolError
from casabinder_runtime.ports import LOOPBACK
from casabinder_runtime.session_directory import WorkerGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import SpecCluster

    from casabinder_runtime.pools import PoolConfig
    from casabinder_runtime.pools.pool import SessionContext


@dataclass(frozen=True)
class LocalPool:
    """``threads`` and ``memory`` are per worker; ``memory`` is a size such as "1.5GB", or "auto" for a fair share."""

    workers: int = 0
    maximum: int | None = None
    threads: int = 1
    memory: str = "auto"
    environment: Mapping[str, str] = field(default_factory=dict)
    kind: str = "local"
    address: str = LOOPBACK
    contact: str = ""

    @classmethod
    def from_config(cls, config: PoolConfig) -> LocalPool:
        """Read the options of this kind.

        Raises:
            PoolError: an option is unknown, or is not a number of threads or a size.
        """
        unknown = set(config.options) - {"threads", "memory"}
        if unknown:
            raise PoolError(f"a local pool has no option {', '.join(sorted(unknown))}: it has threads and memory")
        threads = config.options.get("threads", 1)
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise PoolError(f"threads of a local pool must be a number of at least 1, not {threads!r}")
        memory = config.options.get("memory", "auto")
        if memory != "auto":
            _check_size(memory)
        return cls(config.workers, config.maximum, threads, memory, config.environment)

    def make_cluster(self, session: SessionContext) -> SpecCluster:
        """Return a cluster whose workers are child processes, each watched by a nanny."""
        from distributed import Nanny, Scheduler

        from casabinder_runtime.pools.local_processes import LocalProcesses

        return LocalProcesses(
            scheduler={"cls": Scheduler, "options": session.scheduler_options()},
            worker={"cls": Nanny, "options": self.worker_options(session)},
            security=session.tls.security("scheduler", "worker", "client"),
            asynchronous=True,
            name=f"casabinder-local{session.label}",
        )

    def notes(self, cluster: SpecCluster) -> list[str]:  # noqa: ARG002  # other pools look at theirs
        """Return nothing: processes just start."""
        return []

    def groups(self, cluster: SpecCluster) -> list[WorkerGroup]:
        """Return how many processes have not joined yet."""
        starting = len(cluster.plan) - len(cluster.scheduler.workers)
        return [WorkerGroup(starting, "starting")] if starting > 0 else []

    def worker_options(self, session: SessionContext) -> dict[str, Any]:
        """Return the arguments of ``distributed.Nanny``: guarded, and with the repository at hand."""
        return {
            "nthreads": self.threads,
            "memory_limit": self.memory,
            # Bokeh takes as long to import as all else a worker needs; no link leads to the pages of a single worker.
            "dashboard": False,
            "security": session.tls.security("worker"),
            "preload": ["casabinder_runtime.guard", "casabinder_runtime.workplace"],
            "preload_argv": ["--identity", str(session.identity_file)],
            "env": {**self.environment, "CASABINDER_ENV_ID": session.env_id, "REPO_DIR": str(session.repository)},
        }


def _check_size(memory: object) -> None:
    from dask.utils import parse_bytes

    try:
        size = parse_bytes(memory) if isinstance(memory, str) else 0
    except ValueError:
        size = 0
    if size <= 0:
        raise PoolError(f'memory of a local pool must be a size such as "1.5GB", not {memory!r}')
