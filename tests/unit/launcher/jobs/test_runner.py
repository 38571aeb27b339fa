"""The runner with builders that exist in memory only: what it does when the store or a claim fails it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import OperationalError

from launcher.database import open_database
from launcher.jobs.model import INTERACTIVE, PREBUILD, Asked, BuildRequest, Result
from launcher.jobs.runner import Runner
from launcher.jobs.store import JobStore
from launcher.site_config import Builds, Service, Site
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from launcher.jobs.event_file import TimedEvent
    from launcher.jobs.executor import Standing
    from launcher.jobs.model import Job

RECORD = {"image": "registry.test/x:1", "digest": "sha256:1", "env_id": "e"}


@dataclass
class Builders:
    """An executor whose builders say ``lines`` and end when they may."""

    lines: int = 3
    may_end: threading.Event = field(default_factory=threading.Event)
    started: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    cleaned: list[str] = field(default_factory=list)
    unreadable: bool = False
    lost: bool = False
    refusal: str = ""
    name: str = "here"

    def own(self) -> bool:
        return True

    def disown(self) -> None:
        pass

    def start(self, job: Job) -> None:
        self.asked.append(job.id)
        if self.errors:
            raise self.errors.pop()
        if self.refusal:
            raise CasabinderError(self.refusal)
        self.started.append(job.id)

    def find(self, job: Job) -> Standing:
        if self.lost and job.attempt == 1:
            return "lost"
        if job.id not in self.started:
            return "absent"
        return "ended" if self.may_end.is_set() else "running"

    def follow(self, job_id: str, after: int) -> Iterator[list[TimedEvent]]:
        if self.unreadable:
            raise ValueError("what the builder wrote can't be read")
        for number in range(after, self.lines):
            yield [(float(number), {"kind": "message", "phase": "layers", "message": f"{number}"})]
        while not (self.may_end.is_set() or job_id in self.killed):
            yield []
            time.sleep(0.005)

    def outcome(self, job_id: str) -> Result:
        return Result("built", record=RECORD) if job_id not in self.killed else Result("failed", "killed")

    def kill(self, job_id: str) -> None:
        self.killed.append(job_id)

    def clean(self, job_id: str) -> None:
        self.cleaned.append(job_id)

    def known(self) -> list[str]:
        return []


class FailingStore(JobStore):
    """A store whose answers get lost: what was appended is there, and the caller does not know."""

    failures = 1

    def append(self, job_id: str, runner: str, new: Sequence[tuple[float, Mapping[str, Any]]]) -> int:
        number = super().append(job_id, runner, new)
        if self.failures:
            self.failures -= 1
            raise OSError("the connection was lost")
        return number


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return FailingStore(open_database(Service(), tmp_path))


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.jobs.runner._TROUBLE_SECONDS", 0.01)


def submit(store: JobStore, key: str, priority: int = INTERACTIVE) -> Job:
    request = BuildRequest(Asked("git", key), f"https://example.org/{key}", "main", "c" * 40)
    return store.submit(key, request, "user:a", priority=priority, now=1.0)[0]


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def state(store: JobStore, job: Job) -> str:
    found = store.get(job.id)
    assert found is not None
    return found.state


def site(**builds: int) -> Site:
    return Site(service=Service(builds=Builds(**builds)))


def test_an_answer_of_the_store_that_is_lost_doubles_nothing(store: JobStore) -> None:
    builders, job = Builders(), submit(store, "a")
    builders.may_end.set()
    nudged: list[str] = []
    runner = Runner(store, builders, site(), lambda: 2.0, nudged=nudged.append)
    runner.start()
    until(lambda: state(store, job) == "built")
    runner.stop()
    told = [event.data.get("message") or event.data["state"] for event in store.events(job.id)]
    assert told == ["queued", "running", "0", "1", "2", "built"]
    assert set(nudged) == {job.id}


def test_no_more_jobs_than_the_site_says_are_built_at_once(store: JobStore) -> None:
    builders = Builders()
    jobs = [submit(store, key) for key in "abcde"]
    runner = Runner(store, builders, site(concurrent=2), lambda: 2.0)
    runner.start()
    until(lambda: runner.active == 2)
    assert [state(store, job) for job in jobs].count("queued") == 3
    builders.may_end.set()
    until(lambda: all(state(store, job) == "built" for job in jobs))
    runner.stop()
    assert len(builders.started) == 5


def test_a_builder_that_can_not_be_started_is_a_failure(store: JobStore) -> None:
    job = submit(store, "a")
    runner = Runner(store, Builders(refusal="the disk is full"), site(), lambda: 2.0)
    runner.start()
    until(lambda: state(store, job) == "failed")
    runner.stop()
    found = store.get(job.id)
    assert found is not None
    assert found.message == "the disk is full"


def test_a_job_that_was_given_to_another_runner_is_left_alone(store: JobStore) -> None:
    builders, job = Builders(), submit(store, "a")
    runner = Runner(store, builders, site(), lambda: 2.0)
    runner.start()
    until(lambda: store.heads([job.id])[job.id] == 5)
    mine = store.get(job.id)
    assert mine is not None
    builders.name = "elsewhere"  # what this runner does not know of, as if it had slept
    store.requeue(mine, "it was lost", 3.0)
    assert store.claim(job.id, "another", 3.0)
    builders.may_end.set()
    until(lambda: builders.killed == [job.id])
    runner.stop()
    assert state(store, job) == "running"
    assert store.events(job.id)[-1].data["attempt"] == 2


def test_a_runner_that_stops_leaves_its_builds_to_the_next(store: JobStore) -> None:
    builders, job = Builders(), submit(store, "a")
    first = Runner(store, builders, site(), lambda: 2.0)
    first.start()
    until(lambda: store.heads([job.id])[job.id] == 5)
    first.stop()
    assert state(store, job) == "running"
    second = Runner(store, builders, site(), lambda: 2.0)
    second.start()
    builders.may_end.set()
    until(lambda: state(store, job) == "built")
    second.stop()
    assert builders.started == [job.id]
    assert [event.number for event in store.events(job.id)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("concurrent", "at_once"), [(1, 1), (2, 1), (3, 2)])
def test_what_nobody_waits_for_leaves_a_place(store: JobStore, concurrent: int, at_once: int) -> None:
    builders = Builders()
    runner = Runner(store, builders, site(concurrent=concurrent))
    prebuilds = [submit(store, f"prebuild-{number}", PREBUILD) for number in range(3)]
    runner.start()
    try:
        until(lambda: len(builders.started) == at_once)
        click = submit(store, "click")
        runner.wake()
        if concurrent > 1:
            until(lambda: click.id in builders.started)
        assert sum(job.id in builders.started for job in prebuilds) == at_once
        builders.may_end.set()
        until(lambda: all(state(store, job) == "built" for job in (*prebuilds, click)))
    finally:
        runner.stop()


def trouble(times: int) -> list[Exception]:
    return [OperationalError("SELECT", {}, OSError("the connection was lost")) for _ in range(times)]


def test_a_job_whose_start_met_a_passing_error_is_started_again(store: JobStore) -> None:
    first, second = submit(store, "a"), submit(store, "b")
    builders = Builders(errors=trouble(3))
    builders.may_end.set()
    runner = Runner(store, builders, site(concurrent=1), lambda: 2.0)
    runner.start()
    until(lambda: state(store, first) == state(store, second) == "built")
    runner.stop()
    assert builders.asked[:4] == builders.asked[:1] * 4  # it keeps its place: no more are claimed than can be built
    assert set(builders.asked[4:]) == {first.id, second.id} - {builders.asked[0]}


def test_a_job_that_can_not_be_started_leaves_the_other_places_alone(store: JobStore) -> None:
    first, second = submit(store, "a"), submit(store, "b")

    class Broken(Builders):
        def start(self, job: Job) -> None:
            if job.id == first.id:
                raise OSError("no vault")
            super().start(job)

    builders = Broken()
    builders.may_end.set()
    runner = Runner(store, builders, site(concurrent=2), lambda: 2.0)
    runner.start()
    until(lambda: state(store, second) == "built")
    assert state(store, first) == "running"
    store.cancel(first.id, 3.0)
    until(lambda: state(store, first) == "cancelled")
    runner.stop()


def test_a_job_whose_thread_can_not_be_started_is_followed_later(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    builders, job = Builders(), submit(store, "a")
    builders.may_end.set()
    start, refused = threading.Thread.start, [RuntimeError("can't start new thread")]

    def start_at_second_try(thread: threading.Thread) -> None:
        if thread.name.startswith("build-") and refused:
            raise refused.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_at_second_try)
    runner = Runner(store, builders, site(), lambda: 2.0)
    runner.start()
    until(lambda: state(store, job) == "built")
    runner.stop()
    assert builders.asked == [job.id]


def test_a_build_that_can_not_be_followed_can_be_cancelled(store: JobStore) -> None:
    builders, job = Builders(unreadable=True), submit(store, "a")
    runner = Runner(store, builders, site(), lambda: 2.0)
    runner.start()
    until(lambda: builders.started == [job.id])
    store.cancel(job.id, 3.0)
    runner.wake()
    until(lambda: state(store, job) == "cancelled")
    until(lambda: not runner.active)
    runner.stop()
    assert builders.killed == [job.id]


def test_a_build_that_can_not_be_followed_ends_when_its_time_is_over(store: JobStore) -> None:
    job, now = submit(store, "a"), [2.0]
    runner = Runner(store, Builders(unreadable=True), site(seconds=60), lambda: now[0])
    runner.start()
    until(lambda: state(store, job) == "running")
    now[0] = 63.0
    until(lambda: state(store, job) == "failed")
    runner.stop()


def test_nothing_is_left_of_a_builder_that_was_lost(store: JobStore) -> None:
    builders, job = Builders(lost=True), submit(store, "a")
    assert store.claim(job.id, "here", 1.0)
    runner = Runner(store, builders, site(), lambda: 2.0)
    runner.start()
    until(lambda: builders.started == [job.id])
    runner.stop()
    assert builders.cleaned == [job.id]  # its token too: nobody knows when, and where, it is built again


def test_a_build_that_can_not_be_followed_is_left_to_the_runner_that_has_it(store: JobStore) -> None:
    builders, job, now = Builders(unreadable=True), submit(store, "a"), [2.0]
    runner = Runner(store, builders, site(seconds=60), lambda: now[0])
    runner.start()
    until(lambda: builders.started == [job.id])
    mine = store.get(job.id)
    assert mine is not None
    builders.name = "elsewhere"
    store.requeue(mine, "it was lost", 3.0)
    assert store.claim(job.id, "another", 3.0)
    now[0] = 63.0
    until(lambda: not runner.active)
    runner.stop()
    assert state(store, job) == "running"
    assert job.id in builders.killed
