"""The HTCondor pool: each worker is a job of the batch system, in the notebook's own image."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from casabinder_runtime.errors import PoolError
from casabinder_runtime.left_behind import left_behind, remember_jobs
from casabinder_runtime.pools.schedd import Schedd, ScheddAddress
from casabinder_runtime.pools.submission import FORWARDED_PORT, PoolSite, WorkerShape
from casabinder_runtime.session_directory import secrets_directory
from casabinder_runtime.worker_logs import ARRIVING, logs_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from distributed import SpecCluster

    from casabinder_runtime.pools import PoolConfig
    from casabinder_runtime.pools.pool import SessionContext
    from casabinder_runtime.session_directory import WorkerGroup

TOKEN = "condor/token"  # noqa: S105  # below the secrets directory
PYTHON = "/srv/env/bin/python"  # of the analysis environment, in every image
DEATH_TIMEOUT = 60  # seconds after which a worker without a scheduler ends
_TEXTS = {
    "image": "",
    "collector": "",
    "schedd": "",
    "trust_domain": "",
    "universe": "docker",
    "network": "host",
    "address": "",
    "contact": "",
    "accounting_group": "",
    "requirements": "",
    "cuda_driver": "",
}
_CUDA = re.compile(r"\d{1,2}\.\d{1,2}")
_NEEDED = ("image", "collector", "schedd", "trust_domain", "address")


@dataclass(frozen=True)
class HTCondorPool:
    """A pool as the launch describes it; its nodes reach the session's scheduler at ``address``, or at ``contact``."""

    workers: int
    maximum: int | None
    address: str
    schedd: ScheddAddress
    site: PoolSite
    shape: WorkerShape
    contact: str = ""
    kind: str = "htcondor"

    @classmethod
    def from_config(cls, config: PoolConfig, environment: Mapping[str, str] = os.environ) -> HTCondorPool:
        """Read the options of this kind; the token is expected in the secrets directory.

        Raises:
            PoolError: an option is missing, unknown or not what it should be.
        """
        options = dict(config.options)
        texts = {name: _text(options, name, default) for name, default in _TEXTS.items()}
        missing = [name for name in _NEEDED if not texts[name]]
        if missing:
            raise PoolError(f"an HTCondor pool needs {', '.join(missing)}: the site's configuration does not say")
        if texts["universe"] not in ("docker", "container"):
            raise PoolError(f"universe of an HTCondor pool must be docker or container, not {texts['universe']!r}")
        if texts["contact"] and not _is_contact(texts["contact"]):
            raise PoolError(f"contact of an HTCondor pool must be tls://HOST:PORT, not {texts['contact']!r}")
        if texts["network"] not in ("host", "nat"):
            raise PoolError(f"network of an HTCondor pool must be host or nat, not {texts['network']!r}")
        if texts["cuda_driver"] and not _CUDA.fullmatch(texts["cuda_driver"]):
            raise PoolError(f"cuda_driver must be a version of CUDA such as 12.4, not {texts['cuda_driver']!r}")
        site = PoolSite(
            image=texts["image"],
            universe="docker" if texts["universe"] == "docker" else "container",
            network="nat" if texts["network"] == "nat" else "host",
            accounting_group=texts["accounting_group"],
            requirements=texts["requirements"],
            keep_claim_seconds=_number(options, "keep_claim_seconds", 600, least=0),
            directives=_table(options, "directives"),
            environment=config.environment,
        )
        shape = WorkerShape(
            cores=_number(options, "cores", 1, least=1),
            memory=_size(options, "memory", "2GiB"),
            disk=_size(options, "disk", "4GiB"),
            gpus=_number(options, "gpus", 0, least=0),
            cuda_driver=texts["cuda_driver"],
        )
        if options:
            raise PoolError(f"an HTCondor pool has no option {', '.join(sorted(options))}")
        schedd = ScheddAddress(
            collector=texts["collector"],
            name=texts["schedd"],
            trust_domain=texts["trust_domain"],
            token=secrets_directory(environment) / TOKEN,
            host=texts["address"],
        )
        return cls(config.workers, config.maximum, texts["address"], schedd, site, shape, texts["contact"])

    def make_cluster(self, session: SessionContext) -> SpecCluster:
        """Return a cluster whose workers are jobs that the session's user submits."""
        from casabinder_runtime.pools.htcondor_jobs import PoolCluster

        name = uuid4().hex[:12]
        remember_jobs(session.directory, name)
        logs = logs_directory(session.directory)
        return PoolCluster(
            schedd=Schedd(self.schedd, name, logs / ARRIVING),
            logs=logs,
            left_behind=[] if session.label else left_behind(session.directory),
            shape=self.shape,
            session=name,
            env_id=session.env_id,
            site=self.site,
            files=worker_files(session),
            security=session.tls.security("scheduler", "worker", "client"),
            scheduler_options=session.scheduler_options(),
            protocol="tls://",
            python=f"{PYTHON} -P",
            worker_command="casabinder_runtime.worker",
            worker_extra_args=["--forwarded-port", str(FORWARDED_PORT)] if self.site.network == "nat" else [],
            death_timeout=DEATH_TIMEOUT,
            local_directory="dask",
            silence_logs=False,
            asynchronous=True,
            name=f"casabinder-htcondor{session.label}",
        )

    def notes(self, cluster: SpecCluster) -> list[str]:
        """Return how the workers that do not run fare in the queue."""
        return list(cluster.watch.notes)

    def groups(self, cluster: SpecCluster) -> list[WorkerGroup]:
        """Return the same as values."""
        return list(cluster.watch.groups)


def worker_files(session: SessionContext) -> list[Path]:
    """Return the files that a worker needs: its TLS material, and nobody else's."""
    return [session.tls.ca, session.tls.certificate("worker"), session.tls.key("worker")]


def _is_contact(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme == "tls" and bool(parts.hostname) and bool(parts.port) and not parts.path
    except ValueError:
        return False


def _text(options: dict[str, Any], name: str, default: str) -> str:
    value = options.pop(name, default)
    if not isinstance(value, str) or "\n" in value:
        raise PoolError(f"{name} of an HTCondor pool must be one line of text, not {value!r}")
    return value


def _number(options: dict[str, Any], name: str, default: int, *, least: int) -> int:
    value = options.pop(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PoolError(f"{name} of an HTCondor pool must be a number of at least {least}, not {value!r}")
    return value


def _size(options: dict[str, Any], name: str, default: str) -> int:
    from dask.utils import parse_bytes

    value = options.pop(name, default)
    try:
        size = parse_bytes(value) if isinstance(value, str) else 0
    except ValueError:
        size = 0
    if size <= 0:
        raise PoolError(f'{name} of an HTCondor pool must be a size such as "2GiB", not {value!r}')
    return int(size)


def _table(options: dict[str, Any], name: str) -> dict[str, str]:
    value = options.pop(name, {})
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise PoolError(f"{name} of an HTCondor pool must be texts by name, not {value!r}")
    return value
