"""Asks an HTCondor pool, in a process of its own: ``python -m launcher.pools.probe look|submit SCHEDD``.

The bindings read their configuration once, from the environment, and wait as long as they like for an answer; whoever
starts this process sets the one (see :mod:`launcher.pools.doctor`) and bounds the other. It prints one JSON object.

``look``    which slots the collector knows, and the schedd's address
``submit``  whom the schedd takes the token's bearer for, and what it lets them do: a job is queued, read and removed
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import htcondor2

_SLOT = [
    "Name",
    "HasDocker",
    "HasContainer",
    "HasSingularity",
    "PartitionableSlot",
    "DynamicSlot",
    "TotalSlotCpus",
    "TotalSlotGPUs",
    "MyAddress",
]
FAILURES = (htcondor2.HTCondorException, OSError, RuntimeError, TypeError, ValueError)  # what the bindings raise
# Never run: the schedd holds a job until its files are spooled, which these are not.
_JOB = {
    "executable": "/bin/true",
    "transfer_executable": "False",
    "universe": "vanilla",
    "request_cpus": "1",
    "request_memory": "1MB",
    "request_disk": "1MB",
    "MY.CasabinderDoctor": "True",
}


@dataclass(frozen=True)
class Slot:
    """A slot that is not carved out of another one; ``node`` is the name of its startd, ``address`` its own."""

    node: str
    cpus: int
    docker: bool
    container: bool
    gpus: int = 0
    address: str = ""


@dataclass(frozen=True)
class Sight:
    """What the collector knows; ``schedd`` is whether it knows the schedd, ``error`` why it does not answer itself."""

    schedd: bool = False
    schedd_answers: bool = False
    slots: tuple[Slot, ...] = ()
    error: str = ""

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Sight:
        """Read what this process printed."""
        return cls(**{**document, "slots": tuple(Slot(**slot) for slot in document.get("slots", ()))})


@dataclass(frozen=True)
class Attempt:
    """How the pool dealt with the token: where it got to, and why no further.

    ``identity`` is whom the schedd takes its bearer for, ``owner`` whose the job was.
    """

    reached: Literal["collector", "schedd", "queue", "end"] = "end"
    identity: str = ""
    administrator: bool = False
    owner: str = ""
    error: str = ""


def look(schedd: str) -> Sight:
    """Ask the collector."""
    try:
        collector = htcondor2.Collector()
        ads = collector.query(htcondor2.AdType.Startd, projection=_SLOT)
        where = collector.locate(htcondor2.DaemonType.Schedd, schedd)
    except FAILURES as error:
        return Sight(error=one_line(error))
    slots = tuple(
        Slot(
            node=str(ad.get("Name")).partition("@")[2],
            cpus=int(ad["TotalSlotCpus"]) if isinstance(ad.get("TotalSlotCpus"), int) else 1,
            docker=ad.get("HasDocker") is True,
            container=ad.get("HasContainer") is True or ad.get("HasSingularity") is True,
            gpus=int(ad["TotalSlotGPUs"]) if isinstance(ad.get("TotalSlotGPUs"), int) else 0,
            address=str(ad.get("MyAddress", "")).removeprefix("<").partition("?")[0].rpartition(":")[0],
        )
        for ad in ads
        if ad.get("DynamicSlot") is not True
    )
    return Sight(where is not None, where is not None and _answers(where), slots)


def submit(schedd: str) -> Attempt:
    """Queue a job with the token that the environment points to, and take it back."""
    attempt = Attempt("collector")
    try:
        where = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd, schedd)
        attempt = Attempt("schedd")
        answer = htcondor2.ping(where, "WRITE")
        attempt = Attempt("queue", str(answer.get("MyRemoteUserName", "")), _may(where))
        if answer.get("AuthorizationSucceeded") is not True:
            return replace(attempt, error="it may not WRITE there")
        queue = htcondor2.Schedd(where)
        job = f"ClusterId == {queue.submit(htcondor2.Submit(dict(_JOB)), spool=True).cluster()}"
        try:
            ads = queue.query(job, ["Owner", "User"])
        finally:
            for action in (htcondor2.JobAction.Remove, htcondor2.JobAction.RemoveX):
                queue.act(action, job, "casabinder doctor has seen it")
        return replace(attempt, reached="end", owner=str(ads[0].get("User", "")) if ads else "")
    except FAILURES as error:
        return replace(attempt, error=one_line(error))


def _answers(where: Any) -> bool:
    """Say whether the schedd answers anybody."""
    try:
        htcondor2.Schedd(where).query("false", ["ClusterId"])
    except FAILURES:
        return False
    return True


def _may(where: Any) -> bool:
    """Say whether the token lets its bearer administrate."""
    try:
        return htcondor2.ping(where, "ADMINISTRATOR").get("AuthorizationSucceeded") is True
    except FAILURES:
        return False


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    print(json.dumps(asdict(look(sys.argv[2]) if sys.argv[1] == "look" else submit(sys.argv[2]))))  # noqa: T201  # its answer
