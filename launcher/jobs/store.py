"""Jobs in the database: the one thing that replicas share.

Every method is one short transaction and may be called from any thread. The statement that changes a job says in its
``WHERE`` what the job must be (queued, or this runner's): whoever comes second changes nothing. An event's number is
handed out by the same transaction that stores it, from ``last_event`` of the job's row, so that numbers have no gaps
and whoever has read up to one has missed nothing before it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from launcher.database import alone, reading
from launcher.jobs.model import ENDED, INTERACTIVE
from launcher.jobs.queue import Place, arrange, order
from launcher.jobs.schema import event_of, events, job_columns, job_of, jobs, records
from launcher.refusal import RefusedError
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from launcher.jobs.model import BuildRequest, Job, JobEvent, Result, State

_IMAGE = ("image", "digest", "env_id")


class LostClaimError(CasabinderError):
    """A job is no longer this runner's: it has ended, or another runner has it."""


@dataclass(frozen=True)
class Room:
    """How many jobs may be queued, and how many of one owner's may be queued or running (0: any number)."""

    queue: int
    owner: int


class JobStore:
    """Jobs, their events and the records of what they built."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- making jobs ---------------------------------------------------------------------------------------------

    def submit(
        self,
        key: str,
        request: BuildRequest,
        owner: str,
        *,
        private: bool = False,
        priority: int = INTERACTIVE,
        room: Room | None = None,
        now: float,
    ) -> tuple[Job, bool]:
        """Return the job of the key that is queued or running, or a new one, and whether it is new.

        A job that nobody waited for becomes one that somebody waits for when asked for so. Raises
        :class:`RefusedError` when there is no ``room`` for a new one.
        """
        values = {"key": key, "request": request, "owner": owner, "private": private, "created": now}
        while True:
            with self._engine.begin() as connection:
                found = _active(connection, key)
                if found is not None:
                    if priority < found.priority:
                        raised = update(jobs).where(jobs.c.id == found.id).values(priority=priority)
                        connection.execute(raised)
                        found = replace(found, priority=priority)
                    return _placed(connection, [found])[0], False
                if room is not None:
                    _check_room(connection, room, owner)
                try:
                    with connection.begin_nested():
                        job_id = _insert(connection, {**values, "state": "queued", "priority": priority})
                except IntegrityError:
                    continue  # another process was first: on PostgreSQL its job was not visible yet
                job = _placed(connection, [_get(connection, job_id)])[0]
                data = {"kind": "state", "state": "queued", "position": job.position, "attempt": job.attempt}
                _write_events(connection, job_id, 1, [(now, data)])
                return job, True

    def add_built(
        self,
        key: str,
        request: BuildRequest,
        owner: str,
        record: Mapping[str, Any],
        *,
        private: bool = False,
        now: float,
    ) -> Job:
        """Return a built job for an image that was found: the latest of the key with its digest, or a new one."""
        with self._engine.begin() as connection:
            same = (jobs.c.key == key, jobs.c.state == "built", jobs.c.digest == record["digest"])
            row = connection.execute(select(*job_columns).where(*same).order_by(jobs.c.seq.desc()).limit(1)).first()
            if row is not None:
                return job_of(row)
            values = {"key": key, "request": request, "owner": owner, "private": private, "created": now}
            image = {name: record[name] for name in _IMAGE}
            ended = {"state": "built", "priority": INTERACTIVE, "started": now, "finished": now, **image}
            job_id = _insert(connection, {**values, **ended})
            _write_events(connection, job_id, 1, [(now, {"kind": "state", "state": "built", **image})])
            connection.execute(insert(records), {"job": job_id, "record": dict(record)})
            return _get(connection, job_id)

    # --- reading -------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        """Return a job."""
        with reading(self._engine) as connection:
            row = connection.execute(select(*job_columns).where(jobs.c.id == job_id)).first()
            return None if row is None else _placed(connection, [job_of(row)])[0]

    def latest(self, key: str) -> Job | None:
        """Return the newest job of a key."""
        newest = select(*job_columns).where(jobs.c.key == key).order_by(jobs.c.seq.desc()).limit(1)
        with reading(self._engine) as connection:
            row = connection.execute(newest).first()
            return None if row is None else _placed(connection, [job_of(row)])[0]

    def find(
        self,
        *,
        repo: str = "",
        state: State | None = None,
        owner: str = "",
        viewer: str | None = None,
        limit: int = 50,
        before: str = "",
    ) -> list[Job]:
        """Return jobs, newest first. ``before`` is the id of the last job of the page before this one; with ``viewer``
        (an owner) the private jobs of others are left out."""
        query = select(*job_columns).order_by(jobs.c.seq.desc()).limit(limit)
        for column, wanted in ((jobs.c.repo, repo), (jobs.c.state, state), (jobs.c.owner, owner)):
            if wanted:
                query = query.where(column == wanted)
        if viewer is not None:
            query = query.where(or_(jobs.c.private.is_(False), jobs.c.owner == viewer))
        if before:
            query = query.where(jobs.c.seq < select(jobs.c.seq).where(jobs.c.id == before).scalar_subquery())
        with reading(self._engine) as connection:
            return _placed(connection, [job_of(row) for row in connection.execute(query)])

    def record(self, job_id: str) -> Mapping[str, Any] | None:
        """Return the record of the image that a job built, as JSON."""
        with reading(self._engine) as connection:
            found: Mapping[str, Any] | None = connection.execute(
                select(records.c.record).where(records.c.job == job_id)
            ).scalar()
            return found

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> list[JobEvent]:
        """Return at most ``limit`` events of a job that come after number ``after``, in order."""
        query = select(events.c.number, events.c.time, events.c.data).where(events.c.job == job_id)
        query = query.where(events.c.number > after).order_by(events.c.number).limit(limit)
        with reading(self._engine) as connection:
            return [event_of(row) for row in connection.execute(query)]

    def heads(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the number of the last event of each job; what there is no job for is left out."""
        if not job_ids:
            return {}
        query = select(jobs.c.id, jobs.c.last_event).where(jobs.c.id.in_(job_ids))
        with reading(self._engine) as connection:
            return {row.id: row.last_event for row in connection.execute(query)}

    def waiting(self) -> list[Job]:
        """Return the queued jobs in the order in which they are to be built."""
        with reading(self._engine) as connection:
            return order(_in_state(connection, "queued"), _in_state(connection, "running"))

    def running(self, runner: str = "") -> list[Job]:
        """Return the running jobs, or just those of one runner, oldest first."""
        with reading(self._engine) as connection:
            return _in_state(connection, "running", *([jobs.c.runner == runner] if runner else []))

    def abandoned(self, before: float) -> list[Job]:
        """Return the running jobs whose runner has given no sign of life since ``before``."""
        with reading(self._engine) as connection:
            return _in_state(connection, "running", jobs.c.beat < before)

    # --- running jobs --------------------------------------------------------------------------------------------

    def claim(self, job_id: str, runner: str, now: float) -> bool:
        """Make a queued job this runner's and say whether that worked; its ``state running`` event comes with it."""
        claimed = {"state": "running", "runner": runner, "started": now, "beat": now}
        return self._change(job_id, claimed, now, jobs.c.state == "queued")

    def append(self, job_id: str, runner: str, new: Sequence[tuple[float, Mapping[str, Any]]]) -> int:
        """Append events (time, data) to a running job's log; return the number of the last one.

        Raises :class:`LostClaimError` when the job is not this runner's any more.
        """
        advance = update(jobs).where(jobs.c.id == job_id, *_claimed_by(runner))
        advance = advance.values(last_event=jobs.c.last_event + len(new))
        with self._engine.begin() as connection:
            last = connection.execute(advance.returning(jobs.c.last_event)).scalar()
            if last is None:
                raise _lost(job_id)
            _write_events(connection, job_id, last - len(new) + 1, new)
            return int(last)

    def finish(self, job_id: str, runner: str, result: Result, now: float) -> Job:
        """End a running job, with its last event in the same transaction.

        Raises :class:`LostClaimError` when the job is not this runner's any more.
        """
        record = dict(result.record or {})
        values = {"state": result.state, "message": _plain(result.message), "finished": now, "cancelling": False}
        values |= {name: record[name] for name in _IMAGE if name in record}
        with self._engine.begin() as connection:
            if not _change(connection, job_id, values, now, *_claimed_by(runner)):
                raise _lost(job_id)
            if record:
                connection.execute(insert(records), {"job": job_id, "record": record})
            return _get(connection, job_id)

    def beat(self, runner: str, now: float) -> None:
        """Note that a runner lives."""
        with self._engine.begin() as connection:
            connection.execute(update(jobs).where(*_claimed_by(runner)).values(beat=now))

    def requeue(self, job: Job, why: str, now: float) -> Job:
        """Put a running job back into the queue, as its next attempt; its log goes on.

        ``job`` is the job as the caller saw it: if it is no longer running in that attempt, nothing changes, so that
        two replicas that find it abandoned do not take it from each other. A job that was to be cancelled is cancelled.
        """
        same = (jobs.c.state == "running", jobs.c.attempt == job.attempt)
        again = {"state": "queued", "runner": "", "started": None, "beat": None, "attempt": jobs.c.attempt + 1}
        ended = {"state": "cancelled", "finished": now, "cancelling": False}
        with self._engine.begin() as connection:
            _ = _change(connection, job.id, ended, now, *same, jobs.c.cancelling.is_(True)) or _change(
                connection, job.id, again, now, *same, why=why
            )
            return _placed(connection, [_get(connection, job.id)])[0]

    def cancel(self, job_id: str, now: float) -> Job:
        """Cancel a job: a queued one has ended then, a running one is ``cancelling``, one that has ended stays so.

        Raises :class:`RefusedError` (404) when there is no such job.
        """
        ended = {"state": "cancelled", "finished": now}
        asked = update(jobs).where(jobs.c.id == job_id, jobs.c.state == "running").values(cancelling=True)
        with self._engine.begin() as connection:
            if not _change(connection, job_id, ended, now, jobs.c.state == "queued"):
                connection.execute(asked)
            return _get(connection, job_id)

    def purge(self, before: float) -> int:
        """Delete the jobs that ended before a time, with their logs; return how many.

        Each is a transaction of its own: a log may have thousands of lines, and others want to write meanwhile.
        """
        old = select(jobs.c.id).where(jobs.c.state.in_(ENDED), jobs.c.finished < before)
        with reading(self._engine) as connection:
            ids = connection.execute(old).scalars().all()
        for job_id in ids:
            with self._engine.begin() as connection:
                connection.execute(delete(jobs).where(jobs.c.id == job_id))
        return len(ids)

    def _change(self, job_id: str, values: Mapping[str, Any], now: float, *conditions: Any) -> bool:
        with self._engine.begin() as connection:
            return _change(connection, job_id, values, now, *conditions)


