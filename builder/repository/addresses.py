"""Decides whether an address may be asked, and pins a host name to the network addresses that were checked.

Two rules. *Lists*: a site's ``allow`` and ``deny`` patterns are matched against ``host/path`` of a URL, whatever way it
is written (scheme, user, default port, ``.git``, percent-encoding, ``user@host:path`` and case do not matter).
*Networks*: unless the site says otherwise, every address that a host name resolves to must be public; numbers in odd
forms (``0x7f.1``, ``2130706433``) and IPv4 in IPv6 (mapped, 6to4, NAT64) are what they stand for. Who connects
afterwards is told the addresses that were checked and does not resolve again, so that a name cannot change its mind in
between.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import posixpath
import socket
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from builder.repository.spec import ARCHIVES, SCP_LIKE, NotAllowedError, UnreachableError

if TYPE_CHECKING:
    from builder.repository.fetching import Fetching

SCHEMES = ("https", "http", "ssh", "git", "file")
PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def comparable(url: str) -> str:
    """Return what patterns are matched against, in lower case: ``host[:port]/path``, a path, ``zenodo:10.5281/...``."""
    scp = SCP_LIKE.fullmatch(url)
    if "://" in url:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        port = f":{parts.port}" if parts.port and parts.port != PORTS.get(parts.scheme) else ""
        path = parts.path
    elif scp and scp["host"] not in ARCHIVES:
        host, port, path = scp["host"].rstrip("."), "", scp["path"]
    else:
        return url.lower()
    path = posixpath.normpath("/" + unquote(path)).lstrip("/")
    return f"{host}{port}/{path}".lower().removesuffix(".git")


def check_lists(url: str, fetching: Fetching) -> None:
    """Raise :class:`NotAllowedError` when the site's lists do not let the repository through; ``deny`` wins."""
    name = comparable(url)

    def matched(patterns: tuple[str, ...]) -> bool:
        plain = (pattern.lower().rpartition("://")[2].removesuffix(".git") for pattern in patterns)
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in plain)

    if matched(fetching.deny):
        raise NotAllowedError(f"this site does not build {name}; ask its administrator why")
    if fetching.allow and not matched(fetching.allow):
        raise NotAllowedError(f"this site builds only repositories of its list, and {name} is not on it")


def host_and_port(location: str) -> tuple[str, int]:
    """Return where a location is asked; ``("", 0)`` for a directory of this machine."""
    if "://" in location:
        parts = urlsplit(location)
        return (parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)) if parts.scheme != "file" else ("", 0)
    scp = SCP_LIKE.fullmatch(location)
    return (scp["host"], 22) if scp else ("", 0)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def checked_addresses(host: str, port: int, fetching: Fetching) -> tuple[str, ...]:
    """Return the IP addresses that ``host`` may be asked at; ``()`` when anybody may resolve it as they like.

    Raises :class:`UnreachableError` when the host has no address, and :class:`NotAllowedError` when it has one that is
    not public and the site forbids it.
    """
    if fetching.private_addresses:
        return ()
    refused = NotAllowedError(
        f"{host} is an address of the local network, and this site does not fetch from there; an administrator "
        "can allow it with `repositories: {private_addresses: true}` in site.yaml"
    )
    try:
        found = socket.getaddrinfo(host.rstrip("."), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if behind_proxy(host) and not host.rstrip(".").lower().endswith("localhost"):
            return ()  # only the proxy resolves names of the outside
        raise UnreachableError(f"{host} can't be reached; check the address and the network") from error
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not all(is_public(address) for address in addresses):
        raise refused
    return () if behind_proxy(host) else addresses


def behind_proxy(host: str) -> bool:
    """Whether the environment sends requests for the host to a proxy."""
    proxies = urllib.request.getproxies()
    return any(name in proxies for name in ("http", "https", "all")) and not urllib.request.proxy_bypass(host)
