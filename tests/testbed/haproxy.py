"""A real HAProxy on loopback, with a configuration that a site may have, and a small name server for it to ask."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from launcher.processes import DIES_WITH_PARENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

START_SECONDS = 20.0
_ANSWER, _NO_SUCH_NAME = 0x8180, 0x8183  # flags of a DNS answer (RFC 1035, 4.1.1)
_POINTER_TO_QUESTION = 0xC00C
_A, _IN, _TTL = 1, 1, 1


def haproxy_is_installed() -> bool:
    """Say whether there is an HAProxy; for ``pytest.mark.skipif``."""
    return shutil.which("haproxy") is not None


@contextmanager
def running_haproxy(directory: Path, configuration: str, port: int) -> Iterator[None]:
    """Run HAProxy with a configuration that has it listen on a port of loopback."""
    file = directory / "haproxy.cfg"
    file.write_text(configuration)
    log = directory / "haproxy.log"
    with log.open("wb") as sink:
        process = subprocess.Popen([*DIES_WITH_PARENT, "haproxy", "-db", "-f", str(file)], stdout=sink, stderr=sink)
    deadline = time.monotonic() + START_SECONDS
    try:
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def running_name_server(names: Mapping[str, str]) -> Iterator[int]:
    """Answer questions for the IPv4 addresses of these names on a UDP port of loopback, which is yielded."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=_answer_all, args=(server, names))
        thread.start()
        port = server.getsockname()[1]
        try:
            yield port
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"", ("127.0.0.1", port))
            thread.join()


def _answer_all(server: socket.socket, names: Mapping[str, str]) -> None:
    while True:
        question, whom = server.recvfrom(4096)
        if not question:
            return
        server.sendto(_answer(question, names), whom)


def _answer(message: bytes, names: Mapping[str, str]) -> bytes:
    labels, place = [], 12
    while length := message[place]:
        labels.append(message[place + 1 : place + 1 + length].decode())
        place += 1 + length
    question = message[12 : place + 5]
    address = names.get(".".join(labels).lower())
    flags = _ANSWER if address else _NO_SUCH_NAME
    header = message[:2] + struct.pack(">HHHHH", flags, 1, 1 if address else 0, 0, 0)
    if address is None:
        return header + question
    return header + question + struct.pack(">HHHIH", _POINTER_TO_QUESTION, _A, _IN, _TTL, 4) + socket.inet_aton(address)


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
