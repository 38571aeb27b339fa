"""What the notebook server tells its session: lines of JSON on the session's standard input, whose end is its end.

The server's environment has no Dask, so it can't talk to the scheduler. The pipe is there in any case, and belongs to
the two of them alone. One line says one thing: ``{"scale": 4}``.
"""

from __future__ import annotations

import json


def scale_line(workers: int) -> bytes:
    """Return the line that asks for ``workers`` workers in all."""
    return json.dumps({"scale": workers}).encode() + b"\n"


class ScaleRequests:
    """Takes what is read from the pipe, in pieces of any size."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> list[int]:
        """Return the numbers of workers in the lines that ``data`` completes."""
        *lines, self._begun = (self._begun + data).split(b"\n")
        return [int(json.loads(line)["scale"]) for line in lines]
