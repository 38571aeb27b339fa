"""Asks a schedd through HTCondor's Python bindings, as a program of its own: the bindings read their settings once.

``python -m tests.testbed.condor.client`` reads a JSON object ``{"schedd": ..., "do": ..., ...}`` from its input and
prints its answer as JSON. What goes wrong is one line on standard error, and status 1. ``do`` is one of

``submit``
    ``description``: submit commands. The job is spooled; its files are relative to the working directory. Answers
    ``{"cluster": 12}``.
``query``
    ``constraint`` and ``attributes``. Answers a list of objects; attributes that are not defined are left out.
``retrieve``
    ``constraint``. Writes the output of jobs that have ended to where they were submitted.
``act``
    ``action`` (a name of ``JobAction``) and ``constraint``. Answers ``{"changed": 1}``.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import htcondor2

if TYPE_CHECKING:
    import classad2


def main() -> int:
    """Do what the input asks."""
    request = json.loads(sys.stdin.read())
    try:
        sys.stdout.write(json.dumps(_answer(request)))
    except htcondor2.HTCondorException as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 1
    return 0


def _answer(request: dict[str, Any]) -> object:
    schedd = htcondor2.Schedd(htcondor2.Collector().locate(htcondor2.DaemonType.Schedd, request["schedd"]))
    constraint = request.get("constraint", "true")
    match request["do"]:
        case "submit":
            result = schedd.submit(htcondor2.Submit(request["description"]), spool=True)
            schedd.spool(result)
            return {"cluster": result.cluster()}
        case "query":
            return [_plain(ad) for ad in schedd.query(constraint, request["attributes"])]
        case "retrieve":
            schedd.retrieve(constraint)
            return {}
        case "act":
            done = schedd.act(getattr(htcondor2.JobAction, request["action"]), constraint)
            return {"changed": done["TotalSuccess"]}
        case other:
            raise ValueError(f"there is no request {other}")


def _plain(ad: classad2.ClassAd) -> dict[str, object]:
    return {name: value for name, value in ad.items() if isinstance(value, (str, int, float))}


if __name__ == "__main__":
    sys.exit(main())
