"""How the nodes of a pool reach the scheduler of a server: nothing but a contact address comes of it.

::

    host-port   the container has a network of its own; pool.address:PORT of this machine leads to its scheduler
    pod-ip      the scheduler listens at the notebook's own address: a pod's, or (Docker) in the machine's own network
    sni         a network of its own; the site's proxy leads tls://SERVER.DOMAIN on, by the name in the TLS greeting
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from launcher.container import SCHEDULER_PORT

if TYPE_CHECKING:
    from launcher.site_config import Exposure, Pool, Site

POD_IP = "POD_IP"
"""The variable that has a pod's address."""
_LONGEST_LABEL = 63
_LABEL = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DIGITS = 8


def docker_exposure(pool: Pool) -> Exposure:
    """Return the exposure of containers of this machine's engine: as the site says, else a port each; where the pool is
    on loopback no container with a network of its own could reach it."""
    return pool.exposure or ("pod-ip" if pool.on_loopback else "host-port")


def kubernetes_exposure(pool: Pool) -> Exposure:
    """Return the exposure of pods: as the site says, else the address that each has."""
    return pool.exposure or "pod-ip"


def hub_exposure(site: Site) -> Exposure:
    """Return the exposure of the hub's servers."""
    return kubernetes_exposure(site.pool) if site.hub.spawner == "kubernetes" else docker_exposure(site.pool)


def contact(pool: Pool, exposure: Exposure, *, name: str, port: int) -> str:
    """Return where workers reach the scheduler of the server ``name``; ``port`` is the one published for it.

    Nothing means the address and port at which the scheduler finds itself.
    """
    if exposure == "host-port":
        return f"tls://{f'[{pool.address}]' if ':' in pool.address else pool.address}:{port}"
    if exposure == "sni":
        domain, _, sni_port = str(pool.domain).partition(":")
        return f"tls://{label(name)}.{domain}:{sni_port or SCHEDULER_PORT}"
    return ""


def label(name: str) -> str:
    """Return a server's name as a part of a host's name: equal if it is one already, else with a hash at its end."""
    if _LABEL.fullmatch(name):
        return name
    plain = re.sub("[^a-z0-9]+", "-", name.lower())[: _LONGEST_LABEL - _DIGITS - 1].strip("-")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]}".lstrip("-")
