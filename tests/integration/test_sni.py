"""Sessions behind one port: a real HAProxy, configured as our guide says, tells them apart by the names that Dask asks
for. A name server of the test stands for the cluster's; to Python the names are told, as the machine's knows none."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from casabinder_runtime.cluster import client_security
from casabinder_runtime.pools.local import LocalPool
from casabinder_runtime.pools.pool import SessionContext
from casabinder_runtime.ports import first_free_port
from casabinder_runtime.session_directory import SessionRecord
from casabinder_runtime.tls import create_session_certificates
from distributed import Client, Scheduler, Worker
from distributed.comm import CommClosedError

from launcher.pools.exposure import contact
from tests.testbed.haproxy import haproxy_is_installed, running_haproxy, running_name_server
from tests.testbed.identity import ENV_ID, write_identity
from tests.unit.launcher.records import htcondor_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not haproxy_is_installed(), reason="needs haproxy: run scripts/bootstrap --dev"),
]

DOMAIN = "dask.example.org"
CLUSTER = "jupyter.svc.cluster.local"
PODS = {"one": "127.0.0.1", "other": "127.0.0.2"}
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "connect-a-pool.md"


def proxy_configuration(proxy: int, scheduler: int, names: int) -> str:
    """Return the guide's configuration with other ports and another name server."""
    (text,) = re.findall(r"```haproxy\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    replaced = {
        "bind :8786": f"bind 127.0.0.1:{proxy}",
        "int(8786)": f"int({scheduler})",
        "parse-resolv-conf": f"nameserver cluster 127.0.0.1:{names}",
    }
    for old, new in replaced.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return str(text)


def session(directory: Path, server: str, port: int, proxy: int) -> SessionContext:
    """Return a session of a server whose scheduler has ``port``, and is reached by its name at the port ``proxy``."""
    pool = htcondor_pool(exposure="sni", domain=f"{DOMAIN}:{proxy}")
    return SessionContext(
        env_id=ENV_ID,
        identity_file=write_identity(directory / f"{server}.json"),
        repository=directory,
        tls=create_session_certificates(directory / server),
        host=PODS[server],
        port=port,
        dashboard_port=0,
        contact=contact(pool, "sni", name=server, port=0),
    )


@asynccontextmanager
async def scheduler_of(context: SessionContext) -> AsyncIterator[Scheduler]:
    options = {**context.scheduler_options(), "dashboard": False, "host": context.host}
    async with Scheduler(**options) as scheduler:
        yield scheduler


@asynccontextmanager
async def worker_of(context: SessionContext, address: str) -> AsyncIterator[Worker]:
    options = {name: value for name, value in LocalPool().worker_options(context).items() if name != "env"}
    async with Worker(address, host="127.0.0.1", **options) as worker:
        yield worker


async def client_of(context: SessionContext, address: str) -> Client:
    tls = context.tls
    record = SessionRecord("", 0, str(tls.ca), str(tls.certificate("client")), str(tls.key("client")), "", "", "", 0)
    return await Client(address, security=client_security(record), asynchronous=True, timeout=5)


@pytest.mark.filterwarnings("ignore:Couldn't detect a suitable IP address for reaching:RuntimeWarning")
def test_workers_reach_the_scheduler_that_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [f"{server}.{DOMAIN}" for server in ("one", "other", "nobody")]
    resolve = socket.getaddrinfo

    def as_a_name_server(host: Any, *more: Any, **also: Any) -> Any:
        return resolve("127.0.0.1" if host in known else host, *more, **also)

    monkeypatch.setattr(socket, "getaddrinfo", as_a_name_server)
    proxy, port = first_free_port(19_443), first_free_port(28_786)

    async def meet() -> None:
        one, other = (session(tmp_path, server, port, proxy) for server in PODS)
        async with scheduler_of(one) as first, scheduler_of(other) as second:
            assert first.contact_address == f"tls://one.{DOMAIN}:{proxy}"
            async with worker_of(one, one.contact), worker_of(other, other.contact):
                assert (len(first.workers), len(second.workers)) == (1, 1)
                async with await client_of(one, one.contact) as client:
                    assert await client.submit(lambda: 6 * 7) == 42
                # The name leads to another's scheduler, and no further than its TLS; a name without a server nowhere.
                with pytest.raises(OSError, match="TLS certificate does not match"):
                    await client_of(one, other.contact)
                with pytest.raises(CommClosedError):
                    await client_of(one, f"tls://nobody.{DOMAIN}:{proxy}")

    pods = {f"{server}.{CLUSTER}": address for server, address in PODS.items()}
    with (
        running_name_server(pods) as names,
        running_haproxy(tmp_path, proxy_configuration(proxy, port, names), proxy),
    ):
        asyncio.run(meet())
