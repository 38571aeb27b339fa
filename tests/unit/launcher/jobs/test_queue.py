"""The order of waiting jobs: the example of the room's documentation, and what must hold for any queue."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from launcher.jobs.model import INTERACTIVE, PREBUILD
from launcher.jobs.queue import order
from tests.testbed.jobs import NOW, waiting

if TYPE_CHECKING:
    from launcher.jobs.model import Job


def jobs_of(*names: str) -> list[Job]:
    """Return a job for every ``Owner repoN``, each a second younger than the one before."""
    split = [name.split() for name in names]
    return [
        waiting(f"{owner} {repo}", owner, repo[0], created=NOW + number) for number, (owner, repo) in enumerate(split)
    ]


def names(jobs: list[Job]) -> list[str]:
    return [job.id for job in jobs]


OWNERS, REPOS = st.sampled_from("ABCD"), st.sampled_from("xyz")
PRIORITIES = st.sampled_from((INTERACTIVE, PREBUILD))


@st.composite
def queues(draw: st.DrawFn) -> tuple[list[Job], list[Job]]:
    """Return waiting and running jobs."""
    made = draw(st.lists(st.tuples(OWNERS, REPOS, PRIORITIES, st.integers(0, 5), st.booleans()), max_size=30))
    jobs = [
        (waiting(f"{number:02d}", owner, repo, created=NOW + age, priority=priority), runs)
        for number, (owner, repo, priority, age, runs) in enumerate(made)
    ]
    return [job for job, runs in jobs if not runs], [job for job, runs in jobs if runs]


def test_the_example_of_the_documentation() -> None:
    queued = jobs_of("Ann x1", "Ann x2", "Ann x3", "Ann y1", "Ben x", "Cid z")
    running = jobs_of("Cid w")
    ordered = order(queued, running)
    assert names(ordered) == ["Ann x1", "Ben x", "Ann y1", "Cid z", "Ann x2", "Ann x3"]
    assert [job.position for job in ordered] == [1, 2, 3, 4, 5, 6]


def test_what_nobody_waits_for_comes_last() -> None:
    first, second = jobs_of("Ann x1", "Ben y1")
    assert names(order([replace(first, priority=PREBUILD), second], [])) == ["Ben y1", "Ann x1"]


def test_repositories_take_turns_between_people() -> None:
    queued = jobs_of("Ann x1", "Ben x2", "Cid x3", "Dan y1", "Eve y2")
    assert names(order(queued, [])) == ["Ann x1", "Dan y1", "Ben x2", "Eve y2", "Cid x3"]


def test_an_own_repository_that_is_being_built_waits_for_the_others() -> None:
    running = jobs_of("Ann x0")
    assert names(order(jobs_of("Ann x1", "Ann y1"), running)) == ["Ann y1", "Ann x1"]


@given(queues())
def test_the_order_depends_on_the_jobs_and_not_on_their_listing(queue: tuple[list[Job], list[Job]]) -> None:
    queued, running = queue
    ordered = order(queued, running)
    assert order(queued[::-1], running[::-1]) == ordered
    assert sorted(names(ordered)) == sorted(names(queued))
    assert [job.position for job in ordered] == list(range(1, len(queued) + 1))
    assert [job.priority for job in ordered] == sorted(job.priority for job in queued)


@given(queues())
def test_taking_the_first_changes_nothing_for_the_others(queue: tuple[list[Job], list[Job]]) -> None:
    queued, running = queue
    ordered = order(queued, running)
    if ordered:
        first, *rest = ordered
        left = [job for job in queued if job.id != first.id]
        assert names(order(left, [*running, first])) == names(rest)


@given(queues())
def test_nobody_has_two_turns_before_somebody_with_as_few_has_one(queue: tuple[list[Job], list[Job]]) -> None:
    queued, running = queue
    have = Counter(job.owner for job in running)
    ordered = order(queued, running)
    for index, job in enumerate(ordered):
        later = {other.owner for other in ordered[index:] if other.priority == job.priority}
        assert have[job.owner] == min(have[owner] for owner in later)
        have[job.owner] += 1


@given(queues(), st.integers(1, 20))
def test_a_pile_of_one_owner_delays_others_by_one_job_a_turn(queue: tuple[list[Job], list[Job]], pile: int) -> None:
    queued, running = queue
    more = [waiting(f"pile {number}", "E", "x", created=NOW + 9, priority=INTERACTIVE) for number in range(pile)]
    one, many = order([*queued, more[0]], running), order([*queued, *more], running)
    others = [job for job in one if job.owner != "E" and job.priority == INTERACTIVE]
    turns = Counter(job.owner for job in running)
    for job in others:
        before = [other for other in many if other.position <= job_in(many, job).position and other.owner == "E"]
        assert len(before) <= turns[job.owner] + 1
        turns[job.owner] += 1


def job_in(jobs: list[Job], wanted: Job) -> Job:
    return next(job for job in jobs if job.id == wanted.id)
