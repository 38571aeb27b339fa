"""The launch service's application in this process, on a port of its own: real rooms, no hub and no runner.

Whose a token is, :class:`NamedTokens` says instead of a hub: ``user-ada`` is Ada's.
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from tornado.netutil import bind_sockets

from launcher.context import open_context
from launcher.database import open_database
from launcher.hub.client import HubClient
from launcher.hub.launching import Launches
from launcher.jobs.desk import Desk
from launcher.jobs.feed import Feed
from launcher.jobs.process_executor import ProcessExecutor
from launcher.jobs.runner import Runner
from launcher.jobs.store import JobStore
from launcher.security.deliveries import Deliveries
from launcher.security.keys import Keys
from launcher.security.rates import Rates
from launcher.security.vault import Vault
from launcher.service.app import make_app, make_server
from launcher.service.audit import Audit
from launcher.service.authentication import Authentication
from launcher.service.hub_login import HubLogin, Known
from launcher.service.metrics import Metrics
from launcher.service.prebuilds import Prebuilds
from launcher.service.services import Services
from launcher.service.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pytest


class NamedTokens(HubLogin):
    """A hub whose tokens say whose they are; the code of a login is the token."""

    def __init__(self) -> None:
        """Ask nobody."""

    async def identify(self, token: str, session: str = "") -> Known | None:
        """Return the one in the token."""
        kind, _, name = token.partition("-")
        if kind == "user":
            return Known("user", name, admin=False)
        return Known("service", name, admin=False) if kind == "service" else None

    def challenge(self) -> tuple[str, str]:
        """Return a verifier and a challenge."""
        return "verifier", "challenge"

    def address(self, state: str, challenge: str) -> str:
        """Return the hub's page."""
        return f"/hub/authorize?state={state}&code_challenge={challenge}"

    async def token(self, code: str, verifier: str) -> str:
        """Return the token for a code."""
        assert verifier == "verifier"
        return code


@dataclass(frozen=True)
class RunningApp:
    """An application that answers at ``url`` (no ``/`` at its end); ``services`` may be used from any thread."""

    url: str
    services: Services

    def client(self, **options: Any) -> httpx.Client:
        """Return a browser without cookies, or a program."""
        return httpx.Client(base_url=self.url, timeout=20, trust_env=False, **options)


@contextmanager
def running_app(
    directory: Path, monkeypatch: pytest.MonkeyPatch, site: Mapping[str, Any] | None = None
) -> Iterator[RunningApp]:
    """Run the application with everything in ``directory``; ``site`` are sections of its ``site.yaml``."""
    cache = directory / "cache"
    cache.mkdir(parents=True)
    file = cache / "site.yaml"
    file.write_text(json.dumps({"registry": f"oci:{directory / 'registry'}", **(site or {})}), encoding="utf-8")
    monkeypatch.setenv("CASABINDER_CACHE", str(cache))
    monkeypatch.delenv("CASABINDER_SITE", raising=False)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    sockets = bind_sockets(0, "127.0.0.1")
    url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    services = _services(file, url)

    async def start() -> Any:
        server = make_server(make_app(services))
        server.add_sockets(sockets)
        await services.feed.start()
        return server

    async def stop(server: Any) -> None:
        server.stop()
        await server.close_all_connections()
        await services.feed.stop()
        await services.launches.close()

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    try:
        yield RunningApp(url, services)
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        services.audit.close()


def _services(file: Path, url: str) -> Services:
    context = open_context(file)
    site, cache = context.site, context.facility.cache
    keys = Keys(b"k" * 32)
    engine = open_database(site.service, cache)
    store, vault, metrics = JobStore(engine), Vault(engine, keys), Metrics()
    feed = Feed(store)
    desk = Desk(context, store, vault, site)
    runner = Runner(store, ProcessExecutor(cache, vault.reveal, 1000), site, nudged=feed.nudge)
    hub = HubClient(f"{url}/hub/api", "no token")
    return Services(
        context=context,
        site=site,
        keys=keys,
        store=store,
        desk=desk,
        feed=feed,
        runner=runner,
        prebuilds=Prebuilds(context, desk, lambda _: [], runner.wake),
        launches=Launches(context, engine, keys, hub, public_url=url, proxy_url=url),
        rates=Rates(engine),
        deliveries=Deliveries(engine),
        vault=vault,
        metrics=metrics,
        audit=Audit(cache / "service" / "audit.jsonl"),
        authentication=Authentication(site, Sessions(keys), NamedTokens()),
    )
