"""Runs a real PostgreSQL server on the loopback interface, for tests: a cluster of its own, gone afterwards.

Example usage/behaviour::

    with running_postgres() as server:
        open_database(Service(database=server.create("jobs"), database_password=server.password), cache)

The programs are those of Debian's package ``postgresql``. They do not run as root, so that root runs them as the user
``postgres`` of that package, in a directory that belongs to it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.testbed.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAMS = Path("/usr/lib/postgresql")
_USER = "casabinder"
_PASSWORD = "for tests only"


@dataclass(frozen=True)
class PostgresServer:
    """A running server: its port on the loopback interface, and the file of its only user's password."""

    port: int
    password: Path

    def create(self, name: str) -> str:
        """Make a new database and return its URL, which holds no password."""
        where = f"host=127.0.0.1 port={self.port} user={_USER} dbname=postgres"
        with psycopg.connect(where, password=_PASSWORD, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Make a cluster, start it, and remove it at the end. It does not care for a power cut, so that it is fast."""
    versions = sorted(_PROGRAMS.glob("*/bin/initdb"), key=lambda program: int(program.parents[1].name))
    programs = versions[-1].parent
    user = pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else os.getuid()
    # Directories of pytest are for nobody but the user that runs it.
    place = Path(tempfile.mkdtemp(prefix="casabinder-postgres-"))
    data, password = place / "data", place / "password"
    try:
        password.write_text(_PASSWORD)
        password.chmod(0o600)
        for path in (place, password):
            os.chown(path, user, -1)

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", str(data), *arguments]
            with (place / "programs.log").open("ab") as log:
                subprocess.run(command, check=True, cwd="/", user=user, stdout=log, stderr=log)

        run("initdb", "--no-sync", f"--username={_USER}", f"--pwfile={password}", "--auth=scram-sha-256", "-E", "UTF8")
        port = free_port()
        settings = f"-p {port} -h 127.0.0.1 -k {place} -c fsync=off -c max_connections=200"
        run("pg_ctl", "start", "-w", "-l", str(place / "server.log"), "-o", settings)
        try:
            yield PostgresServer(port, password)
        finally:
            run("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(place)
