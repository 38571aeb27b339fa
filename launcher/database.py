"""The service's database: SQLite below the cache, or PostgreSQL for several replicas; the same statements for both.

Rooms declare their tables with :data:`metadata`; what is missing of them is made when the database is opened. Every
transaction is short, and one that may write says so from its start: SQLite then waits its turn instead of failing
("database is locked" is what a reader gets that wants to write after somebody else did). Readers see the last
committed state and never wait.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, MetaData, Text, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.types import TypeDecorator

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Dialect, Engine

    from launcher.site_config import Service

metadata = MetaData()
"""All tables of the service; a room that has some must be imported before the database is opened."""

_BUSY_SECONDS = 60
_CONNECTIONS = 10


class Document(TypeDecorator[Any]):
    """A JSON value as text in plain ASCII: both databases keep whatever a log holds (NUL, half a surrogate pair)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the text that is stored."""
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Return the value again."""
        return None if value is None else json.loads(value)


def open_database(service: Service, cache: Path) -> Engine:
    """Return the site's database with all tables; ``cache`` is where SQLite's file is when the site states no other.

    Raises :class:`CasabinderError` for a URL that is none, a password in it, and a database that does not answer.
    """
    url = _url(service, cache)
    try:
        if url.get_backend_name() == "sqlite":
            return _open_sqlite(url)
        engine = create_engine(url, pool_pre_ping=True, pool_size=_CONNECTIONS, max_overflow=_CONNECTIONS)
        with engine.begin() as connection:
            alone(connection, "tables")
            metadata.create_all(connection)
    except (SQLAlchemyError, OSError) as error:
        cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        shown = url.render_as_string(hide_password=True)
        raise CasabinderError(f"the database {shown} can't be opened: {cause}") from error
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that only reads. ``engine.begin()`` is for all others."""
    with engine.connect().execution_options(casabinder_reads=True) as connection:
        yield connection


def alone(connection: Connection, name: str) -> None:
    """Let one transaction at a time go on from here, of those that use the same name. In SQLite all that write do."""
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(sha256(f"casabinder {name}".encode()).digest()[:8], signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


def _url(service: Service, cache: Path) -> URL:
    if service.database is None:
        return URL.create("sqlite", database=str(cache / "service" / "casabinder.sqlite"))
    try:
        url = make_url(service.database)
    except ArgumentError as error:
        raise CasabinderError("service.database is no SQLAlchemy URL, such as postgresql://user@host/name") from error
    if url.password:
        raise CasabinderError("service.database holds a password; put it into a file and name that database_password")
    backend = url.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise CasabinderError(f"service.database is {backend}, and the service works with sqlite or postgresql")
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise CasabinderError("service.database names no file; a database in memory would be gone with the process")
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return url.set(password=_password(service.database_password)) if service.database_password else url


def _password(file: Path) -> str:
    try:
        if file.stat().st_mode & 0o007:
            raise CasabinderError(f"the database's password {file} can be read by others; run `chmod 600 {file}`")
        return file.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CasabinderError(f"the database's password {file} can't be read: {error}") from error


def _open_sqlite(url: URL) -> Engine:
    from pathlib import Path

    file = Path(str(url.database))
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Private logs are in it: the file is made before SQLite makes it for everybody's eyes.
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_engine(
        url, pool_size=_CONNECTIONS, max_overflow=_CONNECTIONS, connect_args={"timeout": _BUSY_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own
        for setting in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("casabinder_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    # The change to write-ahead logging, by the first connection ever, is the one thing that SQLite does not wait for.
    with file.with_name(file.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with engine.begin() as connection:
            metadata.create_all(connection)
    return engine