def _claimed_by(runner: str) -> tuple[Any, ...]:
    return jobs.c.runner == runner, jobs.c.state == "running"


def _lost(job_id: str) -> LostClaimError:
    return LostClaimError(f"the build {job_id} has ended or was given to another runner")


def _plain(message: str) -> str:
    """Return a sentence as both databases store it: no NUL, no half of a surrogate pair."""
    return message.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _insert(connection: Connection, values: Mapping[str, Any]) -> str:
    job_id = secrets.token_hex(10)
    request: BuildRequest = values["request"]
    row = {**values, "id": job_id, "request": request.to_json(), "repo": request.repo, "last_event": 1}
    connection.execute(insert(jobs), row)
    return job_id


def _write_events(
    connection: Connection, job_id: str, first: int, new: Sequence[tuple[float, Mapping[str, Any]]]
) -> None:
    rows = [
        {"job": job_id, "number": number, "time": time, "data": dict(data)}
        for number, (time, data) in enumerate(new, first)
    ]
    if rows:
        connection.execute(insert(events), rows)


def _change(
    connection: Connection, job_id: str, values: Mapping[str, Any], now: float, *conditions: Any, why: str = ""
) -> bool:
    """Change a job's state where it is as ``conditions`` say, with the event that tells; say whether it was."""
    changed = update(jobs).where(jobs.c.id == job_id, *conditions)
    changed = changed.values(**values, last_event=jobs.c.last_event + 1)
    facts = ("message", "attempt", *_IMAGE)
    row = connection.execute(changed.returning(jobs.c.last_event, *(jobs.c[name] for name in facts))).first()
    if row is None:
        return False
    told = {name: row._mapping[name] for name in facts if row._mapping[name]}
    data = {"kind": "state", "state": values["state"], **told, **({"message": why} if why else {})}
    _write_events(connection, job_id, row.last_event, [(now, data)])
    return True


