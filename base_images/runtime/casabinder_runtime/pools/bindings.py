"""The process that talks to HTCondor: one JSON request a line on standard input, one JSON answer a line on output.

``python -m casabinder_runtime.pools.bindings COLLECTOR SCHEDD``. The bindings block, up to minutes when a daemon does
not answer, and are configured through the environment of their process; in a process of their own they hold up neither
the scheduler's event loop nor the end of a session.

Requests: ``{"do": "submit", "text": ...}``, ``{"do": "query", "constraint": ..., "attributes": [...]}``,
``{"do": "remove", "constraint": ...}``, ``{"do": "retrieve", "constraint": ...}``. Answers: ``{"result": ...}``, or
``{"error": message, "reached": bool, "submitted": bool}`` with whether the collector listens at all, and whether a job
was submitted whose files did not arrive. Jobs are submitted from this process' working directory, so that is where
their output is brought.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import htcondor2

CONNECT_SECONDS = 2.0


class Queue:
    """A schedd's job queue."""

    def __init__(self, collector: str, name: str) -> None:
        self._collector = collector
        self._name = name
        self._found: htcondor2.Schedd | None = None
        self._submitted = False

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked; whatever goes wrong is an answer too."""
        operations: dict[str, Callable[..., Any]] = {
            "submit": self._submit,
            "query": self._query,
            "remove": self._remove,
            "retrieve": self._retrieve,
        }
        arguments = {name: value for name, value in request.items() if name != "do"}
        self._submitted = False
        try:
            return {"result": operations[request["do"]](**arguments)}
        except Exception as error:  # noqa: BLE001  # the bindings raise errors of many classes
            self._found = None  # a schedd that was restarted may be elsewhere
            message = " ".join(str(error).split()) or type(error).__name__
            return {"error": message, "reached": self._collector_listens(), "submitted": self._submitted}

    def _collector_listens(self) -> bool:
        """Tell an unreachable pool from one that refuses: the bindings have the same words for both."""
        host, _, port = self._collector.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
                return True
        except (OSError, ValueError):
            return False

    def _schedd(self) -> htcondor2.Schedd:
        import htcondor2

        if self._found is None:
            location = htcondor2.Collector(self._collector).locate(htcondor2.DaemonType.Schedd, self._name)
            if location is None:
                raise LookupError(f"the collector {self._collector} knows no schedd {self._name}")
            self._found = htcondor2.Schedd(location)
        return self._found

    def _submit(self, text: str) -> int:
        """Submit one job with its input files; return its cluster."""
        import htcondor2

        schedd = self._schedd()
        result = schedd.submit(htcondor2.Submit(text), spool=True)
        self._submitted = True
        try:
            schedd.spool(result)
        except Exception:
            schedd.act(htcondor2.JobAction.Remove, f"ClusterId == {result.cluster()}", "its input files did not arrive")
            raise
        return int(result.cluster())

    def _query(self, constraint: str, attributes: list[str]) -> list[dict[str, Any]]:
        ads = self._schedd().query(constraint, attributes)
        # An attribute that is not there is an Undefined, which is no plain value.
        return [
            {name: ad[name] for name in attributes if isinstance(ad.get(name), str | int | float | bool)} for ad in ads
        ]

    def _remove(self, constraint: str) -> int:
        """Remove jobs; return how many there were."""
        import htcondor2

        done = self._schedd().act(htcondor2.JobAction.Remove, constraint, "the Dask session has no more use for it")
        return int(done["TotalSuccess"])

    def _retrieve(self, constraint: str) -> None:
        self._schedd().retrieve(constraint)


def main() -> None:
    """Answer requests until standard input closes."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # whatever the bindings print must not get between the answers
        queue = Queue(*sys.argv[1:])
        for line in sys.stdin:
            answers.write(json.dumps(queue.answer(json.loads(line))) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
