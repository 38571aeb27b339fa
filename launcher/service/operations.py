"""For those who run the service: ``/health`` and ``/metrics``."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client import CONTENT_TYPE_LATEST

from launcher.hub.plan import ServePlan
from launcher.service.base import BaseHandler
from launcher.service.health import Health
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.service.services import Services

_HEALTH = "health"


class HealthHandler(BaseHandler):
    """``/health``: 200 if a launch can succeed, 503 if not."""

    public = True
    quiet = True

    async def get(self) -> None:
        """Answer with the state of every dependency."""
        if _HEALTH not in self.settings:
            self.settings[_HEALTH] = health_of(self.services)
        report = await self.settings[_HEALTH].report()
        self.finish_json(report, 200 if report["ok"] else 503)


class MetricsHandler(BaseHandler):
    """``/metrics``, in Prometheus' text format."""

    public = True
    quiet = True

    async def get(self) -> None:
        """Answer with all metrics."""
        store = self.services.store
        waiting, running = await asyncio.to_thread(lambda: (store.waiting(), store.running()))
        text = self.services.metrics.exposition(
            queued=len(waiting),
            running=len(running),
            servers=await self.services.launches.running(),
            watchers=self.services.feed.watchers,
        )
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.set_header("Cache-Control", "no-store")
        self.finish(text)


def health_of(services: Services) -> Health:
    """Return the health of a service with its dependencies; names are BinderHub's where it has the same check."""
    registry = services.context.facility
    base = services.site.base

    async def ask_registry() -> Mapping[str, Any]:
        # Whether a manifest is there does not matter; that the registry says so does.
        await asyncio.to_thread(registry.store.head_manifest, f"{registry.prefix}/{base}", "health")
        return {}

    async def ask_hub() -> Mapping[str, Any]:
        await _answer(f"{os.environ.get('JUPYTERHUB_API_URL', '')}/health", "JupyterHub")
        return {}

    async def ask_database() -> Mapping[str, Any]:
        await asyncio.to_thread(services.store.find, limit=1)
        return {}

    async def ask_proxy() -> Mapping[str, Any]:
        plan = await asyncio.to_thread(ServePlan.read, registry.cache)
        await _answer(f"{plan.proxy_url}/_chp_healthz", "the proxy")
        return {}

    async def ask_quota() -> Mapping[str, Any]:
        builds = len(await asyncio.to_thread(services.store.running))
        servers = await services.launches.running()
        quota = services.site.service.launches.total or None
        numbers = {"build_pods": builds, "user_pods": servers, "total_pods": builds + servers, "quota": quota}
        return {**numbers, "ok": quota is None or servers < quota}

    checks = {
        "Docker registry": ask_registry,
        "JupyterHub API": ask_hub,
        "Database": ask_database,
        "Proxy": ask_proxy,
        "Pod quota": ask_quota,
    }
    return Health(checks, optional=frozenset(("Proxy", "Pod quota")))


async def _answer(url: str, what: str) -> None:
    """Ask a service of this facility; raise :class:`CasabinderError` if it does not answer with success."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=3.0) as client:
            answer = await client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CasabinderError(f"{what} does not answer") from error
    if not answer.is_success:
        raise CasabinderError(f"{what} answers with status {answer.status_code}")


ROUTES: list[tuple[str, type[BaseHandler]]] = [
    (r"/health", HealthHandler),
    (r"/metrics", MetricsHandler),
]
