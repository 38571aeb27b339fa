"""The store, the log of launches, the vault and the rates with several processes at once, on SQLite and PostgreSQL."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from launcher.database import open_database
from launcher.hub.launch_log import LaunchLog
from launcher.jobs.model import Result
from launcher.jobs.store import JobStore, LostClaimError, Room
from launcher.refusal import RefusedError
from launcher.security.deliveries import Deliveries
from launcher.security.keys import Keys
from launcher.security.rates import Rates
from launcher.security.vault import Vault
from launcher.site_config import Launches, Rate, Service
from tests.testbed.jobs import NOW, key, record, request
from tests.testbed.postgres import PostgresServer, running_postgres
from tests.unit.launcher.hub.test_launch_log import ENTRY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.integration

PROCESSES = 8
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.integration.service.test_store"])
_starts: Any = None
"""In a process of the pool: the barrier at which all wait for each other, so that what they do happens at once."""


@dataclass(frozen=True)
class Place:
    """A database that does not exist yet, as every process opens it."""

    service: Service
    cache: Path

    @contextmanager
    def opened(self) -> Iterator[Engine]:
        engine = open_database(self.service, self.cache)
        yield engine
        engine.dispose()


@dataclass(frozen=True)
class Processes:
    """Processes that do the same at once."""

    pool: Any

    def all(self, work: Callable[..., Any], place: Place, *arguments: Any) -> list[Any]:
        """Return what ``work`` returned in each process, which opened the database for it."""
        tasks = [(work, place, number, *arguments) for number in range(PROCESSES)]
        return list(self.pool.starmap(_one, tasks, chunksize=1))


def _prepare(starts: Any) -> None:
    global _starts
    _starts = starts


def _one(work: Callable[..., Any], place: Place, number: int, *arguments: Any) -> Any:
    _starts.wait()
    with place.opened() as engine:
        return work(engine, number, *arguments)


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with SERVER.Pool(PROCESSES, _prepare, (SERVER.Barrier(PROCESSES),)) as pool:
        yield Processes(pool)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(Service(), tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create(request.node.name.partition("[")[0])
    return Place(Service(database=url, database_password=server.password), tmp_path)


def submit_all(engine: Engine, number: int, keys: list[str]) -> list[tuple[str, bool]]:
    store = JobStore(engine)
    made = [store.submit(text, request(), f"visitor:{number}", now=NOW) for text in keys]
    return [(job.id, new) for job, new in made]


def test_one_job_per_key_across_processes(place: Place, processes: Processes) -> None:
    keys = [key(str(number)) for number in range(20)]
    answers = processes.all(submit_all, place, keys)
    for jobs in zip(*answers, strict=True):
        assert len({job_id for job_id, _ in jobs}) == 1
        assert sum(new for _, new in jobs) == 1
    with place.opened() as engine:
        store = JobStore(engine)
        assert [job.position for job in store.waiting()] == list(range(1, 21))
        assert {len(store.events(job.id)) for job in store.waiting()} == {1}


def submit_while_there_is_room(engine: Engine, number: int) -> int:
    store, made = JobStore(engine), 0
    for attempt in range(5):
        try:
            owner = f"visitor:{number}"
            store.submit(key(f"{number} {attempt}"), request(), owner, room=Room(queue=12, owner=3), now=NOW)
            made += 1
        except RefusedError:
            pass
    return made


def test_limits_are_exact_across_processes(place: Place, processes: Processes) -> None:
    made = processes.all(submit_while_there_is_room, place)
    assert sum(made) == 12
    assert max(made) <= 3
    with place.opened() as engine:
        assert len(JobStore(engine).waiting()) == 12


def claim_and_build(engine: Engine, number: int) -> list[str]:
    store, runner, built = JobStore(engine), f"runner {number}", []
    while waiting := store.waiting():
        for job in waiting:
            if store.claim(job.id, runner, NOW):
                built.append(job.id)
                for line in range(5):
                    store.append(job.id, runner, [(NOW + line, {"kind": "message", "message": runner})] * 10)
                    store.beat(runner, NOW)
                store.finish(job.id, runner, Result("built", record=record()), NOW)
                break
    return built


def test_every_job_is_claimed_once_and_its_events_are_numbered_without_gaps(place: Place, processes: Processes) -> None:
    with place.opened() as engine:
        submit_all(engine, 0, [key(str(number)) for number in range(24)])
    claimed = processes.all(claim_and_build, place)
    assert Counter(job_id for built in claimed for job_id in built).most_common(1)[0][1] == 1
    with place.opened() as engine:
        store = JobStore(engine)
        jobs = store.find()
        assert {job.state for job in jobs} == {"built"}
        assert len(jobs) == 24
        for job in jobs:
            log = store.events(job.id)
            assert [event.number for event in log] == list(range(1, 54))
            assert (store.heads([job.id]), log[-1].last) == ({job.id: 53}, True)
            assert len({event.data["message"] for event in log if event.data["kind"] == "message"}) == 1


def claim_servers(engine: Engine, number: int, servers: list[str]) -> list[tuple[str, bool]]:
    log, claimed = LaunchLog(engine), []
    for server in servers:
        launch = replace(ENTRY.launch, id=f"{number} {server}", server=server)
        try:
            entry, starting = log.claim(replace(ENTRY, launch=launch), Launches(total=15, per_user=0))
            claimed.append((entry.launch.id, starting))
        except RefusedError:
            claimed.append(("", False))
    return claimed


def test_a_server_is_started_once_and_no_more_than_may_run(place: Place, processes: Processes) -> None:
    claimed = processes.all(claim_servers, place, [str(number) for number in range(20)])
    for answers in zip(*claimed, strict=True):
        assert len({launch_id for launch_id, _ in answers}) == 1
        assert sum(starting for _, starting in answers) == (answers[0][0] != "")
    with place.opened() as engine:
        assert len(LaunchLog(engine).find(active=True)) == 15


def append_to(engine: Engine, number: int, job_id: str) -> None:
    store = JobStore(engine)
    for line in range(20):
        store.append(job_id, "all", [(NOW, {"kind": "message", "message": f"{number} {line} {part}"}) for part in "ab"])


def test_appending_at_once_loses_nothing_and_a_reader_sees_no_gap(place: Place, processes: Processes) -> None:
    with place.opened() as engine:
        store = JobStore(engine)
        job, _ = store.submit(key("one"), request(), "user:ann", now=NOW)
        store.claim(job.id, "all", NOW)
        read: list[int] = []
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(processes.all, append_to, place, job.id)
            while not writing.done() or len(read) < store.heads([job.id])[job.id]:
                read += [event.number for event in store.events(job.id, len(read))]
                assert read == list(range(1, len(read) + 1))
            writing.result()
        assert len(read) == 2 + PROCESSES * 20 * 2
        messages = [event.data["message"] for event in store.events(job.id, 2)]
        for number in range(PROCESSES):
            own = [message for message in messages if message.startswith(f"{number} ")]
            assert own == [f"{number} {line} {part}" for line in range(20) for part in "ab"]


def test_a_life_with_a_second_attempt(place: Place) -> None:
    with place.opened() as engine:
        store = JobStore(engine)
        job, _ = store.submit(key("one"), request(), "user:ann", private=True, now=NOW)
        store.claim(job.id, "first", NOW)
        odd = {"kind": "message", "message": "NUL \0, half a pair \ud800, é"}
        store.append(job.id, "first", [(NOW + 0.125, odd)])
        (abandoned,) = store.abandoned(NOW + 60)
        assert store.requeue(abandoned, "its builder is gone", NOW + 60).attempt == 2
        assert store.requeue(abandoned, "its builder is gone", NOW + 61).attempt == 2
        with pytest.raises(LostClaimError):
            store.append(job.id, "first", [(NOW, odd)])
        store.claim(job.id, "second", NOW + 62)
        ended = store.finish(job.id, "second", Result("failed", "it is \0broken \ud800"), NOW + 63)
        assert (ended.private, ended.message, ended.finished) == (True, "it is broken ?", NOW + 63)
        log = store.events(job.id)
        assert [event.number for event in log] == [1, 2, 3, 4, 5, 6]
        assert (log[2].data, log[2].time) == (odd, NOW + 0.125)
        assert store.find(viewer="user:ben") == []
        image = store.add_built(key("one"), request(), "user:ann", record(), now=NOW + 64)
        assert store.add_built(key("one"), request(), "user:ann", record(), now=NOW + 65) == image
        assert store.find(state="built") == [image]
        assert store.purge(NOW + 64) == 1
        assert store.find() == [image]
        assert store.record(image.id) == record()


def take(engine: Engine, number: int) -> int:
    rates, taken = Rates(engine), 0
    for attempt in range(10):
        try:
            rates.take("launch:192.0.2.1", Rate(requests=30, seconds=60), NOW + attempt)
            taken += 1
        except RefusedError:
            pass
        rates.take(f"other {number} {attempt}", Rate(requests=1, seconds=1), NOW + attempt)
    return taken


def test_processes_count_together(place: Place, processes: Processes) -> None:
    assert sum(processes.all(take, place)) == 30
    with place.opened() as engine:
        rates = Rates(engine)
        with pytest.raises(RefusedError):
            rates.take("launch:192.0.2.1", Rate(requests=30, seconds=60), NOW + 50)
        assert rates.take("launch:192.0.2.1", Rate(requests=30, seconds=60), NOW + 70).remaining == 29


def deliver(engine: Engine, number: int) -> list[int]:
    deliveries = Deliveries(engine)
    names = [[f"message {message}", f"number {message % 3}"] for message in range(12)]
    return [at for at, name in enumerate(names) if deliveries.take(name[:: -1 if number % 2 else 1], NOW + at, 3600)]


def test_one_process_takes_a_delivery(place: Place, processes: Processes) -> None:
    taken = [message for found in processes.all(deliver, place) for message in found]
    assert sorted(message % 3 for message in taken) == [0, 1, 2]
    with place.opened() as engine:
        deliveries = Deliveries(engine)
        assert not deliveries.take(["number 0"], NOW + 3599, 3600)
        assert deliveries.take(["message 0", "number 0"], NOW + 7200, 3600)


def test_tokens(place: Place) -> None:
    with place.opened() as engine:
        vault = Vault(engine, Keys(b"s" * 32))
        credential = vault.put("user:ann", "github.com", "first", NOW)
        assert vault.put("user:ann", "github.com", "second", NOW + 1) == credential
        assert vault.reveal(credential) == ("github.com", "second")
        assert vault.list("user:ann") == [(credential, "github.com", NOW + 1)]
        assert vault.delete("user:ann", credential)
        assert vault.find("user:ann", "github.com") is None
