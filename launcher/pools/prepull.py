"""Brings an image to the nodes of a pool before anybody waits for it: a job that does nothing in it, once on each node.

::

    BatchPool + image ──▶ warm_up() ──▶ one description, a job for each node ──▶ launcher.pools.warm_up ──▶ Tally

The jobs ask for next to nothing, have the lowest priority of their user, and are removed by HTCondor after the site's
``prepull.seconds``, whatever becomes of whoever submitted them. HTCondor marks an image that it has pulled as that of
the job's *user*, and asks the registry again, though not for layers that are there, when another user's job needs it
(src/condor_starter.V6.1/docker_proc.cpp). So a warm node saves everybody the transfer, and the jobs' user the request.
"""

from __future__ import annotations

import json
import logging
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.pools.site_pool import BatchPool
from launcher.pools.surroundings import ask, surroundings
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from launcher.site_config import Site

_LOG = logging.getLogger(__name__)

MOST_NODES = 1000  # for whoever does not say how many
AT_ONCE = 2  # images that the launch service brings to nodes at the same time
_SLACK = 60  # seconds beyond those of the jobs, for asking and tidying up
_KEPT_SECONDS = 600  # a job that has ended can be counted for so long
# What the bindings need of this process's surroundings; secrets are not among it.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True)
class Tally:
    """Where an image is now: on ``brought`` of the ``nodes`` it was to go to; ``failed`` says why not, by node."""

    image: str
    nodes: int = 0
    brought: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """How many nodes had no time for it."""
        return self.nodes - self.brought - len(self.failed)

    @property
    def sentence(self) -> str:
        """All of it for people."""
        said = f"{self.brought} of {self.nodes} nodes have {self.image}"
        if self.waiting:
            said += f"; {self.waiting} had no free core in time"
        return said + "".join(f"; {node}: {why}" for node, why in sorted(self.failed.items()))


def warm_up(pool: BatchPool, image: str, nodes: Sequence[str]) -> dict[str, str]:
    """Return the description of the jobs that bring ``image`` to ``nodes``, by the names of their startds.

    Raises :class:`CasabinderError` where nodes read images from elsewhere.
    """
    if pool.site.universe != "docker":
        raise CasabinderError(
            "there is nothing to pull before: nodes of the container universe read images where `pool.images` says"
        )
    there = "splitSlotName(TARGET.Name)[1] == MY.CasabinderNode"
    group = pool.site.accounting_group.replace("{user}", pool.user)
    return {
        "universe": "docker",
        "docker_image": image,
        "docker_override_entrypoint": "True",
        "docker_network_type": "none",
        "executable": "/bin/true",
        "transfer_executable": "False",
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_output_files": '""',
        "request_cpus": "1",
        "request_memory": "64MB",
        "request_disk": "1MB",
        "priority": "-100",
        "requirements": f"{there} && ({pool.site.requirements})" if pool.site.requirements else there,
        "leave_in_queue": f"JobStatus == 4 && time() - CompletionDate < {_KEPT_SECONDS}",
        "periodic_remove": f"time() - QDate > {pool.site.prepull.seconds}",
        "batch_name": "casabinder-prepull",
        "MY.CasabinderPrepull": "True",
        "MY.CasabinderNode": '"$(startd_name)"',
        **({"accounting_group": group} if group else {}),
        "queue": f"startd_name in ({', '.join(nodes)})",
    }


def prepull(pool: BatchPool, image: str, nodes: int) -> Tally:
    """Bring an image, by its tag, to at most so many nodes, and return once they have it or the time is over.

    Raises :class:`CasabinderError` if the pool can't be asked, or nodes don't pull.
    """
    warm_up(pool, image, [])
    seconds = pool.site.prepull.seconds
    asked = {"image": image, "nodes": nodes, "user": pool.user, "site": pool.site.model_dump(mode="json")}
    with surroundings(pool, pool.token()) as environment:
        kept = {name: environment[name] for name in environment if name in _PASSED_ON or "CONDOR" in name}
        try:
            answer = ask("launcher.pools.warm_up", [], kept, seconds=seconds + _SLACK, told=json.dumps(asked))
        except subprocess.TimeoutExpired as error:
            raise CasabinderError(f"the pool of {pool.site.collector} did not answer in time") from error
    if "error" in answer:
        raise CasabinderError(f"{image} could not be brought to nodes of {pool.site.collector}: {answer['error']}")
    return Tally(image, **answer)


class Prepulls:
    """Brings images to a site's nodes in the background, each once; what comes of it is logged, and told to ``ended``.

    It does nothing for a site without ``pool.prepull.nodes``, and never raises: a build does not depend on it.
    """

    def __init__(self, site: Site, ended: Callable[[Tally], None] = lambda _: None) -> None:
        self._site = site
        self._ended = ended
        self._begun: set[str] = set()
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()

    @property
    def wanted(self) -> bool:
        """Whether the site's nodes pull images, and are to have them before."""
        pool = self._site.pool
        return pool.kind == "htcondor" and pool.universe == "docker" and pool.prepull.nodes > 0

    def begin(self, image: str) -> threading.Thread | None:
        """Begin with an image unless it was begun with already; return the thread that waits for it."""
        with self._lock:
            if not self.wanted or not image or image in self._begun:
                return None
            self._begun.add(image)
        # It ends with the service: the jobs go on, and HTCondor removes them.
        thread = threading.Thread(target=self._run, args=(image,), daemon=True, name="prepull")
        thread.start()
        return thread

    def _run(self, image: str) -> None:
        with self._slots:
            try:
                pool = BatchPool.of_site(self._site, self._site.pool.prepull.user)
                tally = prepull(pool, image, self._site.pool.prepull.nodes)
            except CasabinderError as error:
                _LOG.warning("no image was brought to nodes: %s", error)
            except Exception:  # noqa: BLE001  # a thread that nobody waits for
                _LOG.exception("%s could not be brought to nodes", image)
            else:
                _LOG.info("%s", tally.sentence)
                self._ended(tally)
