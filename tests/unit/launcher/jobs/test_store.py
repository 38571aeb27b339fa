"""The store, on SQLite: a job's life, its log, who may change it, what is found and what is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from launcher.database import open_database
from launcher.jobs.model import PREBUILD, Job, Result
from launcher.jobs.store import JobStore, LostClaimError, Room
from launcher.refusal import RefusedError
from launcher.site_config import Service
from tests.testbed.jobs import NOW, key, record, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANN, BEN = "user:ann", "visitor:ben"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    engine = open_database(Service(), tmp_path)
    yield JobStore(engine)
    engine.dispose()


def queued(store: JobStore, text: str = "one", owner: str = ANN, **more: object) -> Job:
    job, new = store.submit(key(text), request(), owner, now=NOW, **more)  # type: ignore[arg-type]
    assert new
    return job


def running(store: JobStore, runner: str = "first") -> Job:
    job = queued(store)
    assert store.claim(job.id, runner, NOW + 1)
    return known(store, job)


def known(store: JobStore, job: Job) -> Job:
    found = store.get(job.id)
    assert found is not None
    return found


def states(store: JobStore, job: Job) -> list[object]:
    return [event.data["state"] for event in store.events(job.id) if event.data["kind"] == "state"]


def test_a_job_of_a_key_is_made_once_while_it_is_active(store: JobStore) -> None:
    job = queued(store, priority=PREBUILD)
    assert (job.position, job.attempt, job.last_event, job.state) == (1, 1, 1, "queued")
    again, new = store.submit(key("one"), request(), BEN, now=NOW + 1)
    assert (again.id, new, again.owner, again.priority) == (job.id, False, ANN, 0)
    assert store.claim(job.id, "first", NOW)
    assert store.submit(key("one"), request(), BEN, now=NOW + 2)[1] is False
    store.finish(job.id, "first", Result("failed", "no such package"), NOW + 3)
    other, new = store.submit(key("one"), request(), BEN, now=NOW + 4)
    assert (new, other.id != job.id, other.owner) == (True, True, BEN)
    assert store.latest(key("one")) == other


def test_a_life_and_its_log(store: JobStore) -> None:
    job = running(store)
    assert (job.state, job.started, job.position) == ("running", NOW + 1, 0)
    lines = [(NOW + 2, {"kind": "message", "message": f"{number}\0\ud800"}) for number in range(3)]
    assert store.append(job.id, "first", lines) == 5
    assert store.append(job.id, "first", []) == 5
    ended = store.finish(job.id, "first", Result("built", record={**record(), "layers": [1]}), NOW + 9)
    assert (ended.state, ended.finished, ended.digest, ended.last_event) == ("built", NOW + 9, record()["digest"], 6)
    log = store.events(job.id)
    assert [event.number for event in log] == [1, 2, 3, 4, 5, 6]
    assert log[2].data == {"kind": "message", "message": "0\0\ud800"}
    assert [event.last for event in log] == [False] * 5 + [True]
    assert log[-1].data == {"kind": "state", "state": "built", "attempt": 1, **record()}
    assert store.events(job.id, 4) == log[4:]
    assert store.events(job.id, 1, 2) == log[1:3]
    assert store.record(job.id) == {**record(), "layers": [1]}
    assert store.heads([job.id, "nobody"]) == {job.id: 6}
    assert store.heads([]) == {}


def test_a_failure_says_why_in_its_last_event(store: JobStore) -> None:
    job = running(store)
    ended = store.finish(job.id, "first", Result("failed", "it is \0broken \ud800"), NOW + 9)
    assert ended.message == store.events(job.id)[-1].data["message"] == "it is broken ?"
    assert store.record(job.id) is None


def test_only_who_has_the_job_may_change_it(store: JobStore) -> None:
    job = running(store)
    assert not store.claim(job.id, "second", NOW + 2)
    with pytest.raises(LostClaimError):
        store.append(job.id, "second", [(NOW, {"kind": "message"})])
    with pytest.raises(LostClaimError):
        store.finish(job.id, "second", Result("failed", "no"), NOW)
    store.finish(job.id, "first", Result("failed", "no"), NOW)
    with pytest.raises(LostClaimError):
        store.append(job.id, "first", [(NOW, {"kind": "message"})])
    assert states(store, job) == ["queued", "running", "failed"]


def test_an_abandoned_job_is_queued_again_once_and_its_log_goes_on(store: JobStore) -> None:
    job = running(store)
    store.append(job.id, "first", [(NOW, {"kind": "message", "message": "before"})])
    store.beat("first", NOW + 10)
    assert store.abandoned(NOW + 10) == []
    assert store.running("first") == store.running() == store.abandoned(NOW + 11) == [known(store, job)]
    assert store.running("second") == []
    again = store.requeue(job, "its builder is gone", NOW + 20)
    assert (again.state, again.attempt, again.started, again.last_event, again.position) == ("queued", 2, None, 4, 1)
    assert store.events(job.id)[-1].data == {
        "kind": "state",
        "state": "queued",
        "attempt": 2,
        "message": "its builder is gone",
    }
    assert store.claim(job.id, "second", NOW + 21)
    # Another replica found it abandoned too, and is late.
    assert store.requeue(job, "its builder is gone", NOW + 22).state == "running"
    assert store.append(job.id, "second", [(NOW, {"kind": "message"})]) == 6
    with pytest.raises(LostClaimError):
        store.append(job.id, "first", [(NOW, {"kind": "message"})])


def test_cancelling(store: JobStore) -> None:
    job = queued(store)
    assert store.cancel(job.id, NOW + 1).state == "cancelled"
    assert store.events(job.id)[-1].last
    assert not store.claim(job.id, "first", NOW + 2)
    job = running(store)
    assert (store.cancel(job.id, NOW + 2).state, known(store, job).cancelling) == ("running", True)
    ended = store.finish(job.id, "first", Result("cancelled", "by its owner"), NOW + 3)
    assert (ended.state, ended.cancelling) == ("cancelled", False)
    assert store.cancel(job.id, NOW + 4) == ended
    with pytest.raises(RefusedError, match="no such build") as caught:
        store.cancel("nobody", NOW)
    assert caught.value.status == 404


def test_a_job_to_be_cancelled_is_not_queued_again(store: JobStore) -> None:
    job = running(store)
    store.cancel(job.id, NOW + 2)
    assert store.requeue(job, "its builder is gone", NOW + 3).state == "cancelled"
    assert states(store, job) == ["queued", "running", "cancelled"]


def test_an_image_that_is_there_is_a_job_that_has_ended(store: JobStore) -> None:
    job = store.add_built(key("one"), request(), ANN, record(), now=NOW)
    assert (job.state, job.digest, job.finished) == ("built", record()["digest"], NOW)
    assert [event.last for event in store.events(job.id)] == [True]
    assert store.record(job.id) == record()
    assert store.add_built(key("one"), request(), BEN, record(), now=NOW + 1) == job
    assert store.add_built(key("one"), request(), BEN, record("e" * 64), now=NOW + 1).id != job.id


def test_finding(store: JobStore) -> None:
    made = [queued(store, str(number), ANN if number % 2 else BEN, private=number == 3) for number in range(5)]
    store.cancel(made[1].id, NOW)
    newest = [job.id for job in made[::-1]]
    assert [job.id for job in store.find()] == newest
    assert [job.id for job in store.find(limit=2)] == newest[:2]
    assert [job.id for job in store.find(limit=2, before=newest[1])] == newest[2:4]
    assert store.find(before="nobody") == []
    assert [job.id for job in store.find(owner=ANN)] == [made[3].id, made[1].id]
    assert [job.id for job in store.find(viewer=BEN)] == [job.id for job in made[::-1] if job.id != made[3].id]
    assert len(store.find(viewer=ANN)) == 5
    assert [job.id for job in store.find(state="cancelled")] == [made[1].id]
    assert store.find(repo="https://elsewhere.example.org/x") == []
    assert len(store.find(repo=request().repo)) == 5
    positions = {job.id: job.position for job in store.waiting()}
    assert {job.id: job.position for job in store.find() if job.position} == positions
    assert store.get("nobody") is None
    assert store.latest("nobody") is None


def test_there_is_room_for_so_many_jobs(store: JobStore) -> None:
    room = Room(queue=3, owner=2)
    first = queued(store, "1", ANN, room=room)
    store.claim(first.id, "first", NOW)
    queued(store, "2", ANN, room=room)
    with pytest.raises(RefusedError, match="2 builds of yours") as caught:
        store.submit(key("3"), request(), ANN, room=room, now=NOW)
    assert (caught.value.status, caught.value.retry_after > 0) == (429, True)
    assert store.submit(key("2"), request(), ANN, room=room, now=NOW)[1] is False
    for text in "34":
        queued(store, text, ANN, room=Room(queue=3, owner=0))
    with pytest.raises(RefusedError, match="3 builds are queued") as caught:
        store.submit(key("5"), request(), BEN, room=room, now=NOW)
    assert caught.value.status == 503
    assert len(store.find()) == 4


def test_old_jobs_are_deleted_with_their_logs(store: JobStore) -> None:
    old, lives = store.add_built(key("one"), request(), ANN, record(), now=NOW), queued(store, "two")
    recent = store.add_built(key("three"), request(), ANN, record(), now=NOW + 100)
    assert store.purge(NOW + 50) == 1
    assert {job.id for job in store.find()} == {lives.id, recent.id}
    assert (store.events(old.id), store.record(old.id)) == ([], None)
    assert store.purge(NOW + 50) == 0
