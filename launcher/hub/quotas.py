"""How many servers may run at once: in all, of one owner, of one repository. Pure functions of counts."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.repository.addresses import comparable
from launcher.refusal import RefusedError

if TYPE_CHECKING:
    from launcher import site_config

_RETRY_AFTER = 60


@dataclass(frozen=True)
class Running:
    """How many servers run or start: in all, of the owner, of the repository."""

    total: int
    of_owner: int
    of_repository: int


def repository_limit(url: str, allowed: site_config.Launches) -> int:
    """Return how many servers of a repository may run (0: no limit): the last pattern that fits decides."""
    name = comparable(url)
    fitting = [quota.servers for quota in allowed.quotas if fnmatch.fnmatchcase(name, quota.pattern.lower())]
    return fitting[-1] if fitting else allowed.per_repository


def check_quotas(repository: str, running: Running, allowed: site_config.Launches) -> None:
    """Raise :class:`RefusedError` with status 429 if one more server of ``repository`` would be too many."""
    if 0 < allowed.total <= running.total:
        raise RefusedError(
            f"all {allowed.total} places for notebook servers here are taken; try again in a few minutes",
            429,
            retry_after=_RETRY_AFTER,
        )
    if 0 < allowed.per_user <= running.of_owner:
        raise RefusedError(
            f"you have {running.of_owner} notebook servers, and more than {allowed.per_user} are not allowed: stop one",
            429,
        )
    limit = repository_limit(repository, allowed)
    if 0 < limit <= running.of_repository:
        raise RefusedError(
            f"{running.of_repository} people use {comparable(repository)} now, which is as many as may; "
            "try again in a few minutes",
            429,
            retry_after=_RETRY_AFTER,
        )
