"""The tables of jobs and their events, and how a row becomes a value.

``seq`` is the order in which jobs came, for paging. At most one job of a key is queued or running: that is the partial
unique index ``one_job_per_key``, and it holds across processes and replicas because the database keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
    text,
)

from launcher.database import Document, metadata
from launcher.jobs.model import BuildRequest, Job, JobEvent

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Row

_Serial = BigInteger().with_variant(Integer, "sqlite")
_ACTIVE = text("state IN ('queued', 'running')")

jobs = Table(
    "jobs",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("key", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("request", Document, nullable=False),
    Column("repo", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("private", Boolean, nullable=False, server_default=false()),
    Column("priority", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("message", Text, nullable=False, server_default=""),
    Column("image", Text, nullable=False, server_default=""),
    Column("digest", Text, nullable=False, server_default=""),
    Column("env_id", Text, nullable=False, server_default=""),
    Column("last_event", Integer, nullable=False),
    Column("cancelling", Boolean, nullable=False, server_default=false()),
    Column("runner", Text, nullable=False, server_default=""),
    Column("beat", Double),
    Index("one_job_per_key", "key", unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE),
    Index("jobs_by_state", "state", "seq"),
    Index("jobs_by_key", "key", "seq"),
    Index("jobs_by_repo", "repo", "seq"),
    Index("jobs_by_owner", "owner", "seq"),
    sqlite_autoincrement=True,
)
records = Table(
    "job_records",
    metadata,
    Column("job", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("record", Document, nullable=False),
)
"""The record of a built job. It is large and never changes, so it is apart from the row that every event changes."""

events = Table(
    "job_events",
    metadata,
    Column("job", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("time", Double, nullable=False),
    Column("data", Document, nullable=False),
)

_PLAIN = (
    "id",
    "key",
    "state",
    "owner",
    "created",
    "private",
    "priority",
    "started",
    "finished",
    "attempt",
    "message",
    "image",
    "digest",
    "env_id",
    "last_event",
    "cancelling",
)
job_columns = (jobs.c.request, *(jobs.c[name] for name in _PLAIN))


def job_of(row: Row[*tuple[Any, ...]]) -> Job:
    """Return the job of a row of :data:`job_columns`, without its position."""
    request, *plain = row
    return Job(request=BuildRequest.from_json(request), **dict(zip(_PLAIN, plain, strict=True)))


def event_of(row: Row[int, float, Any]) -> JobEvent:
    """Return the event of a row of number, time and data."""
    return JobEvent(*row)
