"""What is launched most, by the launch log: candidates for being built before anybody asks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from launcher.jobs.model import Asked

if TYPE_CHECKING:
    from launcher.hub.launch_log import LaunchLog

_LATEST = 1000


def popular(log: LaunchLog, number: int) -> list[Asked]:
    """Return what was launched most among the latest thousand images, public ones only, with the ref that people
    follow: a branch is built anew when it has moved."""
    launches: Counter[tuple[str, str]] = Counter()
    for use in log.images("", _LATEST):
        if use.provider and use.spec:
            launches[use.provider, use.spec] += use.launches
    return [Asked(provider, spec) for (provider, spec), _ in launches.most_common(number)]
