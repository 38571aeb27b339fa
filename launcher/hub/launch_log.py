"""The table of launches: which servers were started from which images for whom, and which of them run.

Every replica of the launch service writes to it, so it is what quotas are counted in. A row is one server: starting it
again changes its row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    String,
    Table,
    Text,
    delete,
    func,
    select,
    update,
)

from launcher.database import Document, alone, metadata, reading
from launcher.hub.launch import ACTIVE, ImageUse, Launch
from launcher.hub.quotas import Running, check_quotas
from launcher.hub.vouching import LaunchRequest

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, RowMapping

    from launcher import site_config

launches = Table(
    "launches",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(255), nullable=False, index=True),
    Column("user", String(255), nullable=False),
    Column("server", String(255), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("image", Text, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("env_id", String(32), nullable=False),
    Column("repo", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("commit", String(64), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("spec", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("message", Text, nullable=False, default=""),
    Column("kept", Boolean, nullable=False, default=False),
    Column("private", Boolean, nullable=False, default=False),
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("times", Integer, nullable=False, default=1),
    Column("last", Double, nullable=False),
    Column("seen", Double, nullable=False),
    Column("request", Document, nullable=False),
    Index("launches_by_server", "user", "server"),
)
_LAUNCH = [launches.c[field.name] for field in fields(Launch)]


@dataclass(frozen=True)
class Entry:
    """A launch and what nobody else needs to know: the request that it was started with, whether its repository is
    private, its image's bytes, and when its driver was last heard of (seconds since 1970)."""

    launch: Launch
    request: LaunchRequest
    private: bool
    bytes: int
    seen: float


class LaunchLog:
    """The table. Every call is one short transaction; it may be used from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(self, entry: Entry, allowed: site_config.Launches) -> tuple[Entry, bool]:
        """Make a launch a starting one; return it, and whether it is the caller who starts it.

        A server that runs or starts already is returned as it is. One that was stopped keeps its id. One claim at a
        time looks and counts, until its transaction is over. Raises :class:`RefusedError` if there would be too many
        servers.
        """
        launch = entry.launch
        c = launches.c
        with self._engine.begin() as connection:
            alone(connection, "launches")
            query = select(launches).where(c.user == launch.user, c.server == launch.server).order_by(c.last.desc())
            row = connection.execute(query.limit(1)).mappings().one_or_none()
            if row is not None and row["state"] in ACTIVE:
                again = {"times": c.times + 1, "last": entry.seen}
                connection.execute(update(launches).where(c.id == row["id"]).values(**again))
                return _entry(row), False
            check_quotas(launch.repo, _running(connection, launch.owner, launch.repo), allowed)
            values = {field.name: getattr(launch, field.name) for field in fields(Launch)}
            values |= {"state": "starting", "message": "", "private": entry.private, "bytes": entry.bytes}
            values |= {"request": asdict(entry.request), "last": entry.seen, "seen": entry.seen}
            if row is None:
                connection.execute(launches.insert().values(**values))
            else:
                values |= {name: row[name] for name in ("id", "created", "kept")} | {"times": c.times + 1}
                connection.execute(update(launches).where(c.id == row["id"]).values(**values))
            query = select(launches).where(c.id == values["id"])
            return _entry(connection.execute(query).mappings().one()), True

    def set_request(self, launch_id: str, request: LaunchRequest) -> bool:
        """Note the request that a server is started with: its token follows from it; return ``False`` if somebody has
        stopped the launch."""
        return self.change(launch_id, but=("stopped",), request=asdict(request))

    def get(self, launch_id: str) -> Entry | None:
        """Return a launch."""
        with reading(self._engine) as connection:
            row = connection.execute(select(launches).where(launches.c.id == launch_id)).mappings().one_or_none()
        return _entry(row) if row else None

    def find(self, *, owner: str = "", active: bool = False) -> list[Entry]:
        """Return launches, the newest first."""
        query = select(launches).order_by(launches.c.last.desc(), launches.c.id)
        if owner:
            query = query.where(launches.c.owner == owner)
        if active:
            query = query.where(launches.c.state.in_(ACTIVE))
        with reading(self._engine) as connection:
            return [_entry(row) for row in connection.execute(query).mappings()]

    def change(self, launch_id: str, *, but: tuple[str, ...] = (), **values: Any) -> bool:
        """Change columns of a launch unless its state is one of ``but``; return whether there was one."""
        query = update(launches).where(launches.c.id == launch_id, launches.c.state.not_in(but)).values(**values)
        with self._engine.begin() as connection:
            return connection.execute(query).rowcount > 0

    def images(self, owner: str, limit: int, *, everything: bool = False) -> list[ImageUse]:
        """Return the images that were launched, the latest first; private ones only to whom they belong."""
        c = launches.c
        key = (c.digest, c.repo, c.commit)
        counted = (func.sum(c.times), func.max(c.last), func.count(c.owner.distinct()))
        named = (func.max(c.ref), func.max(c.provider), func.max(c.spec), func.max(c.bytes))
        query = select(*key, *named, *counted).group_by(*key).order_by(func.max(c.last).desc()).limit(limit)
        if not everything:
            query = query.where((c.private.is_(False)) | (c.owner == owner))
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            ImageUse(repo, ref, commit, provider, spec, digest, size, times, last, owners)
            for digest, repo, commit, ref, provider, spec, size, times, last, owners in rows
        ]

    def purge(self, before: float) -> int:
        """Forget launches that ended before (seconds since 1970) and can't be resumed; return how many."""
        query = delete(launches).where(
            launches.c.state.not_in(ACTIVE), launches.c.kept.is_(False), launches.c.last < before
        )
        with self._engine.begin() as connection:
            return connection.execute(query).rowcount


def _running(connection: Connection, owner: str, repo: str) -> Running:
    """Count what runs."""
    query = select(func.count()).select_from(launches).where(launches.c.state.in_(ACTIVE))
    queries = (query, query.where(launches.c.owner == owner), query.where(launches.c.repo == repo))
    return Running(*(connection.execute(one).scalar_one() for one in queries))


def _entry(row: RowMapping) -> Entry:
    launch = Launch(**{column.name: row[column.name] for column in _LAUNCH})
    return Entry(launch, LaunchRequest(**row["request"]), row["private"], row["bytes"], row["seen"])
