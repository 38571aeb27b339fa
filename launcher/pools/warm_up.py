"""Runs the jobs that bring an image to nodes, in a process of its own: ``python -m launcher.pools.warm_up``.

It reads a JSON object from its input (see :func:`launcher.pools.prepull.prepull`, which sets its environment and bounds
its time) and prints one: ``{"nodes": 4, "brought": 3, "failed": {"node7": "why"}}``, or ``{"error": "why"}``.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import htcondor2

from launcher.pools.prepull import warm_up
from launcher.pools.probe import FAILURES, one_line
from launcher.pools.site_pool import BatchPool
from launcher.site_config import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COMPLETED, _HELD, _SPOOLING = 4, 5, 16
_LOOK_SECONDS = 1.0
_ATTRIBUTES = ["CasabinderNode", "JobStatus", "ExitCode", "HoldReason", "HoldReasonCode"]


def choose(slots: Sequence[Mapping[str, Any]], most: int) -> list[str]:
    """Return the startds of nodes with Docker, those with free cores first."""
    free: dict[str, int] = {}
    for slot in slots:
        node = str(slot.get("Name")).partition("@")[2]
        cores = slot.get("Cpus")
        free[node] = free.get(node, 0) + (cores if isinstance(cores, int) else 0)
    return sorted(free, key=lambda node: (-free[node], node))[:most]


def outcome(ads: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, str]]:
    """Return how many of the jobs have run in the image, and why others can't, by node."""
    brought, failed = 0, {}
    for ad in ads:
        status = ad.get("JobStatus")
        if status == _COMPLETED and ad.get("ExitCode") == 0:
            brought += 1
        elif status == _COMPLETED:
            failed[str(ad["CasabinderNode"])] = f"/bin/true ended with status {ad.get('ExitCode')}"
        elif status == _HELD and ad.get("HoldReasonCode") != _SPOOLING:
            failed[str(ad["CasabinderNode"])] = " ".join(str(ad.get("HoldReason")).split())
    return brought, failed


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Submit the jobs, wait for them, and take them out of the queue again."""
    pool = BatchPool(Pool.model_validate(request["site"]), request["user"], 0)
    collector = htcondor2.Collector()
    able = "HasDocker =?= True && DynamicSlot =!= True"
    wanted = f"{able} && ({pool.site.requirements})" if pool.site.requirements else able
    slots = collector.query(htcondor2.AdType.Startd, constraint=wanted, projection=["Name", "Cpus"])
    nodes = choose(slots, request["nodes"])
    if not nodes:
        raise LookupError("no node runs Docker and satisfies `pool.requirements`")
    where = collector.locate(htcondor2.DaemonType.Schedd, pool.site.schedd)
    if where is None:
        raise LookupError(f"the collector knows no schedd {pool.site.schedd}")
    queue = htcondor2.Schedd(where)
    description = warm_up(pool, request["image"], nodes)
    text = "".join(f"{name} = {value}\n" for name, value in description.items() if name != "queue")
    submitted = queue.submit(htcondor2.Submit(f"{text}queue {description['queue']}\n"), spool=True)
    jobs = f"ClusterId == {submitted.cluster()}"
    try:
        queue.spool(submitted)
        deadline = time.monotonic() + pool.site.prepull.seconds
        while True:
            brought, failed = outcome(queue.query(jobs, _ATTRIBUTES))
            if brought + len(failed) >= len(nodes) or time.monotonic() >= deadline:
                return {"nodes": len(nodes), "brought": brought, "failed": failed}
            time.sleep(_LOOK_SECONDS)
    finally:
        for action in (htcondor2.JobAction.Remove, htcondor2.JobAction.RemoveX):
            with contextlib.suppress(*FAILURES):  # HTCondor removes them later
                queue.act(action, jobs, "the image was brought to the node, or there was no time")


def main() -> None:
    """Answer the request on standard input."""
    try:
        answer = run(json.loads(sys.stdin.read()))
    except (*FAILURES, LookupError) as error:
        answer = {"error": one_line(error)}
    print(json.dumps(answer))  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
