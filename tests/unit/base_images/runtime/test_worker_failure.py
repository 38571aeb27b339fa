from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.errors import WorkerError
from casabinder_runtime.tls import create_session_certificates
from casabinder_runtime.worker_failure import UnreadableMessages, check_trust
from tornado.netutil import bind_sockets
from tornado.tcpserver import TCPServer

if TYPE_CHECKING:
    from pathlib import Path

    from casabinder_runtime.tls import TlsFiles
    from tornado.iostream import IOStream


class Greeter(TCPServer):
    """Says something and hangs up."""

    async def handle_stream(self, stream: IOStream, _address: object) -> None:
        await stream.write(b"hello")
        stream.close()


async def check(scheduler: TlsFiles, worker: TlsFiles, reader: TlsFiles) -> None:
    """Check a worker with the certificate of ``worker`` that trusts the authority of ``reader``."""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(scheduler.ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(scheduler.certificate("scheduler"), scheduler.key("scheduler"))
    server = Greeter(ssl_options=context)  # the server that Dask has; one of asyncio refuses without a word
    [listener] = bind_sockets(0, "127.0.0.1")
    server.add_socket(listener)
    security = worker.security("worker")
    security.tls_ca_file = str(reader.ca)
    try:
        await check_trust(f"tls://127.0.0.1:{listener.getsockname()[1]}", security)
    finally:
        server.stop()


def test_one_session_trusts_itself_and_no_other(tmp_path: Path) -> None:
    own = create_session_certificates(tmp_path / "own")
    other = create_session_certificates(tmp_path / "other")
    asyncio.run(check(own, own, own))
    with pytest.raises(WorkerError, match=r"don't trust each other's certificates \(.+\): they are not of one session"):
        asyncio.run(check(own, own, other))
    with pytest.raises(WorkerError, match=r"don't trust each other's certificates \(.*CA.*\)"):
        asyncio.run(check(own, other, own))


def test_a_scheduler_that_is_not_there_is_left_to_dask(tmp_path: Path) -> None:
    tls = create_session_certificates(tmp_path / "own")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound and not listened on: refused
        asyncio.run(check_trust(f"tls://127.0.0.1:{probe.getsockname()[1]}", tls.security("worker")))


def test_what_dask_could_not_read_is_remembered() -> None:
    async def hear() -> tuple[UnreadableMessages, bool]:
        messages = UnreadableMessages()
        for name, error in (
            ("distributed.worker", ValueError("of a task")),
            ("distributed.protocol.core", ModuleNotFoundError("No module named 'foo'")),
        ):
            messages.handle(_record(name, error))
        stuck = messages.stuck.is_set()
        assert messages.error is not None
        messages.handle(_record("distributed.worker", messages.error))
        return messages, stuck

    messages, stuck = asyncio.run(hear())
    assert not stuck
    assert messages.stuck.is_set()
    assert str(messages.failure()) == (
        "a task could not be read: ModuleNotFoundError: No module named 'foo': "
        "what tasks import must be in the repository or among its requirements"
    )


def test_a_worker_that_read_everything_did_not_fail() -> None:
    async def hear() -> UnreadableMessages:
        return UnreadableMessages()

    assert asyncio.run(hear()).failure() is None


def _record(name: str, error: BaseException) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, __file__, 1, "", (), (type(error), error, None))
