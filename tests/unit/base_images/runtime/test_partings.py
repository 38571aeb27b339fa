from __future__ import annotations

from casabinder_runtime.pools.partings import SILENT_SECONDS, Partings, announcements
from casabinder_runtime.pools.schedd import JobState, QueuedJob

RUNS = QueuedJob(1, "w-0", "running", node="node2", started=100)
JOINED = frozenset({"w-0"})
NONE: frozenset[str] = frozenset()


def test_a_worker_that_has_not_joined_yet_is_no_parting() -> None:
    assert Partings().look([RUNS], NONE, 0) == Partings().look([RUNS], NONE, 100) == ({}, {})


def test_a_worker_whose_job_runs_on_without_it_is_lost_after_a_while_and_told_once() -> None:
    partings = Partings()
    partings.look([RUNS], JOINED, 0)
    assert partings.look([RUNS], NONE, 10) == ({}, {})
    assert partings.look([RUNS], NONE, 10 + SILENT_SECONDS) == ({}, {})
    assert partings.look([RUNS], NONE, 11 + SILENT_SECONDS) == ({}, {"w-0": "is lost (its node node2 does not answer)"})
    assert partings.look([RUNS], NONE, 99) == ({}, {})


def test_a_worker_that_joins_again_is_forgiven() -> None:
    partings = Partings()
    for joined, now in ((JOINED, 0), (NONE, 1), (JOINED, 5), (NONE, 6)):
        partings.look([RUNS], joined, now)
    assert partings.look([RUNS], NONE, 7 + SILENT_SECONDS - 2) == ({}, {})


def test_a_worker_that_waits_again_or_runs_elsewhere_had_to_leave() -> None:
    idle = QueuedJob(1, "w-0", "idle", node="node2", started=100, vacated="Job vacated by schedd")
    again = QueuedJob(1, "w-0", "fetching", node="node1", started=130)
    for then, why in ((idle, " (Job vacated by schedd)"), (again, "")):
        partings = Partings()
        partings.look([RUNS], JOINED, 0)
        assert partings.look([then], NONE, 1) == ({"w-0": f"had to leave its node node2{why}"}, {})
        assert partings.look([then], NONE, 2) == ({}, {})


def test_jobs_that_end_are_told_by_others() -> None:
    states: tuple[JobState, ...] = ("ended", "held", "leaving")
    for state in states:
        partings = Partings()
        partings.look([RUNS], JOINED, 0)
        job = QueuedJob(1, "w-0", state, started=100)
        assert partings.look([job], NONE, 1) == partings.look([job], NONE, 99) == ({}, {})


def test_equal_fates_are_one_sentence() -> None:
    lost, ended = "is lost (its node n1 does not answer)", "ended with status 1: ImportError: x"
    fates = {"w-0": lost, "w-1": ended} | {f"w-{number}": lost for number in range(2, 6)}
    assert announcements(fates, ": go on") == [
        f"5 workers (w-0, w-2, w-3, ...), each {lost}: go on",
        f"worker w-1 {ended}: go on",
    ]
