from __future__ import annotations

from collections import Counter
from dataclasses import replace

from casabinder_runtime.pools.queue_watch import Finding, groups, longest, missing, sentences, summarize
from casabinder_runtime.pools.schedd import QueuedJob
from casabinder_runtime.pools.submission import WorkerShape

SHAPE = WorkerShape(cores=1, memory=2**31, disk=2**32)


def told(*jobs: QueuedJob, joined: frozenset[str] = frozenset()) -> list[str]:
    """Return what is said of jobs."""
    return sentences(groups(summarize(jobs, joined, SHAPE)))


def test_workers_that_have_joined_are_not_spoken_of() -> None:
    assert told(QueuedJob(1, "w-0", "running"), joined=frozenset({"w-0"})) == []


def test_equal_fates_are_counted() -> None:
    jobs = [
        QueuedJob(1, "w-0", "running"),
        QueuedJob(2, "w-1", "held", "the disk is full"),
        QueuedJob(3, "w-2", "held", "the disk is full"),
        QueuedJob(4, "w-3", "submitted"),
        QueuedJob(5, "w-4", "idle"),
        QueuedJob(6, "w-5", "ended", "exit status 0"),
    ]
    assert told(*jobs) == ["2 idle in the queue", "1 starting", "2 held: the disk is full"]


def test_a_slot_that_is_not_there_is_described() -> None:
    assert told(QueuedJob(1, "w-0", "idle", "no match found")) == [
        "1 idle in the queue: no free slot has 1 core, 2.00 GiB of memory and 4.00 GiB of disk (no match found)"
    ]


def test_a_gpu_that_is_not_there_is_described() -> None:
    shape = replace(SHAPE, gpus=1, cuda_driver="12.4")
    assert sentences(groups(summarize([QueuedJob(1, "w-0", "idle", "no match found")], frozenset(), shape))) == [
        "1 idle in the queue: no free slot has a GPU whose driver supports CUDA 12.4 with 1 core, 2.00 GiB of memory "
        "and 4.00 GiB of disk (no match found)"
    ]


def test_lost_are_those_whose_jobs_ended_or_went_unless_they_are_still_joined() -> None:
    known = [("w-0", 1), ("w-1", 2), ("w-2", 3), ("w-3", 4)]
    jobs = [QueuedJob(1, "w-0", "running"), QueuedJob(2, "w-1", "ended"), QueuedJob(4, "w-3", "ended")]
    assert missing(known, jobs, frozenset({"w-3"})) == {"w-1", "w-2"}


def test_how_long_something_takes_is_said_in_steps() -> None:
    jobs = [
        QueuedJob(1, "w-0", "fetching", started=100),
        QueuedJob(2, "w-1", "running", started=150),
        QueuedJob(3, "w-2", "running", started=120),
        QueuedJob(4, "w-3", "running", started=1),
    ]
    joined = frozenset({"w-3"})
    found = summarize(jobs, joined, SHAPE)

    def said(now: float) -> list[str]:
        return sentences(groups(found, longest(jobs, joined, now)))

    assert said(152) == ["1 pulling the image for 50 s", "2 starting for 30 s"]
    assert said(123) == ["1 pulling the image for 20 s", "2 starting"]
    assert said(290) == ["1 pulling the image for 3 min", "2 starting for 2 min"]


def test_a_schedd_that_does_not_answer_is_a_sentence_without_a_count() -> None:
    assert sentences(groups(Counter({Finding("", "the schedd can't be reached"): 1}))) == [
        "the schedd can't be reached"
    ]


def test_the_page_is_told_what_needs_attention() -> None:
    jobs = [
        QueuedJob(1, "w-0", "held", "it says why"),
        QueuedJob(2, "w-1", "idle", "rejected"),
        QueuedJob(3, "w-2", "running"),
    ]
    found = groups(summarize(jobs, set(), SHAPE))
    assert [(one.what, one.level) for one in found] == [
        ("starting", ""),
        ("held", "failed"),
        ("idle in the queue", "delayed"),
    ]
