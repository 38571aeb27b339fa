"""The sentences that scheduler and workers have for the notebook: events on one topic of the scheduler."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from uuid import uuid4

TOPIC = "casabinder"


@dataclass(frozen=True)
class Notice:
    """One sentence; ``id`` keeps a client that is told twice from showing it twice."""

    kind: str
    message: str
    id: str = field(default_factory=lambda: uuid4().hex)

    def event(self) -> dict[str, str]:
        """Return what is logged as an event on ``TOPIC``."""
        return asdict(self)


def refusal(worker: str, found: str | None, expected: str) -> Notice:
    """Say that a worker was refused since its image holds another environment, or does not say which it holds."""
    if found is None:
        what = "it does not say which environment its image holds (casabinder_runtime.guard is not preloaded)"
    else:
        what = f"its image holds the environment {found}"
    return Notice(
        "worker-refused",
        f"Dask worker {worker} was refused: {what}, but this notebook's is {expected}. "
        "Start workers from the image of this notebook.",
    )
