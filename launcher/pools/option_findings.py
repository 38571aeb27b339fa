"""What the doctor finds of what a site may ask of its pool beyond the ordinary: a line for each option that is used."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from launcher.pools.finding import Finding, many
from launcher.pools.image_source import root_of

if TYPE_CHECKING:
    from pathlib import Path

    from launcher.pools.probe import Attempt, Sight
    from launcher.pools.site_pool import BatchPool
    from launcher.site_config import Pool

_MOST_LISTED = 10_000


def source_finding(site: Pool) -> Finding:
    """Say where nodes of the container universe find images, and whether this machine sees it too."""
    pattern, root = site.images, root_of(site.images)
    if root is None:
        where = "fetch and convert it for every job" if pattern.startswith("docker://") else "fetch it for every job"
        return Finding("source", "ok", f"an image is {pattern} for the nodes, which {where}")
    if root.is_dir():
        found = _listed(root)
        return Finding("source", "ok", f"nodes find images at {pattern}; {root} is here too, with {found} in it")
    if site.images_seconds or site.images_fallback != "none":
        sentence = f"{root} is not on this machine, so nobody can see whether an image is there: mount it here as well"
        return Finding("source", "failed", sentence)
    sentence = f"nodes find images at {pattern}; {root} is not on this machine, so a launch can't say if one is missing"
    return Finding("source", "ok", sentence)


def network_finding(site: Pool, sight: Sight) -> Finding:
    """Say whether a container with a network of its own can reach the scheduler, and others its node."""
    if site.address.startswith("127."):
        sentence = f"in a container {site.address} is not this machine: say in `pool.address` where nodes reach it"
        return Finding("network", "failed", sentence)
    if sight.error:
        return Finding("network", "skipped", "not looked at, as the collector does not answer")
    hidden = {slot.node for slot in sight.slots if slot.address.startswith(("127.", "[::1"))}
    if hidden:
        sentence = (
            f"{many(len(hidden), 'node')} of the pool have loopback addresses, at which no worker reaches another: "
            "set NETWORK_INTERFACE there, or take `pool.network: host`"
        )
        return Finding("network", "failed", sentence)
    return Finding("network", "ok", "Docker forwards a port of the node to each worker, which has a network of its own")


def gpus_finding(site: Pool, sight: Sight) -> Finding:
    """Say how many GPUs there are for workers."""
    if sight.error:
        return Finding("gpus", "skipped", "not counted, as the collector does not answer")
    able = [slot for slot in sight.slots if slot.gpus]
    enough = [slot for slot in able if slot.gpus >= site.gpus]
    if not enough:
        most = f"none has more than {max(slot.gpus for slot in able)}" if able else "none has any"
        sentence = f"workers may ask for {many(site.gpus, 'GPU')}, but of {many(len(sight.slots), 'slot')} {most}"
        return Finding("gpus", "failed", f"{sentence}: correct `pool.gpus`")
    nodes = many(len({slot.node for slot in able}), "node")
    sentence = f"{many(sum(slot.gpus for slot in able), 'GPU')} on {nodes}; a worker may have up to {site.gpus}"
    return Finding("gpus", "ok", sentence)


def prepull_finding(pool: BatchPool, sight: Sight, attempt: Attempt | None) -> Finding:
    """Say who brings images to how many nodes; ``attempt`` is how a job of theirs fared, if they are not the user."""
    if pool.site.universe != "docker":
        sentence = "`pool.prepull` has no effect in the container universe, whose nodes pull nothing: leave it out"
        return Finding("prepull", "failed", sentence)
    user = pool.site.prepull.user or pool.user
    if attempt is not None and (attempt.error or attempt.owner.partition("@")[0] != user):
        why = attempt.error or f"the schedd takes them for {attempt.owner or 'nobody'}"
        return Finding("prepull", "failed", f"{user} can't bring images to nodes: {why}")
    able = len({slot.node for slot in sight.slots if slot.docker})
    nodes = many(min(able, pool.site.prepull.nodes), "node")
    return Finding("prepull", "ok", f"images that were built are brought to {nodes} of {able} as {user}")


def _listed(root: Path) -> str:
    """Return how many entries a directory has; counting ends somewhere."""
    number = sum(1 for _ in itertools.islice(root.iterdir(), _MOST_LISTED))
    return f"{number} entries" if number != 1 else "1 entry"
