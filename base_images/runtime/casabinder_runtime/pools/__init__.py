"""Pools: where the workers of a session run.

A pool is asked for by ``CASABINDER_POOL``, a JSON object::

    {"kind": "local", "workers": 2, "maximum": 4, "threads": 1, "memory": "1.5GB"}

    {"kind": "htcondor", "workers": 2, "maximum": 20, "cores": 1, "memory": "2GiB", "disk": "4GiB",
     "image": "registry.example.org/casabinder/x:0123456789abcdef", "universe": "docker", "network": "host",
     "collector": "cm.example.org:9618", "schedd": "facility@example.org", "trust_domain": "example.org",
     "address": "192.0.2.10", "contact": "tls://192.0.2.10:30417", "accounting_group": "", "requirements": "",
     "keep_claim_seconds": 600, "directives": {}, "gpus": 0, "cuda_driver": ""}

``contact`` is where workers reach the scheduler, which then listens at its usual port here; left out, it is
``address`` with the port that it has found.

``kind``, ``workers`` (at the start), ``maximum`` (the session's limit; left out: none) and ``idle_seconds`` (until
workers without work are given back; 0: never) mean the same in every pool; the rest belongs to the kind. Left out,
``idle_seconds`` is 1800 in a batch system, where others wait for the slots, and 0 for local workers, who live on what
the notebook has anyway. In any of them there may be::

    "environment": {"XCACHE_HOST": "xcache.example.org"}, "data": {"token_command": ["oidc-token", "example"]}

plain settings, never secrets, for the notebook's kernels and the workers; and the command that renews the token for
reading data (``casabinder_runtime.token_command``).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from casabinder_runtime.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from casabinder_runtime.pools.pool import Pool

POOL_VARIABLE = "CASABINDER_POOL"
IDLE_SECONDS = {"htcondor": 1800}  # long enough to look at plots and to write the next cell
_COMMON = ("kind", "workers", "maximum", "idle_seconds", "environment", "data")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VALUE = re.compile(r"[^\x00-\x1f\x7f$]*")  # HTCondor expands what follows a dollar sign


@dataclass(frozen=True)
class PoolConfig:
    """What was asked for; ``options`` are for the kind of pool to read."""

    kind: str
    workers: int = 0
    maximum: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    token_command: tuple[str, ...] = ()
    idle_seconds: int = 0

    @classmethod
    def parse(cls, text: str) -> PoolConfig:
        """Read the JSON of ``CASABINDER_POOL``; empty means a local pool of no workers.

        Raises:
            PoolError: it is not such an object.
        """
        if not text.strip():
            return cls("local")
        try:
            document = json.loads(text)
        except ValueError as error:
            raise PoolError(f"{POOL_VARIABLE} is not JSON: {error}") from error
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            raise PoolError(f'{POOL_VARIABLE} must be a JSON object with a "kind", such as {{"kind": "local"}}')
        options = {key: value for key, value in document.items() if key not in _COMMON}
        maximum = None if document.get("maximum") is None else _count(document, "maximum")
        workers = _count(document, "workers")
        if maximum is not None and workers > maximum:
            raise PoolError(f"{POOL_VARIABLE} asks for {workers} workers, its maximum is {maximum}")
        return cls(
            document["kind"],
            workers,
            maximum,
            options,
            environment=_environment(document),
            token_command=_token_command(document),
            idle_seconds=_count(document, "idle_seconds", IDLE_SECONDS.get(document["kind"], 0), "seconds"),
        )


def make_pool(config: PoolConfig) -> Pool:
    """Return the pool that was asked for.

    Raises:
        PoolError: there is no such kind of pool, or its options are wrong.
    """
    if config.kind == "local":
        from casabinder_runtime.pools.local import LocalPool

        return LocalPool.from_config(config)
    if config.kind == "htcondor":
        from casabinder_runtime.pools.htcondor import HTCondorPool

        return HTCondorPool.from_config(config)
    raise PoolError(f"{POOL_VARIABLE}: there is no pool of the kind {config.kind!r}: ask for 'local' or 'htcondor'")


def check_workers(n: int, maximum: int | None) -> None:
    """See that a session may have ``n`` workers.

    Raises:
        PoolError: it may not.
    """
    if n < 0:
        raise PoolError(f"a cluster cannot have {n} workers")
    if maximum is not None and n > maximum:
        raise PoolError(f"this session may have at most {maximum} workers, {n} were asked for")


def _count(document: dict[str, Any], key: str, default: int = 0, of: str = "workers") -> int:
    value = document.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise PoolError(f"{POOL_VARIABLE}: {key} must be a number of {of}, not {value!r}")
    return value


def _environment(document: dict[str, Any]) -> dict[str, str]:
    environment = document.get("environment", {})
    if not isinstance(environment, dict):
        raise PoolError(f"{POOL_VARIABLE}: environment must be texts by name, not {environment!r}")
    for name, value in environment.items():
        if not _NAME.fullmatch(name) or not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise PoolError(f"{POOL_VARIABLE}: {name!r} of environment must be the name of one line without a `$`")
    return environment


def _token_command(document: dict[str, Any]) -> tuple[str, ...]:
    data = document.get("data", {})
    if not isinstance(data, dict) or set(data) - {"token_command"}:
        raise PoolError(f"{POOL_VARIABLE}: data may have token_command, and nothing else")
    command = data.get("token_command", [])
    if not isinstance(command, list) or not all(isinstance(word, str) and word for word in command):
        raise PoolError(f"{POOL_VARIABLE}: token_command of data must be a program and its arguments, as a list")
    return tuple(command)
