"""The order in which waiting jobs are built: people take turns, then repositories; nobody's pile delays another.

1. What somebody waits for comes before what nobody waits for (``priority``).
2. *Everybody's own jobs* are put in turn by repository: the oldest of each, then the second of each. A repository that
   already has jobs of theirs running is that many turns behind.
3. *People take turns.* A job's turn is the number of its owner's jobs that run or are ahead of it.
4. *Within a turn* the job goes first whose repository has the fewest jobs running or ahead of it, then the oldest.

Example: Ann asked for three commits of ``x`` and one of ``y``, then Ben for one of ``x``, then Cid for one of ``z``; a
job of Cid's is running. Ann's own order is x1 y1 x2 x3. Turn 0: Ann's x1, Ben's x. Turn 1: Ann's y1, Cid's z (he is
one turn behind: his other job is being built). Turns 2 and 3: Ann's x2, x3. ::

    waiting   Ann x1, Ann x2, Ann x3, Ann y1, Ben x, Cid z        (oldest first)
    order     Ann x1, Ben x, Ann y1, Cid z, Ann x2, Ann x3

Taking the first job does not change the order of the others, and a job that comes later delays only jobs of its own
owner, or of others' later turns.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from launcher.jobs.model import Job


class Place(NamedTuple):
    """What of a job decides when it is built."""

    id: str
    owner: str
    repo: str
    priority: int
    created: float


def order(waiting: Iterable[Job], running: Iterable[Job]) -> list[Job]:
    """Return the waiting jobs in the order in which they are to be built, with their positions (from 1)."""
    jobs = {job.id: job for job in waiting}
    ordered = arrange((_place(job) for job in jobs.values()), (_place(job) for job in running))
    return [replace(jobs[place.id], position=position) for position, place in enumerate(ordered, 1)]


def arrange(waiting: Iterable[Place], running: Iterable[Place]) -> list[Place]:
    """Do the same for places: for 200 jobs in a millisecond."""
    by_owner: Counter[str] = Counter()
    by_repo: Counter[str] = Counter()
    by_both: Counter[tuple[str, str]] = Counter()
    for place in running:
        by_owner[place.owner] += 1
        by_repo[place.repo] += 1
        by_both[place.owner, place.repo] += 1
    classes: dict[int, list[Place]] = defaultdict(list)
    for place in sorted(waiting, key=_age):
        classes[place.priority].append(place)
    ordered: list[Place] = []
    for priority in sorted(classes):
        for turn in _turns(classes[priority], by_owner, by_both):
            ordered += _within(turn, by_repo)
    return ordered


def _place(job: Job) -> Place:
    return Place(job.id, job.owner, job.request.repo, job.priority, job.created)


def _age(place: Place) -> tuple[float, str]:
    return place.created, place.id


def _turns(places: list[Place], by_owner: Counter[str], by_both: Counter[tuple[str, str]]) -> list[list[Place]]:
    """Return the places (oldest first) by turn, and count them."""
    own: dict[str, list[tuple[int, Place]]] = defaultdict(list)
    for place in places:
        both = place.owner, place.repo
        own[place.owner].append((by_both[both], place))
        by_both[both] += 1
    turns: dict[int, list[Place]] = defaultdict(list)
    for owner, ranked in own.items():
        for _, place in sorted(ranked, key=lambda entry: entry[0]):
            turns[by_owner[owner]].append(place)
            by_owner[owner] += 1
    return [turns[turn] for turn in sorted(turns)]


def _within(turn: list[Place], by_repo: Counter[str]) -> list[Place]:
    """Return the places of one turn in order, and count them."""
    ranked: list[tuple[int, float, str, Place]] = []
    for place in sorted(turn, key=_age):
        ranked.append((by_repo[place.repo], *_age(place), place))
        by_repo[place.repo] += 1
    return [entry[3] for entry in sorted(ranked)]
