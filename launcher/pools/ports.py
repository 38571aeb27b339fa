"""Ports of this machine at which the nodes of a pool reach schedulers in containers, one for each server.

Which ports are taken is known to the engine alone: a label of each container says its port, and the engine refuses to
start a container whose port somebody else has, were it by a moment. So a port is chosen, and another one if the engine
refuses it::

    range, ports in labels --candidates--> 30417, 30418, ... --free_here--> start, or the next
"""

from __future__ import annotations

import errno
import hashlib
import re
import socket
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_REFUSALS = ("port is already allocated", "address already in use")
_NOT_HERE = "cannot assign requested address"


def candidates(ports: range, taken: Collection[int], name: str) -> Iterator[int]:
    """Yield the ports of a range that are not taken, from a place on that depends on the server's name: servers that
    start at once do not all try the same."""
    begin = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % len(ports)
    for port in (*ports[begin:], *ports[:begin]):
        if port not in taken:
            yield port


def free_here(address: str, port: int) -> bool:
    """Whether nobody listens there; raise :class:`CasabinderError` if it is no address of this machine.

    The engine would see it too, but only after a container was made.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or isinstance(error, socket.gaierror):
                raise not_here(address) from error
            return False
    return True


def numeric(address: str) -> str:
    """Return an address of this machine as the engine takes it, which is not by name; raise :class:`CasabinderError` if
    there is none of this name."""
    try:
        *_, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise not_here(address) from error
    return str(place[0])


def refused(said: str, address: str, port: int) -> bool:
    """Whether the engine says that this port is taken; raise :class:`CasabinderError` if it says that the address is
    not this machine's."""
    if not re.search(rf":{port}\b", said):
        return False
    if _NOT_HERE in said:
        raise not_here(address)
    return any(words in said for words in _REFUSALS)


def not_here(address: str) -> CasabinderError:
    """Return the error of an address that this machine does not have."""
    return CasabinderError(
        f"workers can't reach a server at {address}, which is no address of this machine: correct `pool.address`"
    )


def taken(port: int) -> CasabinderError:
    """Return the error of a server that is started again, when its port is somebody else's meanwhile."""
    return CasabinderError(
        f"port {port} of this machine, by which workers reach this server, is taken: wait until what has it has ended, "
        "or remove the server with its files and launch again"
    )


def exhausted(ports: range, address: str) -> CasabinderError:
    """Return the error of a range in which no port is left."""
    return CasabinderError(
        f"all ports from {ports[0]} to {ports[-1]} of {address}, by which workers reach servers, are taken: "
        "remove servers that are no longer needed, or have `pool.ports` in site.yaml widened"
    )