def _get(connection: Connection, job_id: str) -> Job:
    row = connection.execute(select(*job_columns).where(jobs.c.id == job_id)).first()
    if row is None:
        raise RefusedError("there is no such build", 404)
    return job_of(row)


def _check_room(connection: Connection, room: Room, owner: str) -> None:
    """Refuse a job that there is no room for. One process at a time counts, until its transaction is over."""
    alone(connection, "jobs")
    counted = select(func.count()).select_from(jobs)
    if room.owner:
        own = counted.where(jobs.c.state.in_(("queued", "running")), jobs.c.owner == owner)
        if connection.execute(own).scalar_one() >= room.owner:
            raise RefusedError(
                f"{room.owner} builds of yours are queued or running already; wait for one to end", 429, retry_after=30
            )
    if connection.execute(counted.where(jobs.c.state == "queued")).scalar_one() >= room.queue:
        raise RefusedError(f"{room.queue} builds are queued already; try again in a few minutes", 503, retry_after=120)


def _active(connection: Connection, key: str) -> Job | None:
    active = jobs.c.state.in_(("queued", "running"))
    row = connection.execute(select(*job_columns).where(jobs.c.key == key, active)).first()
    return None if row is None else job_of(row)


def _in_state(connection: Connection, state: State, *conditions: Any) -> list[Job]:
    query = select(*job_columns).where(jobs.c.state == state, *conditions).order_by(jobs.c.seq)
    return [job_of(row) for row in connection.execute(query)]


def _placed(connection: Connection, found: list[Job]) -> list[Job]:
    """Return the jobs, the queued ones with their positions."""
    if not any(job.state == "queued" for job in found):
        return found
    columns = (jobs.c[name] for name in ("state", *Place._fields))
    rows = connection.execute(select(*columns).where(jobs.c.state.in_(("queued", "running")))).all()
    places: dict[str, list[Place]] = {"queued": [], "running": []}
    for state, *place in rows:
        places[state].append(Place(*place))
    ordered = arrange(places["queued"], places["running"])
    positions = {place.id: position for position, place in enumerate(ordered, 1)}
    return [replace(job, position=positions.get(job.id, 0)) for job in found]
