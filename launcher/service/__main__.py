"""The launch service as a process: ``python -m launcher.service``, started and ended by the hub.

It listens where the hub says (``JUPYTERHUB_SERVICE_URL``). A signal to end is met in good order: no new connections,
event streams are closed (their clients come back to whoever runs next, and resume), builders go on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from launcher.context import open_context
from launcher.service.app import make_app, make_server
from launcher.service.base import end_streams
from launcher.service.logs import configure
from launcher.service.services import open_services
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from launcher.service.services import Services

CLOSING = 3.0
"""Seconds for requests under way to end."""
THREADS = 32
"""How many questions to database, registry and disk may be out at once: they wait, so it is not cores that count."""

_log = logging.getLogger(__name__)


async def serve(services: Services, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    ending, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "service"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    app = make_app(services)
    server = make_server(app)
    await services.feed.start()
    services.runner.start()
    server.listen(port, host)
    _log.info("listening on %s:%d", host, port)
    preparing = asyncio.create_task(services.authentication.hub.prepare())
    prebuilding = asyncio.create_task(services.prebuilds.run())
    try:
        await ending.wait()
    finally:
        _log.info("ending")
        preparing.cancel()
        prebuilding.cancel()
        server.stop()
        with suppress(TimeoutError):
            await asyncio.wait_for(end_streams(app), CLOSING)
        with suppress(TimeoutError):
            await asyncio.wait_for(server.close_all_connections(), CLOSING)
        await asyncio.to_thread(services.runner.stop)
        await services.feed.stop()
        await services.launches.close()
        services.audit.close()


def main() -> int:
    """Run the service and return its exit status."""
    configure()
    address = urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", ""))
    try:
        if not address.hostname or not address.port:
            raise CasabinderError("JUPYTERHUB_SERVICE_URL is not set: the launch service is started by the hub")
        asyncio.run(serve(open_services(open_context()), address.hostname, address.port))
    except CasabinderError as error:
        _log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
